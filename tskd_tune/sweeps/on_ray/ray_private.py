"""All private parts of Ray that this package uses; a new version of Ray may change them.

Nothing else in the package may import a private module of Ray. `NAMES` lists what is used and why;
``tests/sweeps/on_ray/test_ray_private.py`` fails with a sentence for each name that another version of Ray lacks.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import yaml

if TYPE_CHECKING:
    from subprocess import Popen

    from ray import tune
    from ray.tune.experiment import Trial

NAMES: Final[Mapping[str, str]] = {
    "ray._private.services:canonicalize_bootstrap_address": "finds the cluster on this machine for RAY_ADDRESS=auto",
    "ray._raylet:GcsClient": "tells whether a Ray cluster answers at an address",
    "ray._private.state:state.get_cluster_config": "asks an autoscaler which machines it may add",
    "ray._private.ray_constants:ENABLE_RAY_CLUSTER": "keeps the ports of a Ray of this machine on 127.0.0.1",
    "ray._private.worker:_global_node": "names Ray's own processes, which are watched while a sweep runs",
    "ray._private.node:Node.raylet_socket_name": "finds the process through which a cluster was joined",
    "ray._private.worker:print_to_stdstream": "keeps the output of dead workers off the terminal",
    "ray.autoscaler._private.util:prepare_config": "fills Ray's defaults into a cluster file",
    "ray.autoscaler._private.util:validate_config": "checks a cluster file as `ray up` does",
    "ray.train._internal.storage:StorageContext._create_validation_file": "lets a node keep Tune's files on its disk",
    "ray.tune.execution.tune_controller:TuneController._trial_task_failure": "tells why a trial fails",
    "ray.tune.execution.experiment_state:logger": "shortens Tune's message about a state that cannot be saved",
}
"""``module:attribute`` -> what it is used for."""

MAY_BE_ABSENT: Final[Mapping[str, str]] = {
    "ray._private.authentication.authentication_token_setup:maybe_enable_token_auth_if_token_available": (
        "gives the token of this user to a cluster that was found here; Ray 2.52 has no such function"
    ),
    "ray._raylet:AuthenticationTokenLoader.reset_cache": "makes Ray read another token",
    "ray._raylet:Config.initialize": "makes Ray of this process ask for a token; without it no token is asked for",
}
"""Like `NAMES`, but some versions of Ray do not have these names."""

UNBOUNDED: Final = 1_000_000
"""The number of machines of a kind whose number an autoscaler does not limit."""

AUTH_MODE: Final = "RAY_AUTH_MODE"
AUTH_TOKEN: Final = "RAY_AUTH_TOKEN"

MARK_STORAGE: Final = "_create_validation_file"
"""The method of Tune's storage that makes the file by which Tune finds out whether nodes share a folder."""

STATE_LOGGER: Final = "ray.tune.execution.experiment_state"
"""The logger of Tune that reports a state that cannot be saved."""

CONTROLLER_LOGGER: Final = "ray.tune.execution.tune_controller"
"""The logger of Tune that reports, with a traceback, an error that a callback raised when a trial ended."""


def address_found_here() -> str | None:
    """Return the address of the cluster that Ray finds on this machine; None where there is none.

    Raises:
        Exception: Ray and psutil raise several kinds.
    """
    from ray._private import services

    found: str | None = services.canonicalize_bootstrap_address("auto")
    return found


def use_token() -> None:
    """Give the token of this user to a cluster that was found here, as Ray's own commands do."""
    with suppress(ImportError, AttributeError):
        from ray._private.authentication import authentication_token_setup as tokens

        tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextmanager
def alone() -> Iterator[None]:
    """Let a Ray that is started in the block listen on 127.0.0.1 only, and ask for a token that nobody else knows.

    The token is in the environment of this process and of Ray's, which other users cannot read, and in no file. A user
    who set ``RAY_AUTH_MODE`` to another mode is obeyed.
    """
    from ray._private import ray_constants

    before, listens = {name: os.environ.get(name) for name in (AUTH_MODE, AUTH_TOKEN)}, ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        if os.environ.get(AUTH_MODE, "token").lower() == "token":
            _set_auth({AUTH_MODE: "token", AUTH_TOKEN: secrets.token_hex(32)})
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = listens
        _set_auth(before)


def _set_auth(variables: Mapping[str, str | None]) -> None:
    """Set or remove variables of the environment, and let Ray of this process read them again if it can."""
    try:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        reread = (partial(Config.initialize, ""), AuthenticationTokenLoader.instance().reset_cache)
    except (ImportError, AttributeError):
        return  # this version would start processes that ask for a token which the driver does not give
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    for read in reread:
        read()


