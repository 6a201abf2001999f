"""How sentences about data count and name."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.errors import printable


def shown(name: str) -> str:
    """Return a name as a terminal can show it."""
    return printable(name)


def counted(number: int, what: str) -> str:
    """Return ``1 image`` or ``2 images``."""
    ending = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{ending}" if number >= 10_000 else f"{number} {what}{ending}"


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names with commas between them, and how many more there are."""
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*map(shown, names[:most]), *more])
