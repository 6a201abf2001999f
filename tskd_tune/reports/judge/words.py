"""Words for whole numbers, which sentences of every room are made with."""

from __future__ import annotations

from collections.abc import Sequence


def count(number: int, one: str, many: str | None = None) -> str:
    """Return ``1 seed`` or ``3 seeds``."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def runs_of(numbers: Sequence[int]) -> str:
    """Return ascending whole numbers in short: ``1 to 5, 8``."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    parts = [[f"{group[0]} to {group[-1]}"] if len(group) > 2 else list(map(str, group)) for group in groups]
    return ", ".join(part for some in parts for part in some)