def allow_storage_here(trainable: tune.Trainable) -> None:
    """Let Ray Tune write the files of a trial to this machine's own disk, where nobody reads them.

    Tune looks for a file that proves that all nodes share the folder; a run on an object storage needs no such folder.
    """
    storage = trainable._storage
    if storage is not None:
        getattr(storage, MARK_STORAGE)()


@contextmanager
def failures_heard(excused: Callable[[Trial, BaseException], tune.PlacementGroupFactory | None]) -> Iterator[None]:
    """Let the trials of the block fail once for each error, and not at all for an error that is excused.

    A worker that is lost while Tune resets it for its next trial fails this trial twice, with one error: Tune first
    lets the trial begin again, and then ends it for good.

    Args:
        excused: is told of each failure before Tune counts it. It returns where the trial begins again without having
            lost a try; None: Tune counts the failure.
    """
    from ray.tune.execution.tune_controller import TuneController

    before = TuneController._trial_task_failure
    heard: list[BaseException] = []

    def hear(controller: Any, trial: Trial, exception: Exception) -> None:
        controller._resetting_trials.discard(trial)  # Tune would wait for the end of the reset for ever
        if heard and heard[0] is exception:
            return
        heard[:] = [exception]
        place = excused(trial, exception)
        if place is not None and not getattr(exception, "preempted", False):  # Tune counts no preempted machine itself
            trial.run_metadata.num_failures -= 1
        before(controller, trial, exception)
        if place is not None and trial.status == trial.PENDING:
            trial.update_resources(place)

    TuneController._trial_task_failure = hear  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        TuneController._trial_task_failure = before  # type: ignore[method-assign]


def connect(address: str) -> None:
    """Connect to the control service of a cluster.

    Raises:
        Exception: several kinds, by version: no Ray answers there, or Ray asks for another token.
    """
    from ray import _raylet

    _raylet.GcsClient(address=address)  # type: ignore[attr-defined]


def machines_to_add() -> list[tuple[dict[str, float], int]]:
    """Return the resources and the largest number of each kind of machine that an autoscaler may add.

    Some autoscalers tell the cluster; the one of `ray up` has them in a file on the head alone.
    """
    from ray._private.state import state

    config = state.get_cluster_config()
    if config is not None and config.node_group_configs:
        return [(dict(kind.resources), _count(kind.max_count)) for kind in config.node_group_configs]
    import ray

    file = _autoscaler_file(ray.get_runtime_context().gcs_address)
    return [] if file is None else kinds_in(file)


def kinds_in(file: Path) -> list[tuple[dict[str, float], int]]:
    """Return the kinds of workers in a cluster file of `ray up`; none if the file cannot be read."""
    with suppress(OSError, yaml.YAMLError, AttributeError, TypeError, ValueError):
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
        limit = int(given.get("max_workers", UNBOUNDED))
        return [
            ({name: float(amount) for name, amount in kind.get("resources", {}).items()}, min(limit, most))
            for name, kind in given.get("available_node_types", {}).items()
            if name != given.get("head_node_type") and (most := int(kind.get("max_workers", limit))) > 0
        ]
    return []


def _count(most: int) -> int:
    return UNBOUNDED if most < 0 else most


@cache
def _autoscaler_file(address: str) -> Path | None:
    """Return the cluster file of the autoscaler that runs on this machine for the cluster at an address."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if any(word.endswith("monitor.py") for word in words) and f"--gcs-address={address}" in words:
                given = (word.partition("=")[2] for word in words if word.startswith("--autoscaling-config="))
                return next((Path(path).expanduser() for path in given if path), None)
    return None


def own_processes() -> dict[str, list[Popen[bytes]]]:
    """Return the processes of the Ray that this process started, by their kind; none if it started no Ray."""
    from ray._private import worker

    node: Any = worker._global_node
    started = {} if node is None else node.all_processes
    return {kind: [info.process for info in found] for kind, found in started.items()}


def validate_cluster(file: Mapping[str, object]) -> None:
    """Check the content of a cluster file as `ray up` does, without asking anyone.

    Raises:
        Exception: several kinds: the file is wrong.
        ModuleNotFoundError: a package is missing that `ray[default]` would install.
    """
    from ray.autoscaler._private import util

    # Ray would also print what it raises, and log what it fills in.
    logging.getLogger(util.__name__).setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        util.validate_config(util.prepare_config(copy.deepcopy(dict(file))))


def raylet_socket() -> str:
    """Return the name of the socket through which a cluster was joined; empty if none was joined."""
    from ray._private import worker

    node = worker._global_node
    return "" if node is None else str(node.raylet_socket_name)


def hear_worker_output(hear: Callable[..., None]) -> None:
    """Call ``hear`` with the output of workers, which Ray would otherwise print."""
    from ray._private import worker

    worker.print_to_stdstream = hear
