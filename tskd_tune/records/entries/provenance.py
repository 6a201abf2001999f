"""The provenance of a result: the versions of the software, and the commit of the code."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tskd_tune.version import __version__

PACKAGES = ("torch", "torchvision", "numpy", "pydantic", "ray", "optuna", "wandb")


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of the installed libraries that can affect a result."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"tskd-tune": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str | None:
    """Return the commit of a checkout of this package, with ``-dirty`` if files differ; None if installed."""
    folder = Path(__file__).resolve().parent
    head = _git(folder, "rev-parse", "HEAD")
    if head is None or _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return head + ("-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
