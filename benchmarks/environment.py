"""What a figure was measured with: versions, processors, threads, and the load of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "ray", "optuna", "wandb")
CPU_INFO = Path("/proc/cpuinfo")
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Environment:
    """The machine and the versions.

    Attributes:
        device: ``cpu`` or ``cuda``.
        cpu: the name of the processor.
        cores: the cores that this process may use.
        threads: the threads of torch.
        load: the mean number of running processes in the last minute, at the start.
        gpu: the name of the GPU; None without one.
        cuda: the version of CUDA that torch was built for; None where torch has none.
        tf32: whether convolutions of float32 may use TF32 on a GPU.
        python: the version of Python.
        versions: the versions of packages; a package that is not installed is left out.
        commit: the commit of the package, with ``-dirty`` if files were changed; None outside a repository.
    """

    device: str
    cpu: str
    cores: int
    threads: int
    load: float
    gpu: str | None
    cuda: str | None
    tf32: bool
    python: str
    versions: dict[str, str]
    commit: str | None

    @classmethod
    def of(cls, device: torch.device) -> Environment:
        """Look at this machine."""
        on_gpu = device.type == "cuda"
        return cls(
            device=device.type,
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)),
            threads=torch.get_num_threads(),
            load=round(os.getloadavg()[0], 2),
            gpu=torch.cuda.get_device_name(device) if on_gpu else None,
            cuda=torch.version.cuda,
            tf32=bool(torch.backends.cudnn.allow_tf32),
            python=platform.python_version(),
            versions=_versions(),
            commit=_commit(),
        )

    def plain(self) -> dict[str, object]:
        """Return plain data for ``--json``."""
        return asdict(self)

    def __str__(self) -> str:
        device = self.gpu or f"{self.cpu}, {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{device}; torch {self.versions.get('torch')}; load {self.load} on {self.cores} cores; {self.commit}"


def device_of(name: str) -> torch.device:
    """Return the device that was asked for.

    Raises:
        SystemExit: ``cuda`` was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device: 'cuda' was asked for, but this machine shows no GPU; use --device cpu")
    if name not in ("cpu", "cuda"):
        raise SystemExit(f"--device: must be cpu or cuda, got {name!r}")
    return torch.device(name)


def name_of(device: torch.device) -> str:
    """Return the device as rows name it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _cpu() -> str:
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None
