"""The search spaces of the package by name; each is for one question."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from tskd_tune.errors import InputError, did_you_mean

HERE = Path(__file__).parent
# In a wheel the search spaces are inside the package, in a clone beside the package.
SPACES = next((place for place in (HERE / "search_spaces", HERE.parent / "search_spaces") if place.is_dir()), HERE)


def spaces() -> dict[str, Path]:
    """Return name -> file of every search space of the package."""
    return {path.stem: path for path in sorted(SPACES.glob("*.yaml"))}


def file_of(given: Path) -> Path:
    """Return the given path, or if there is no such file, the search space of this name.

    Raises:
        InputError: the path is a folder, or there is neither a file nor a search space.
    """
    known, name, is_bare = spaces(), given.name.removesuffix(".yaml"), len(given.parts) == 1
    try:
        if given.is_symlink() or (given.exists() and not (is_bare and given.is_dir())):
            return given
    except (OSError, ValueError):  # no file can have this name; reading the file reports the error
        return given
    if is_bare and name in known:
        return known[name]
    if given.is_dir():
        raise InputError(f"{given}: is a folder; give the path of a YAML file")
    if name in known:
        raise InputError(f"{given}: there is no such file; `{name}` alone names the search space of the package")
    if is_bare and (not given.suffix or get_close_matches(name, known)):
        raise InputError(
            f"{given}: is neither a file in this folder nor a search space of the package{did_you_mean(name, known)}"
        )
    return given
