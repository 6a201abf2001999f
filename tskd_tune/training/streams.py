"""One named random stream per purpose: a function of the seed, the purpose and the epoch, never of what ran before.

So two arms with one seed share initialization, data order and augmentation; a resume needs no generator's
state; and a part that draws numbers (an extractor's initialization) cannot shift those of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def stream_seed(seed: int, purpose: str, *numbers: int) -> int:
    """Return a 63-bit seed for a purpose (``"order"``), and the numbers it is drawn for (the epoch)."""
    words = "/".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """Return a fresh CPU generator of the stream."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, *numbers))


@contextmanager
def initialization(seed: int, purpose: str, *numbers: int) -> Iterator[None]:
    """Initialize modules from the stream, on the CPU, and leave torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, purpose, *numbers))
        yield
