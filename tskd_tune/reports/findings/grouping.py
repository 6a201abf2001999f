"""Gathers what is alike: nothing is compared but what shares a task and a student."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def alike(items: Iterable[T], setting: Callable[[T], object]) -> list[list[T]]:
    """Gather the items whose settings are equal, in the order of their first."""
    groups: list[list[T]] = []
    for item in items:
        same = next((group for group in groups if setting(group[0]) == setting(item)), None)
        if same is None:
            groups.append([item])
        else:
            same.append(item)
    return groups


def distinct(items: Iterable[T]) -> list[T]:
    """Return the items without those that equal an earlier one."""
    return [group[0] for group in alike(items, lambda item: item)]
