"""Finds a run by path, address or name, makes the folder of a new run, and refuses a name that is in use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from tskd_tune import documents
from tskd_tune.errors import InputError, TskdTuneError
from tskd_tune.files import write_whole
from tskd_tune.paths import Address, StoragePlace, in_shell
from tskd_tune.plain import Json
from tskd_tune.records.entries.state import State, state_of
from tskd_tune.records.runs.groups import group_sentence, replicates_of
from tskd_tune.records.runs.layout import TRIALS
from tskd_tune.records.storing.files import read_text
from tskd_tune.records.storing.lines import json_line
from tskd_tune.storage.objects import Objects


def place_of(given: str | Path | Address, storage: StoragePlace) -> StoragePlace:
    """Return the folder or the address of a run, given by its path or address, or by its name in ``storage``.

    Raises:
        InputError: there is no such folder, or no such address can be.
    """
    address = _address_of(given, storage)
    if address is not None:
        return address
    return find_run(Path(str(given)), storage if isinstance(storage, Path) else Path())


def group_at(given: str | Path | Address, storage: StoragePlace) -> list[StoragePlace]:
    """Return the places of the replicates of a search, given as a run is; empty for a run, and where there is no group.

    Raises:
        InputError: no such address can be, or a replicate is damaged.
        RunError: the storage refuses or fails.
    """
    address = _address_of(given, storage)
    if address is not None:
        return [] if Objects(address).read("state.json") is not None else replicates_of(address)
    candidates = _candidates(Path(str(given)), storage if isinstance(storage, Path) else Path())
    if any((candidate / "state.json").exists() for candidate in candidates):
        return []
    return next((found for candidate in candidates if (found := replicates_of(candidate))), [])


def _address_of(given: str | Path | Address, storage: StoragePlace) -> Address | None:
    try:
        address = given if isinstance(given, Address) else Address.read(str(given))
        if address is None and isinstance(storage, Address) and not Path(str(given)).is_absolute():
            address = Address.read(f"{storage}/{given}")
    except ValueError as error:
        raise InputError(f"RUN: {error}") from error
    return address


def _candidates(path: Path, storage: Path) -> list[Path]:
    return [path] if path.is_absolute() else [path, storage / path]


def find_run(path: Path, storage: Path) -> Path:
    """Return the folder of a run, given by its path or by its name in ``storage``.

    Raises:
        InputError: there is no such folder.
    """
    candidates = _candidates(path, storage)
    found = [candidate for candidate in candidates if candidate.is_dir()]
    runs = [candidate for candidate in found if (candidate / "state.json").exists()]
    if not found:
        for candidate in candidates:
            if members := replicates_of(candidate):
                raise InputError(group_sentence(candidate, members))
        raise InputError(f"there is no run {str(path)!r}; {_beside(path, storage)}")
    return (runs or found)[0]


def _beside(path: Path, storage: Path) -> str:
    """Say which run a path lies in, or which runs there are: beside the path, or in ``storage`` for a name."""
    around = next((one for one in path.parents if (one / "state.json").is_file()), None)
    if around is not None:
        return f"the path lies in the run {around}; give this folder"
    root = path.parent if len(path.parts) > 1 else storage
    if not root.is_dir():
        return f"there is no folder {root}"
    known = sorted(state.parent.name for state in root.glob("*/state.json"))
    return f"the folder {root} holds: {', '.join(known)}" if known else f"the folder {root} holds no run"


def has_run(place: StoragePlace) -> bool:
    """Tell whether a run was begun at a place."""
    if isinstance(place, Path):
        return (place / "state.json").exists()
    with suppress(TskdTuneError):
        return Objects(place).read("state.json") is not None
    return True  # the storage does not answer, so a resume is what finds out


def state_in(path: Path) -> State:
    """Return the state of the run in a folder.

    Raises:
        InputError: the folder is no run, or another version wrote it.
    """
    file = path / "state.json"
    if not file.exists():
        empty = not any(path.iterdir())
        what = "is empty" if empty else "is not a run's folder (it has no state.json)"
        raise InputError(f"{path} {what}; give the path or the name of a run that `tskd-tune sweep` made")
    return state_of(path, read_text(file))


def refuse_taken(path: Path) -> None:
    """Refuse a folder that exists.

    Raises:
        InputError: the folder exists.
    """
    if path.exists() and not (path / "state.json").exists():
        raise InputError(f"{path} exists and is no run; remove it, or choose another --name")
    if path.exists():
        raise InputError(
            f"{path} exists; resume the run with `tskd-tune resume {in_shell(path)}` or choose another --name"
        )


def refuse_place(path: Path) -> None:
    """Refuse the place of a new run where a folder exists or none can be made; nothing is made.

    Raises:
        InputError: the folder exists; or what is above it is no folder, or this user may not write there.
    """
    try:
        refuse_taken(path)
        nearest = next(folder for folder in path.parents if folder.exists())
        is_folder = nearest.is_dir()
    except OSError as error:
        raise _unmade(path, error.strerror or str(error)) from error
    if not is_folder:
        raise _unmade(path, f"{nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unmade(path, f"this user may not write in {nearest}")


def _unmade(path: Path, why: str) -> InputError:
    return InputError(f"{path}: the run's folder cannot be made ({why}); give another --storage")


def make_folder(root: Path, name: str, state: State, document: Mapping[str, Json]) -> Path:
    """Make the folder of a new run, completely or not at all.

    Raises:
        InputError: the name is in use, or ``root`` cannot be written.
    """
    path, part = root / name, root / f".{name}.{uuid4().hex}.part"
    try:
        (part / TRIALS).mkdir(parents=True)
        refuse_taken(path)
        write_whole(part / "sweep.yaml", documents.dump(dict(document)))
        write_whole(part / "state.json", json_line(state.plain()))
        part.rename(path)
    except OSError as error:
        refuse_taken(path)
        raise _unmade(path, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path
