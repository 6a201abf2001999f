"""A small Ray cluster of this process: a head without GPUs, and two nodes with a simulated GPU each."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import psutil

# Ray declares a silent node dead after about 10 s in place of 30. Less, and a busy machine would look dead.
SILENT_SECONDS = 12.0
FAST = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "2",
}
MEMORY = 80 * 2**20


class Machines:
    """The cluster; whatever is killed is started anew by `mend`."""

    def __init__(self) -> None:
        """Start head and nodes."""
        os.environ.update(FAST)
        self._folder = ""
        self._start()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def nodes(self) -> list[Any]:
        return sorted(self._cluster.worker_nodes, key=lambda node: str(node.plasma_store_socket_name))

    def workers(self) -> list[psutil.Process]:
        """Return the processes that train a trial or a teacher."""
        return sorted(
            (process for node in self.nodes for process in self.trains_on(node)), key=lambda process: process.pid
        )

    def trains_on(self, node: Any) -> list[psutil.Process]:
        found = []
        for info in node.all_processes.get("raylet", []):
            with suppress(psutil.Error):
                for process in psutil.Process(info.process.pid).children(recursive=True):
                    title = " ".join(process.cmdline())
                    if title.startswith("ray::") and "IDLE" not in title:
                        found.append(process)
        return found

    def raylet(self, node: Any) -> int:
        return int(node.all_processes["raylet"][0].process.pid)

    def kill_head(self) -> None:
        os.kill(self._cluster.head_node.all_processes["gcs_server"][0].process.pid, signal.SIGKILL)

    def has_head(self) -> bool:
        """Tell whether every process of the head runs."""
        kinds = self._cluster.head_node.all_processes.values()
        return all(info.process.poll() is None for kind in kinds for info in kind)

    def mend(self) -> None:
        """Replace dead nodes; if the head is dead, the whole cluster."""
        if not self.has_head():
            self.close()
            self._start()
        self.replace_nodes()

    def replace_nodes(self) -> None:
        """Start a node for each that is dead; one that was cut off ends itself some time after it comes back."""
        for node in self.nodes:
            if any(info.process.poll() is not None for info in node.all_processes.get("raylet", [])):
                node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
                self._cluster.worker_nodes.discard(node)
        while len(self._cluster.worker_nodes) < 2:
            self._add()

    def close(self) -> None:
        """End the cluster's own processes, and no others."""
        began = [process for process in psutil.Process().children(recursive=True) if _is_ray(process)]
        for node in [*self._cluster.worker_nodes, self._cluster.head_node]:
            with suppress(Exception):
                node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        for process in began:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(began, timeout=10)
        rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        from ray.cluster_utils import Cluster

        self._folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        os.environ["RAY_TMPDIR"] = self._folder  # where Ray notes the cluster that it started last
        Path(self._folder, "ray").mkdir()
        self._cluster = Cluster()
        self._add(num_cpus=0, num_gpus=0, include_dashboard=False, object_store_memory=MEMORY)
        for _ in range(2):
            self._add()

    def _add(self, **asked: Any) -> None:
        """Start the head, or a node; a busy machine may be too slow for Ray, which then gives up."""
        for chance in range(4):
            try:
                self._cluster.add_node(**(asked or {"num_cpus": 1, "num_gpus": 1, "object_store_memory": MEMORY}))
                return
            except Exception:
                if chance == 3:
                    raise
                time.sleep(5)


def _is_ray(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        text = " ".join(process.cmdline())
        return "/ray/" in text or text.startswith("ray::")
    return False
