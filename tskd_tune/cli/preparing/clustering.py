"""The ``cluster init`` command: asks for what is missing, and writes the file of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from tskd_tune.cli.terminal import put_json, say
from tskd_tune.clusters import aws as amazon
from tskd_tune.clusters.answers import AwsAnswers, LocalAnswers, public_address
from tskd_tune.clusters.templates import AWS, LOCAL, SLURM, filled, template
from tskd_tune.clusters.token import ensure_token, token_file
from tskd_tune.errors import InputError
from tskd_tune.files import write_whole

DEFAULT_FILES = {"aws": AWS, "local": LOCAL, "slurm": SLURM}
# Option -> what is asked for.
QUESTIONS = {
    "region": "the region of AWS, such as us-west-2",
    "ssh_from": "the address that may log in by SSH (yours, as the Internet sees it), such as 203.0.113.7",
    "storage": "where runs are kept: s3://BUCKET/PATH, or a folder that all machines share",
    "export": "the NFS export that holds this folder, SERVER:/PATH (of EFS: fs-....efs.REGION.amazonaws.com:/)",
    "head": "the address of the head",
    "worker": "the addresses of the workers, separated by spaces",
    "ssh_user": "the user of SSH on these machines",
    "ssh_key": "the file with the private key of SSH",
}


@dataclass(frozen=True)
class MadeFile:
    """The text of a file, what was made besides, and the commands that come next."""

    text: str
    notes: Sequence[str]
    next_commands: Sequence[str]


def refuse_existing(file: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file, before anything is asked or made.

    Raises:
        InputError: the file exists.
    """
    if (file.exists() or file.is_symlink()) and not overwrite:
        raise InputError(f"{file} exists already; give another FILE, or --overwrite to replace it")


def aws(
    given: Mapping[str, str | None],
    *,
    workers: int,
    spot: bool,
    existing: Mapping[str, str | None],
    vpc: str | None,
) -> MadeFile:
    """Return the file of a cluster on AWS, after making what is not named as existing.

    Raises:
        InputError: answers are missing or wrong, or AWS accepts no keys.
        RunError: AWS refused something.
    """
    wanted = ["region", "ssh_from", "storage"]
    asked = _asked({key: given[key] for key in wanted}, {"ssh_from": public_address()})
    export = given["export"]
    if asked["storage"].startswith("/") and export is None:
        export = _asked({"export": None})["export"]
    answers = AwsAnswers(
        name=given["name"] or "",
        **asked,
        export=export,
        data=given["data"],
        head_type=given["head_type"] or "",
        worker_type=given["worker_type"] or "",
        workers=workers,
        spot=spot,
    )
    values, notes = _existing(existing), []
    if values is None:
        made = amazon.make(answers, vpc)
        values, notes = made.values(), list(made.notes)
    text = filled(template(AWS), {**answers.values(), **values}, answers.flags)
    return MadeFile(text, [*notes, *_token()], _next("{file}", answers.storage))


def local(
    *, name: str, head: str | None, workers: Sequence[str], user: str | None, key: Path | None, storage: str | None
) -> MadeFile:
    """Return the file of a cluster of existing machines.

    Raises:
        InputError: answers are missing or wrong.
    """
    given = {
        **{"head": head, "worker": " ".join(workers) or None, "ssh_user": user},
        **{"ssh_key": str(key) if key else None, "storage": storage},
    }
    asked = _asked(given)
    answers = LocalAnswers(
        name=name,
        head=asked["head"],
        workers=tuple(asked["worker"].replace(",", " ").split()),
        user=asked["ssh_user"],
        key=Path(asked["ssh_key"]),
        storage=asked["storage"],
    )
    return MadeFile(
        filled(template(LOCAL), answers.values(), answers.flags), _token(), _next("{file}", answers.storage)
    )


def slurm() -> MadeFile:
    """Return the job script for SLURM."""
    return MadeFile(template(SLURM), [], ["sbatch {file}"])


def write(file: Path, made: MadeFile, *, as_json: bool) -> None:
    """Write the file, and say what was made and what comes next.

    Raises:
        RunError: the file cannot be written.
    """
    write_whole(file, made.text)
    commands = [command.format(file=file) for command in made.next_commands]
    if as_json:
        put_json({"file": str(file.absolute()), "made": list(made.notes), "next": commands})
        return
    for note in made.notes:
        say(note)
    say(f"{file}: written; next:")
    for command in commands:
        say(f"  {command}")


def _asked(given: Mapping[str, str | None], offered: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return the answers, asking for each missing one; where nobody can answer, name all missing options at once."""
    missing = [key for key, value in given.items() if not value]
    if missing and not _answered():
        options = [f"--{key.replace('_', '-')} is missing; give {QUESTIONS[key]}" for key in missing]
        raise InputError("\n".join(options))
    answers = {key: value for key, value in given.items() if value}
    for key in missing:
        answers[key] = str(typer.prompt(_title(QUESTIONS[key]), default=(offered or {}).get(key))).strip()
    return answers


def _answered() -> bool:
    """Tell whether somebody can answer: the input is a terminal."""
    return sys.stdin.isatty()


def _title(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}"


def _existing(named: Mapping[str, str | None]) -> dict[str, str] | None:
    """Return the ids of what exists if all are given; None if none is given.

    Raises:
        InputError: some are given and some are missing.
    """
    options = {key: f"--{key.lower()}" for key in named}
    missing = [options[key] for key, value in named.items() if not value]
    if len(missing) == len(named):
        return None
    if missing:
        raise InputError(f"{', '.join(missing)}: give all of {', '.join(options.values())}, or none of them")
    return {key: value for key, value in named.items() if value}


def _token() -> list[str]:
    made = ensure_token()
    return [f"{token_file()}: {'made, for this user only' if made else 'is there already'}; the cluster asks for it"]


def _next(file: str, storage: str) -> list[str]:
    run = f"{storage.rstrip('/')}/first"
    job = f"ray job submit --no-wait -- tskd-tune sweep digits --storage {storage.rstrip('/')} --name first"
    return [
        f"ray up {file}",
        f"ray exec {file} '{job}'",
        f"tskd-tune report {run}",
        f"ray down {file}",
    ]
