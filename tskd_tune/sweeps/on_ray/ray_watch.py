"""Watches Ray's own processes: if one ends, Ray would wait for ever, or end the sweep without a message."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from subprocess import Popen
from types import FrameType, TracebackType

import psutil
import ray

from tskd_tune.errors import RunError
from tskd_tune.paths import StoragePlace
from tskd_tune.records.runs.finding import has_run
from tskd_tune.signals import Ended, continuing, handled
from tskd_tune.sweeps.on_ray import ray_private
from tskd_tune.sweeps.on_ray.ray_address import RayAddress

POLL_SECONDS, CLUSTER_POLL_SECONDS = 1.0, 5.0
# A cluster's head may be unreachable for a short time; after 60 s Ray itself ends this process, with a line of its own.
# Up to 10 s more pass until it is noticed, and then the grace.
AWAY_SECONDS = 30.0
# The time that the main thread has to end by itself after Ray is lost.
GRACE_SECONDS = 15.0
VITAL = ("gcs_server", "raylet")
WAKE = signal.SIGUSR2


class RayLost(BaseException):
    """Raised in the main thread when a process of Ray has ended; no ``except Exception`` catches it."""


class Watch:
    """Watches Ray within a block, and ends the block with a `RunError` when Ray is lost.

    Attributes:
        processes: Ray's own processes on this machine and the processes that they started, as of the last check; empty
            in a joined cluster.
    """

    def __init__(self, cluster: RayAddress | None, run: StoragePlace) -> None:
        """Watch the Ray that was started here, or the cluster that was joined."""
        self.processes: list[psutil.Process] = []
        self._cluster = cluster
        self._run = run
        self._lost: str | None = None
        self._answered = time.monotonic()
        self._raylet = None if cluster is None else _raylet_here()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="ray.watch", daemon=True)
        self._handled = handled([WAKE], _raise_lost)
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Watch:
        """Begin to watch."""
        self._handled.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; raise a `RunError` if the block ended because Ray was lost."""
        lost = isinstance(error, RayLost)
        if isinstance(error, Exception):  # perhaps Ray was lost, which was not noticed yet
            self._lost = self._lost or self._missing()
            lost = self._lost is not None
        self._over.set()
        self._handled.__exit__(None, None, None)
        if lost and Ended.by_system():
            raise KeyboardInterrupt from None
        if lost:
            raise RunError(self._sentence()) from None

    def _look_after(self) -> None:
        while not self._over.wait(POLL_SECONDS if self._cluster is None else CLUSTER_POLL_SECONDS):
            self._remember()
            self._lost = self._missing()
            if self._lost is not None:
                self._tell()
                return

    def _remember(self) -> None:
        if self._cluster is None:
            self.processes = list({*self.processes, *_of_ray()})

    def _missing(self) -> str | None:
        """Return the name of a process of Ray that has ended; None if all are running."""
        if not ray.is_initialized():
            return None
        if self._cluster is None:
            return next((name for name, process in _vital() if process.poll() is not None), None)
        if self._raylet is not None and not self._raylet.is_running():
            return "raylet"
        if self._cluster.answers():
            self._answered = time.monotonic()
        return f"head at {self._cluster}" if time.monotonic() - self._answered > AWAY_SECONDS else None

    def _tell(self) -> None:
        """Wake the main thread; if it does not end, write the error and end the process before Ray does."""
        self._kill()  # before each reports the loss of the others
        if self._main:
            signal.pthread_kill(threading.main_thread().ident or 0, WAKE)
        if self._over.wait(GRACE_SECONDS) or not self._main:
            return
        os.write(2, f"error: {self._sentence()}\n".encode())
        self._kill()
        os._exit(Ended.code() if Ended.by_system() else 1)

    def _kill(self) -> None:
        for process in self.processes:
            with suppress(psutil.Error):
                process.kill()

    def _sentence(self) -> str:
        begun = has_run(self._run)
        kept = continuing(self._run) if begun else "nothing was started, run the command again"
        if Ended.by_system():
            return f"{self._run}: interrupted; {kept}"
        return f"{self._run}: Ray's {self._lost} is gone (killed, or out of memory), so the sweep ended; {kept}"


def family() -> list[psutil.Process]:
    """Return the processes that this process has started, and the children of these processes."""
    found: list[psutil.Process] = []
    with suppress(psutil.Error):
        found = psutil.Process().children(recursive=True)
    return found


def _vital() -> list[tuple[str, Popen[bytes]]]:
    """Return those processes of the Ray that was started here without which Ray cannot run."""
    found = ray_private.own_processes()
    return [(name, process) for name in VITAL for process in found.get(name, [])]


def _of_ray() -> list[psutil.Process]:
    """Return all processes of the Ray that was started here, including workers and their children."""
    known = {process.pid for processes in ray_private.own_processes().values() for process in processes}
    found = []
    for process in family():  # parents come before their children
        with suppress(psutil.Error):
            if process.pid in known or process.ppid() in known:
                known.add(process.pid)
                found.append(process)
    return found


def _raylet_here() -> psutil.Process | None:
    """Return the raylet of this machine through which a cluster was joined."""
    name = ray_private.raylet_socket()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if name and process.name() == "raylet" and any(name in word for word in process.cmdline()):
                return process
    return None


def _raise_lost(number: int, frame: FrameType | None) -> None:
    raise RayLost
