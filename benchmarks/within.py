"""Runs a command for so many seconds at most, and ends all that it started: ``python -m benchmarks.within 60 COMMAND``.

The processes of Ray have process groups of their own, so they outlive a command that is cut off, and keep memory of the
GPU. Linux gives orphans to this process (``PR_SET_CHILD_SUBREAPER``), so all that a command started are its children.
"""

from __future__ import annotations

import ctypes
import math
import signal
import subprocess
import sys
from collections.abc import Sequence

import psutil

CUT_OFF = 124
"""The exit code of a command that took too long, as that of ``timeout``."""
GRACE = 15.0
"""Seconds in which a command that is asked to end may write down what it has."""
ENDING = 10.0
"""Seconds in which processes that are killed are gone."""
CHILD_SUBREAPER = 36


def run(seconds: float, command: Sequence[str], grace: float = GRACE) -> int:
    """Run a command to its end, then end what it left behind; return its exit code, or `CUT_OFF`.

    Args:
        seconds: after these the command is asked to end (SIGTERM); infinity: it is not.
        command: the command and its arguments.
        grace: seconds after which a command that was asked to end is killed.
    """
    ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        started = subprocess.Popen(command)
        try:
            return started.wait(None if math.isinf(seconds) else seconds)
        except subprocess.TimeoutExpired:
            return _cut_off(started, grace)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        if left := _end_all():
            sys.stderr.write(f"benchmarks.within: {left} processes were still running, and were killed\n")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _cut_off(started: subprocess.Popen[bytes], grace: float) -> int:
    started.terminate()
    try:
        started.wait(grace)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"benchmarks.within: the command did not end within {grace:g} s, and was killed\n")
    return CUT_OFF


def _end_all() -> int:
    """Kill all children and theirs, until there are none; return how many there were."""
    found: set[int] = set()
    while children := [one for one in psutil.Process().children(recursive=True) if one.pid not in found]:
        for child in children:
            found.add(child.pid)
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(children, timeout=ENDING)
    return len(found)


if __name__ == "__main__":
    sys.exit(run(float(sys.argv[1]), sys.argv[2:]))
