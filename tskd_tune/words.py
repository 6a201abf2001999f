"""How sentences count."""

from __future__ import annotations


def count(number: int, one: str, many: str | None = None) -> str:
    """Return ``1 seed`` or ``3 seeds``; ``many`` is a plural that does not end in s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
