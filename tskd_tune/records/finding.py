"""Finds a run by path or name, and refuses a name that is in use."""

from __future__ import annotations

from pathlib import Path

from tskd_tune.errors import InputError


def find_run(path: Path, storage: Path) -> Path:
    """Return the folder of a run, given by its path or by its name in ``storage``.

    Raises:
        InputError: there is no such folder.
    """
    candidates = [path] if path.is_absolute() else [path, storage / path]
    found = [candidate for candidate in candidates if candidate.is_dir()]
    runs = [candidate for candidate in found if (candidate / "state.json").exists()]
    if not found:
        known = sorted(state.parent.name for state in storage.glob("*/state.json"))
        there = f"{storage} holds: {', '.join(known)}" if known else f"{storage} holds no run"
        raise InputError(f"there is no run {str(path)!r}; {there}")
    return (runs or found)[0]


def refuse_taken(path: Path) -> None:
    """Refuse a folder that exists.

    Raises:
        InputError: the folder exists.
    """
    if path.exists():
        raise InputError(f"{path} exists; resume the run with `tskd-tune resume {path}` or choose another --name")
