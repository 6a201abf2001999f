"""Reads files of torch.save without running code from the file, and verifies checksums.

torch does not verify the checksums of its archives, so a damaged byte would change a network's parameters.
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
    """Replace a defaultdict, which torch's reader does not fill."""
    return {}


_scalar = np.float64(0).__reduce__()[0]
_array = np.zeros(1).__reduce__()[0]
# numpy's types whose values may be Python objects or structures of them.
HOLDERS = ("ObjectDType", "VoidDType", "StringDType")
# Harmless objects in checkpoints besides tensors. Creating them runs no other code.
HARMLESS: list[Any] = [
    *(argparse.Namespace, types.SimpleNamespace, (_plain_dict, "collections.defaultdict")),
    *(frozenset, int, float, list, dict),  # the last four as values of a defaultdict
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
    *((pathlib.PurePath, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in (
        *("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "PurePath", "Path"),
    )),
    *(np.ndarray, np.dtype, *(getattr(np.dtypes, name) for name in np.dtypes.__all__ if name not in HOLDERS)),
    # numpy 1 and numpy 2 have the same objects in different modules.
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]  # fmt: skip


class UnreadableError(Exception):
    """A file without a state: ``problem`` says what is wrong with the file, and ``remedy`` what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


def read(path: Path) -> Any:
    """Return the content of a file of torch.save, with tensors on the CPU.

    Raises:
        OSError: the file is missing or cannot be read.
        UnreadableError: the file is of another kind, is damaged, or contains objects that could run code.
    """
    kind = kind_of(path)
    if kind is not None:
        raise UnreadableError(f"is {kind.title}", kind.remedy)
    _compare_checksums(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")  # torch's warnings are about its reader, and advise a way that runs code
            with path.open("rb") as file:  # of a path, torch's reader believes the ending of the name
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(error) from error
    except Exception as error:  # A damaged file fails anywhere in torch's reader, with any class of error.
        raise _damage(type(error).__name__) from error


def _compare_checksums(path: Path) -> None:
    """Verify the checksums of an archive; torch's older format has no checksums."""
    with path.open("rb") as file:
        if not file.read(len(ZIP)).startswith(ZIP):
            return
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            # torch has an option to write no checksums; then all checksums are zero.
            broken = archive.testzip() if any(record.CRC for record in records) else None
    except Exception as error:  # A damaged archive fails anywhere in its reader, with any class of error.
        raise UnreadableError("is damaged: it ends too early, or its table of contents is broken", COPY) from error
    if broken is not None:
        raise UnreadableError(f"is damaged: the checksum of its part {broken} does not match", COPY)


def _is_of_later_protocol(message: str) -> bool:
    """Tell whether torch's reader met an operation that pickle has since protocol 3."""
    found = re.search(r"Unsupported operand (\d+)", message)
    return found is not None and (int(found[1]) >= 0x80 or chr(int(found[1])) in "BC")


def _refusal(error: pickle.UnpicklingError) -> UnreadableError:
    """Return an error that names the refused object; torch's own message advises unsafe loading and is not shown."""
    found = re.search(r"GLOBAL (\S+)|<(?:class|function|built-in function) '?([\w.]+)", str(error))
    name = next((group for group in found.groups() if group), None) if found else None
    if name is None and _is_of_later_protocol(str(error)):
        return UnreadableError(
            "is damaged or not a checkpoint (its pickle is not one that torch.save writes by default)",
            "save the network again as torch.save(network.state_dict(), path), without pickle_protocol",
        )
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
