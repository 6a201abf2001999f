"""Work on many files at once in threads; reading a file releases Python's global lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

GROUP = 128
"""Items that a thread takes at once: one by one, handing them over would cost more than the work."""


def mapped(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield the result of a function for every item, in the order of the items."""
    groups = [items[start : start + GROUP] for start in range(0, len(items), GROUP)]
    with ThreadPoolExecutor() as pool:
        for results in pool.map(lambda group: [function(item) for item in group], groups):
            yield from results
