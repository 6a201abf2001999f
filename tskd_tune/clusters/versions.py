"""The versions that a cluster installs: those of the machine that wrote its file."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from tskd_tune.clusters.templates import clone
from tskd_tune.version import __version__

EXCLUDE_NEWER: Final = "2026-11-15T00:00:00Z"
"""Packages newer than this date are not installed; the same date as in ``pyproject.toml``."""


def versions() -> dict[str, str]:
    """Return placeholder -> version of this package and of Ray, and the date after which no package is taken."""
    return {"VERSION": __version__, "RAY-VERSION": version("ray"), "DATE": EXCLUDE_NEWER}


def package(home: str, *, s3: bool) -> str:
    """Return what a machine of the cluster installs: the copy of this clone, or exactly this version of the package.

    Args:
        home: the home folder of the user on the machine.
        s3: whether the machine reads and writes S3.
    """
    extras = "[s3]" if s3 else ""
    if clone() is None:
        return f"tskd-tune{extras}=={__version__}"
    return f"tskd-tune{extras} @ file://{home}/tskd-tune-source"
