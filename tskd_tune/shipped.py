"""The search spaces that come with the package, by name; each asks one question."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from tskd_tune.errors import InputError, did_you_mean

HERE = Path(__file__).parent
# In a wheel they lie in the package, in a clone beside it.
SPACES = next((place for place in (HERE / "search_spaces", HERE.parent / "search_spaces") if place.is_dir()), HERE)


def spaces() -> dict[str, Path]:
    """Return name -> file of every search space that comes with the package."""
    return {path.stem: path for path in sorted(SPACES.glob("*.yaml"))}


def file_of(given: Path) -> Path:
    """Return the file that is meant: the given path, or where there is none the search space of this name.

    Raises:
        InputError: there is neither.
    """
    known, name, is_bare = spaces(), given.name.removesuffix(".yaml"), len(given.parts) == 1
    try:
        if given.is_symlink() or (given.exists() and not (is_bare and given.is_dir())):
            return given
    except (OSError, ValueError):  # a name that no file can have; who reads it says so
        return given
    if is_bare and name in known:
        return known[name]
    if name in known:
        raise InputError(f"{given}: there is no such file; `{name}` alone names the search space of the package")
    if is_bare and (not given.suffix or get_close_matches(name, known)):
        raise InputError(
            f"{given}: is neither a file in this folder nor a search space of the package{did_you_mean(name, known)}"
        )
    return given
