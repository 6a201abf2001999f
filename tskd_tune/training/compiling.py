"""Says whether ``torch.compile`` can compile a student for a GPU on this machine.

Torch writes the kernels in Triton's language. Triton compiles a small part of each in C, against the headers of Python,
when it first starts on a machine. A machine that only runs programs may lack them.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch

from tskd_tune.contracts import Out
from tskd_tune.training.parts import Parts

COMPILERS: Final = ("clang", "gcc")
"""Those that Triton looks for."""
LEAST_CAPABILITY: Final = (7, 0)
"""The oldest GPUs for which Triton compiles: Volta's."""


def why_not_compiled(device: torch.device) -> str | None:
    """Say in a sentence why no student can be compiled for a GPU on this machine, and what to do; None if one can."""
    if find_spec("triton") is None:
        return "torch.compile needs Triton, which is not installed (pip install triton)"
    if "CC" not in os.environ and not any(map(shutil.which, COMPILERS)):
        return "Triton needs a C compiler, and there is no gcc or clang on the PATH; install one, or name it in CC"
    headers = Path(sysconfig.get_paths()["include"])
    if not (headers / "Python.h").exists():
        return f"Triton needs the headers of Python, and {headers} has no Python.h; install them (python3-dev)"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return f"Triton needs a GPU with compute capability 7.0, and this one has {capability[0]}.{capability[1]}"
    return None


def compiling(parts: Parts[Out]) -> tuple[Parts[Out], str]:
    """Return the parts of a training as they can be computed here, and what is said of compilation, or nothing."""
    if not parts.compute.compiles or parts.student.takes_batch:
        return parts, ""
    obstacle = why_not_compiled(parts.compute.device)
    if obstacle is None:
        return parts, "; the student is compiled"
    return replace(parts, compute=replace(parts.compute, compiles=False)), f"; the student is not compiled: {obstacle}"
