"""The command ``submit``: sends a sweep to a cluster as a Ray job, so that the machine that sends it may sleep."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tskd_tune import documents
from tskd_tune.cli.terminal import say
from tskd_tune.errors import InputError, RunError, shown
from tskd_tune.outside import JOB_VARIABLE, whole_name
from tskd_tune.paths import in_shell
from tskd_tune.shipped import SPACES, file_of

COMMANDS: Final = ("sweep", "resume", "extend", "confirm")
# Files that name each other lie in this folder of the job; modules lie beside it, where Python finds them.
FILES: Final = "files"
# The seconds that Ray gives a stopped job before it kills the job: enough to write the report.
STOP_SECONDS: Final = 60
# A cluster that has just started cannot accept jobs for some seconds.
START_SECONDS: Final = 60.0
_COMPONENT = re.compile(r"^[\w./~-]+:[A-Za-z_]\w*$")


@dataclass(frozen=True)
class Job:
    """What is sent to a cluster.

    Attributes:
        words: the command, with paths as they are in the folder `FILES` of the job, where it runs.
        files: path in the job's folder -> the file or the folder of a package on this machine.
    """

    words: Sequence[str]
    files: Mapping[str, Path]


def submit(address: str, words: Sequence[str], more: Sequence[Path]) -> None:
    """Send a command to the cluster whose dashboard listens at an address, and say how to watch and stop the job.

    Args:
        address: the dashboard, such as ``http://127.0.0.1:8265``.
        words: the command, such as ``["sweep", "digits", "--storage", "s3://bucket/runs"]``.
        more: more files to send, such as the module of a component of a run that is resumed.

    Raises:
        InputError: the command cannot run there, or a file is missing; nothing was sent.
        RunError: no cluster accepts jobs at the address.
    """
    if not re.match(r"^https?://", address):
        raise InputError(
            "ADDRESS: must be the address of a cluster's dashboard, such as http://127.0.0.1:8265, got"
            f" {shown(address)}"
        )
    job = job_of(words, more)
    folder = Path(tempfile.mkdtemp(prefix="tskd-tune-job-"))
    try:
        for name, source in job.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        (folder / FILES).mkdir(exist_ok=True)
        number = _send(address, f"cd {FILES} && exec {shlex.join(['tskd-tune', *job.words])}", folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    at = f"--address {address}"
    say(f"{number}: sent to {address}; this machine may sleep or leave")
    say(f"watch: ray job logs --follow {at} {number}")
    say(f"stop, and resume later: ray job stop {at} {number}")
    if modules := [name for name in job.files if not name.startswith(f"{FILES}{os.sep}")]:
        again = " ".join(f"--with {in_shell(job.files[name])}" for name in modules)
        say(f"own modules were sent with this job alone; to resume: tskd-tune submit {again} {address} resume RUN")


def job_of(words: Sequence[str], more: Sequence[Path] = ()) -> Job:
    """Return what is sent for a command.

    Raises:
        InputError: the command cannot run there, or a file is missing.
    """
    words = list(words)
    if not words or words[0] not in COMMANDS or len(words) < 2 or words[1].startswith("-"):
        raise InputError(
            f"COMMAND: must be one of {', '.join(COMMANDS)}, then its FILE or RUN, then its options, got"
            f" {shown(' '.join(words))}"
        )
    _refuse_storage_of_the_job(words)
    files: dict[str, Path] = {}
    places = [1] if words[0] == "sweep" else []
    places += [place + 1 for place, word in enumerate(words[:-1]) if word == "--points"]
    for place in places:
        file = file_of(Path(words[place])).absolute()
        if not file.is_relative_to(SPACES):
            words[place] = _with_all_it_names(file, files)
    for path in more:
        if not path.exists():
            raise InputError(f"--with {path}: there is no such file or folder; give the module's file")
        files[path.name] = path.absolute()
    return Job(words, files)


def _refuse_storage_of_the_job(words: Sequence[str]) -> None:
    """Refuse a run in the folder of the job, which Ray removes."""
    given = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "--storage"]
    given += [word.partition("=")[2] for word in words if word.startswith("--storage=")]
    given += [] if words[0] == "sweep" else [words[1]]
    if not any("://" in one or Path(one).is_absolute() for one in given):
        raise InputError(
            "--storage: give the storage of the run, as a URL (s3://bucket/runs) or as a whole path of a folder that"
            f" all nodes share; got {', '.join(map(shown, given)) or 'none'}"
        )


def _with_all_it_names(file: Path, files: dict[str, Path]) -> str:
    """Add a YAML file, the files that it extends and the modules that it names; return its path in the job."""
    read = documents.load(file)
    yamls = {Path(place.source).absolute() for place in read.of.values() if Path(place.source).is_file()} | {file}
    own = [one for one in yamls if not one.is_relative_to(SPACES) and not one.is_relative_to(documents.PACKAGED)]
    top = Path(os.path.commonpath([one.parent for one in own]))
    for one in own:
        files[f"{FILES}/{one.relative_to(top)}"] = one
    for name in _components(read.data):
        module = Path(name.rpartition(":")[0])
        source = next((one for one in (module.with_suffix(".py"), _package(module)) if one.exists()), None)
        if source is None:
            raise InputError(f"{file}: there is no module {module}.py for the component '{name}'; put the file there")
        beside = any(source.parent == one.parent for one in own)
        files[source.name if beside else f"{FILES}/{source.relative_to(top)}"] = source
    return str(file.relative_to(top))


def _package(module: Path) -> Path:
    """Return the folder of a module that belongs to a package beside a YAML: ``pack.module`` -> ``pack``."""
    return module.with_name(module.name.partition(".")[0])


def _components(value: object) -> Iterator[str]:
    """Yield the whole names of the components in files of the user that a document names."""
    if isinstance(value, str) and _COMPONENT.match(value) and os.sep in (name := whole_name(value)):
        yield name
    inner: Iterable[object] = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _components(one)


def _send(address: str, command: str, folder: Path) -> str:
    from ray.job_submission import JobSubmissionClient

    from tskd_tune.sweeps.on_ray import ray_private

    logging.getLogger("ray").setLevel(logging.ERROR)
    ray_private.use_token()  # the one that `cluster init` made, also where RAY_AUTH_MODE is not set
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), JOB_VARIABLE: "1"}
    environment = {"working_dir": str(folder), "env_vars": variables}
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            number: str = JobSubmissionClient(address).submit_job(entrypoint=command, runtime_env=environment)
        except Exception as error:  # of the network, of the token, of Ray: several kinds, by version
            if "try again later" in str(error) and time.monotonic() < until:
                time.sleep(1.0)
                continue
            raise _not_accepted(address, error) from error
        return number


def _not_accepted(address: str, error: Exception) -> RunError:
    text = " ".join(str(error).split())[:300]
    token = re.search(r"token|401|unauthorized|authenticat", text, re.IGNORECASE)
    remedy = (
        "set RAY_AUTH_MODE=token, and copy the cluster's token to ~/.ray/auth_token"
        if token
        else "start the cluster, and open a tunnel to its dashboard with `ray dashboard cluster.yaml`"
    )
    return RunError(f"{address}: no cluster accepted the job ({text}); {remedy}")
