"""Joins the cluster that ``RAY_ADDRESS`` names, or starts a Ray of its own, for the duration of a sweep.

`tskd_tune.sweeps.on_ray.ray_private` lists the private parts of Ray that are used.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil
import ray

from tskd_tune.errors import InputError
from tskd_tune.paths import StoragePlace
from tskd_tune.signals import deferred, reinstall
from tskd_tune.sweeps.on_ray import ray_private
from tskd_tune.sweeps.on_ray.leftovers import PREFIX, own
from tskd_tune.sweeps.on_ray.ray_address import RayAddress, named_cluster, remedy, said
from tskd_tune.sweeps.on_ray.ray_causes import why_not_started
from tskd_tune.sweeps.on_ray.ray_settings import for_cluster, prepare
from tskd_tune.sweeps.on_ray.ray_watch import Watch, family

QUIETLY: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False, "logging_level": logging.ERROR}
# Ray itself gives up sooner, with a reason; these limits are for a Ray that hangs.
START_SECONDS, STOP_SECONDS = 180.0, 20.0
# Ray puts sockets below its folder, and the path of a socket has at most this many bytes.
SOCKET_BYTES = 103
LONGEST_SOCKET = "/ray-abcdefgh/session_2026-12-31_23-59-59_123456_1234567/sockets/plasma_store"
PROBE_BYTES = 2**20


@contextmanager
def session(run: StoragePlace) -> Iterator[None]:
    """Join the cluster that ``RAY_ADDRESS`` names, or start a Ray on this machine; leave or end Ray after the block.

    Without ``RAY_ADDRESS``, a Ray that already runs on this machine is never joined: it belongs to another program.
    A Ray that this process itself has started or joined is used.

    Args:
        run: the run's folder or address, which the error names if Ray is lost.

    Raises:
        InputError: the environment names a cluster that cannot be joined, or another than this process has joined; or
            a folder that Ray cannot use.
        RunError: Ray did not start, or was lost.
    """
    prepare()
    cluster = named_cluster()
    if ray.is_initialized():
        _refuse_another_than(cluster)
        yield
        return
    folder = None if cluster else _folder()
    if folder is not None:
        own(folder, run)
    keeper = _Keeper(cluster, folder)
    processes: list[psutil.Process] = []
    try:
        keeper.begin()
        with Watch(cluster, run) as watch:
            processes = watch.processes
            yield
    finally:
        with deferred():
            keeper.end(processes)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _refuse_another_than(cluster: RayAddress | None) -> None:
    """Refuse a named cluster where this process has joined another: the sweep would train in the wrong place."""
    joined: str = ray.get_runtime_context().gcs_address
    # A host has several names and addresses, so the ports alone are compared.
    if cluster is not None and not joined.endswith(f":{cluster.port}"):
        raise InputError(
            f"{said(cluster.given)}: this process uses the Ray at {joined} already; call ray.shutdown() before the"
            f" sweep, {remedy()}"
        )


def _folder() -> Path:
    """Make a folder of this sweep's own for Ray's sockets, logs and objects, under a path that is short enough.

    Raises:
        InputError: no folder for temporary files is short, writable and has space.
    """
    refused = []
    for base in bases():
        if len(os.fsencode(base + LONGEST_SOCKET)) > SOCKET_BYTES:
            refused.append(f"{base} is too long a path for Ray's sockets")
            continue
        try:
            return _made(base)
        except OSError as error:
            refused.append(f"{base}: {error.strerror or error}")
    raise InputError(
        f"Ray needs a folder for temporary files: {'; '.join(refused)}; set TMPDIR to a short path that can be written"
        " and has space"
    )


def bases() -> list[str]:
    """Return the folders in which Ray's folder may be made, the preferred one first."""
    given = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR")
    return list(dict.fromkeys([given or tempfile.gettempdir(), tempfile.gettempdir(), "/tmp", "/var/tmp"]))


def _made(base: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    try:
        probe = folder / "probe"
        probe.write_bytes(bytes(PROBE_BYTES))
        probe.unlink()
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


class _Keeper:
    """Starts and ends Ray in a thread of its own.

    So Ray installs no signal handlers in the main thread, and the main thread does not wait for a Ray that hangs. The
    thread lives as long as Ray does, because Linux ends Ray's processes when the thread that started them ends.
    """

    def __init__(self, cluster: RayAddress | None, folder: Path | None) -> None:
        """Join ``cluster``, or start a new Ray whose files are in ``folder``."""
        self._cluster = cluster
        self._folder = folder
        self._failure: BaseException | None = None
        self._begun, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="ray", daemon=True)

    def begin(self) -> None:
        """Wait until Ray runs.

        Raises:
            InputError: the cluster cannot be joined.
            RunError: Ray did not come up.
        """
        before = family()
        with deferred() as signals:
            self._thread.start()
            until = time.monotonic() + START_SECONDS
            while not (self._begun.wait(0.1) or signals or time.monotonic() > until):
                pass
            reinstall()
            if self._begun.is_set() and self._failure is None:
                return
            kill([process for process in family() if process not in before])
            if signals:
                return
            failure = self._failure or TimeoutError(f"not within {START_SECONDS:g} s")
            raise why_not_started(failure, self._cluster) from failure

    def end(self, processes: list[psutil.Process]) -> None:
        """Shut Ray down, then kill those of ``processes`` that still run."""
        self._leave.set()
        if self._thread.is_alive() and self._begun.is_set():
            self._thread.join(STOP_SECONDS)
        kill(processes)

    def _keep(self) -> None:
        with nullcontext() if self._cluster else ray_private.alone():
            try:
                self._start()
            except BaseException as error:  # raised by `begin` in the main thread
                self._failure = error
                return
            finally:
                self._begun.set()
            self._leave.wait()
            ray.shutdown()

    def _start(self) -> None:
        if self._cluster is None:
            ray.init("local", _temp_dir=str(self._folder), **QUIETLY)
            return
        variables = for_cluster()
        environment = {"env_vars": variables} if variables else None
        ray.init(str(self._cluster), runtime_env=environment, **QUIETLY)


def kill(processes: list[psutil.Process]) -> None:
    """Kill processes that still run."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
