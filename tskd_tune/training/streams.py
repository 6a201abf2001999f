"""One named random stream per purpose: a function of the seed, the purpose and the epoch, never of what ran before.

So two arms with one seed share initialization, data order and augmentation; a resume needs no generator's
state; and a part that draws numbers (an extractor's initialization) cannot shift those of another.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

CPU = torch.device("cpu")


def stream_seed(seed: int, purpose: str, *numbers: int) -> int:
    """Return a 63-bit seed for a purpose (``"order"``), and the numbers it is drawn for (the epoch)."""
    words = "/".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """Return a fresh CPU generator of the stream."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, *numbers))


@dataclass(frozen=True)
class EpochStreams:
    """The streams of one epoch of one seed, as a feed asks for them."""

    seed: int
    epoch: int

    def generator(self, purpose: str) -> torch.Generator:
        """Return a fresh CPU generator of the epoch's stream for a purpose."""
        return generator(self.seed, purpose, self.epoch)


@contextmanager
def initialization(seed: int, purpose: str, *numbers: int) -> Iterator[None]:
    """Initialize modules from the stream, on the CPU, and leave every global generator as it was."""
    with drawing(seed, purpose, *numbers, device=CPU):
        yield


@contextmanager
def drawing(seed: int, purpose: str, *numbers: int, device: torch.device) -> Iterator[None]:
    """Let what draws from a global generator draw from the stream: torch's, of the device too, numpy's and Python's.

    Every global generator is afterwards as it was before, so trainings that take turns in a process do not disturb
    each other.
    """
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            number = stream_seed(seed, purpose, *numbers)
            random.seed(number)
            np.random.seed(number % 2**32)
            _seed_torch(number, device)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)


def draw_anew(seed: int, purpose: str, *numbers: int, device: torch.device) -> None:
    """Set torch's global generators to the stream, inside of `drawing` alone."""
    _seed_torch(stream_seed(seed, purpose, *numbers), device)


def _seed_torch(number: int, device: torch.device) -> None:
    # torch.manual_seed would also wake devices that this training does not use.
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)
