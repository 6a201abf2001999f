"""Reading what torch.save wrote: without running code from it, and with its checksums looked at.

torch itself does not compare the checksums of its archives, so a flipped byte would become a weight.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import pickle
import re
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tskd_tune.first_bytes import ZIP, kind_of

COPY = "copy it again from where it came from"


def _plain_dict(*factory: Any) -> dict[Any, Any]:
    """Stand in for a defaultdict, which torch's reader does not fill."""
    return {}


_scalar = np.float64(0).__reduce__()[0]
_array = np.zeros(1).__reduce__()[0]
# numpy's types whose values may be Python objects or structures of them.
HOLDERS = ("ObjectDType", "VoidDType", "StringDType")
# Harmless things that checkpoints carry beside their tensors. None of them does anything when it is made.
HARMLESS: list[Any] = [
    *(argparse.Namespace, types.SimpleNamespace, (_plain_dict, "collections.defaultdict")),
    *(frozenset, int, float, list, dict),  # the last four as what a defaultdict makes
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
    *((pathlib.PurePath, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in (
        *("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "PurePath", "Path"),
    )),
    *(np.ndarray, np.dtype, *(getattr(np.dtypes, name) for name in np.dtypes.__all__ if name not in HOLDERS)),
    # numpy 1 and 2 name the same things in other modules.
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]  # fmt: skip


class UnreadableError(Exception):
    """A file that holds no state: ``problem`` is what is said of it, and ``remedy`` what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


def read(path: Path) -> Any:
    """Return what a file of torch.save holds, its tensors on the CPU.

    Raises:
        OSError: the file is missing or cannot be read.
        UnreadableError: it is another kind of file, it is damaged, or it holds objects that could run code.
    """
    kind = kind_of(path)
    if kind is not None:
        raise UnreadableError(f"is {kind.title}", kind.remedy)
    _compare_checksums(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")  # torch's own words are about its reader, and advise what runs code
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(error) from error
    except Exception as error:  # A damaged file fails anywhere in torch's reader, with any class of error.
        raise _damage(type(error).__name__) from error


def _compare_checksums(path: Path) -> None:
    """Compare those of an archive; torch's older format has none."""
    with path.open("rb") as file:
        if not file.read(len(ZIP)).startswith(ZIP):
            return
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            # torch can be told to write no checksums; then they are all zero.
            broken = archive.testzip() if any(record.CRC for record in records) else None
    except Exception as error:  # A damaged archive fails anywhere in its reader, with any class of error.
        raise UnreadableError("is damaged: it ends too early, or its table of contents is broken", COPY) from error
    if broken is not None:
        raise UnreadableError(f"is damaged: the checksum of its part {broken} does not match", COPY)


def _refusal(error: pickle.UnpicklingError) -> UnreadableError:
    """Say which object was refused; torch's own words advise to load it all the same, so they are not repeated."""
    found = re.search(r"GLOBAL (\S+)|<(?:class|function|built-in function) '?([\w.]+)", str(error))
    name = next((group for group in found.groups() if group), None) if found else None
    if name is None:
        return _damage("its pickle is not one that torch.save writes")
    return UnreadableError(
        f"holds a Python object ({name}) that could run code, so it was not loaded",
        "save the network again as torch.save(network.state_dict(), path)",
    )


def _damage(reason: str) -> UnreadableError:
    return UnreadableError(
        f"is damaged or not a checkpoint ({reason})", "give a file that torch.save wrote, or copy it again"
    )
