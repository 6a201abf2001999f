"""Groups equal items. Only arms with the same task and the same student are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

MOST_NAMED = 4


def alike(items: Iterable[T], setting: Callable[[T], object]) -> list[list[T]]:
    """Group the items whose settings are equal; the groups are in the order of their first items."""
    groups: list[list[T]] = []
    for item in items:
        same = next((group for group in groups if setting(group[0]) == setting(item)), None)
        if same is None:
            groups.append([item])
        else:
            same.append(item)
    return groups


def distinct(items: Iterable[T]) -> list[T]:
    """Return the items without items that equal an earlier item."""
    return [group[0] for group in alike(items, lambda item: item)]


def few(arms: Sequence[str]) -> str:
    """Return the names of arms in words; of many, the first ones."""
    shown = list(arms[:MOST_NAMED])
    rest = len(arms) - len(shown)
    return "; ".join(shown) + (f" and {rest} more" if rest else "")
