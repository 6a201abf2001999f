"""Compiles the stand-in for CUDA, and runs a script on it: torch finds a GPU there whose kernels compute nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
WRITTEN_FOR = ("2.15",)
"""The versions of torch that the stand-in must carry; on another one it may lack what torch calls."""
CUDA = "13."
"""The version of CUDA that torch must be built for: the functions of other ones have other arguments."""
HEADERS = ("cuda_runtime_api.h", "cuda.h", "cublasLt.h", "crt/host_defines.h")
REPORT = "CUDA_STUB_REPORT"
"""The environment variable that names the file in which the stand-in says what it has refused and captured."""


def folders() -> list[Path]:
    """Return the folders with NVIDIA's headers: those of the wheels that torch needs."""
    packages = Path(torch.__file__).parents[1]
    found = [*sorted(packages.glob("nvidia/*/include")), packages / "triton" / "backends" / "nvidia" / "include"]
    return [folder for folder in found if any((folder / name).exists() for name in HEADERS)]


def why_not() -> str:
    """Return why the stand-in cannot be used on this machine, or an empty text."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"the stand-in for CUDA is written for Linux on x86_64, not for {sys.platform} on {platform.machine()}"
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    if not torch.version.cuda.startswith(CUDA):
        return f"the stand-in for CUDA is written for CUDA {CUDA}x, and torch is built for {torch.version.cuda}"
    if torch.cuda.is_available():
        return "a GPU is here: tests/training/test_gpu.py trains on it"
    if shutil.which("g++") is None:
        return "g++ is missing, which compiles the stand-in for CUDA"
    missing = [name for name in HEADERS if not any((folder / name).exists() for folder in folders())]
    return f"NVIDIA's headers are missing: {', '.join(missing)}" if missing else ""


def build(folder: Path) -> Path:
    """Compile the stand-in into a folder and return the library."""
    library = folder / "libcuda.so.1"
    options = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
    # The headers of NVIDIA are not ours to warn about.
    headers = [word for one in folders() for word in ("-isystem", str(one))]
    sources = [str(path) for path in sorted(HERE.glob("*.cpp"))]
    command = ["g++", *options, *headers, *sources, "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"g++ did not compile the stand-in for CUDA:\n{done.stderr[-4000:]}"
    return library


def run(library: Path, arguments: list[str], report: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments on the stand-in, which writes its report to a file; no teacher is kept yet."""
    own = {"LD_PRELOAD": str(library), REPORT: str(report), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    own["TSKD_TUNE_CACHE"] = str(report.parent / "cache")  # teachers of other tests know numbers
    command = [sys.executable, "-X", "faulthandler", *arguments]
    return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
