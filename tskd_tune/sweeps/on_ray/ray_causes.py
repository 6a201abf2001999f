"""Says why Ray did not start, and what to do."""

from __future__ import annotations

import os
import re

from tskd_tune.errors import InputError, RunError, TskdTuneError
from tskd_tune.sweeps.on_ray.ray_address import RayAddress, remedy, said, token_sentence
from tskd_tune.sweeps.on_ray.ray_settings import OURS

TOKEN = re.compile(r"token|authenticat", re.IGNORECASE)
# Pattern in Ray's message -> the cause and the remedy.
CAUSES = (
    (
        r"No space left|ENOSPC|disk quota",
        "the folder for temporary files is full; free space there or set TMPDIR to another folder",
    ),
    (
        r"Permission denied|Read-only file system|EACCES",
        "a file or folder may not be used; set TMPDIR to a folder that this user may write",
    ),
    (r"AF_UNIX|socket path|path too long|name too long", "a path is too long for its sockets; set TMPDIR=/tmp"),
    (
        r"Too many open files|EMFILE|file descriptor",
        "this user may open too few files; raise the limit, such as by `ulimit -n 8192`",
    ),
    (
        r"Resource temporarily unavailable|can't start new thread|pthread_create|Cannot allocate|BlockingIOError",
        "this user may start too few processes, or memory is short; raise the limit (`ulimit -u`) or free memory",
    ),
    (
        r"shm|shared memory|plasma|object store memory",
        "the shared memory is too small; enlarge /dev/shm (in a container: --shm-size=2g)",
    ),
    (
        r"timed? ?out|not within|took too long|within \d+|\d+ seconds|failed to start|terminated",
        "the machine was too slow or ended one of Ray's processes; free processors and memory, and run the command"
        " again",
    ),
)


def why_not_started(error: BaseException, cluster: RayAddress | None) -> TskdTuneError:
    """Return the error that says why Ray did not come up, and what to do.

    The error is an `InputError` if the cluster that the user named cannot be joined, and otherwise a `RunError`.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)[:300] or type(error).__name__
    if cluster is not None:
        return InputError(_of_cluster(text, cluster))
    kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
    found = next((todo for pattern, todo in CAUSES if re.search(pattern, text, re.IGNORECASE)), None)
    found = found or "look for what is unusual on this machine"
    return RunError(f"Ray did not start: {found}{_variables()} (Ray says: {kind}{text})")


def _of_cluster(text: str, cluster: RayAddress) -> str:
    if "ersion mismatch" in text:
        return (
            f"{said(cluster.given)}: the cluster runs other versions than this program ({text}); use the same Ray"
            " and Python on all machines"
        )
    if TOKEN.search(text):
        return token_sentence(cluster, text)
    return (
        f"{said(cluster.given)}: the cluster cannot be joined ({text}); run the command on a machine of the"
        f" cluster, {remedy()}"
    )


def _variables() -> str:
    """Name the variables that change how Ray starts, if the user has set any."""
    names = sorted(name for name in os.environ if name.startswith("RAY_") and name not in OURS)
    return f", or unset {', '.join(names)}" if names else ""
