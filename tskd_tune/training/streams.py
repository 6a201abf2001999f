"""One named random stream per purpose: a function of the seed, the purpose and the epoch, never of what ran before.

Therefore two arms with one seed share initialization, data order and augmentation. A resume at the end of an epoch
needs no state of a generator. A component that draws numbers cannot change the numbers of another component.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from tskd_tune.contracts import Saved


def stream_seed(seed: int, purpose: str, *numbers: int) -> int:
    """Return a 63-bit seed for a purpose (``"order"``), and the numbers it is drawn for (the epoch)."""
    words = "/".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """Return a fresh CPU generator of the stream."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, *numbers))


class Streams:
    """The streams of one seed, epoch by epoch; what a feed draws from."""

    def __init__(self, seed: int, epoch: int = 0) -> None:
        """Begin with an epoch."""
        self._seed = seed
        self._epoch = epoch
        self._kept: dict[str, torch.Generator] = {}

    def begin(self, epoch: int) -> None:
        """Go to an epoch; what `kept` returned is seeded anew, in place."""
        self._epoch = epoch
        for purpose, kept in self._kept.items():
            kept.manual_seed(stream_seed(self._seed, purpose, epoch))

    def generator(self, purpose: str) -> torch.Generator:
        """Return a fresh CPU generator at the beginning of the epoch's stream for a purpose."""
        return generator(self._seed, purpose, self._epoch)

    def kept(self, purpose: str) -> torch.Generator:
        """Return the CPU generator that the training keeps for a purpose, the same object in every epoch."""
        if purpose not in self._kept:
            self._kept[purpose] = self.generator(purpose)
        return self._kept[purpose]

    def state_dict(self) -> Saved:
        """Return the states of the kept generators, by purpose; only a resume within an epoch needs them."""
        return {purpose: kept.get_state() for purpose, kept in self._kept.items()}

    def load_state_dict(self, state: Saved) -> None:
        """Set the kept generators to saved states."""
        for purpose, saved in state.items():
            self.kept(purpose).set_state(saved)


@contextmanager
def initialization(seed: int, purpose: str, *numbers: int) -> Iterator[None]:
    """Initialize modules from the stream, on the CPU, and leave every global generator unchanged."""
    with drawing(seed, purpose, *numbers):
        yield


@contextmanager
def drawing(seed: int, purpose: str, *numbers: int) -> Iterator[None]:
    """Seed the global generators of the CPU from the stream: those of torch, of numpy and of Python.

    Afterwards the function restores the state of every global generator, so trainings that take turns in a process do
    not disturb each other.
    """
    with undisturbed():
        _seed_all(stream_seed(seed, purpose, *numbers))
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore the global generators of the CPU at the end of the block: those of torch, of numpy and of Python.

    Trainings leave the generators of GPUs alone; see `NetworkStream`.
    """
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)


class NetworkStream:
    """What the components of a training draw from global generators, such as dropout and dropped paths.

    On a GPU each training has a state of its own, which takes the place of the default generator's state while a block
    lasts. A captured graph reads its seed and its place in the stream from that state, so the graphs of two trainings
    can run at the same time.
    """

    def __init__(self, seed: int, device: torch.device, rank: int = 0) -> None:
        """Belong to a training with this seed on this device; workers that share its steps draw different numbers."""
        self._seed = seed
        self._of_rank = (rank,) if rank else ()
        self._own = torch.Generator(device) if device.type == "cuda" else None

    @contextmanager
    def drawing(self, *numbers: int) -> Iterator[None]:
        """Seed all global generators for the numbers (epoch and step), and restore them after the block."""
        with undisturbed(), self.anew(*numbers):
            yield

    @contextmanager
    def anew(self, *numbers: int) -> Iterator[None]:
        """Seed all global generators for the numbers (epoch and step); call it within `undisturbed`.

        This takes some 10 us on a CPU; to restore the generators takes more than ten times as long.
        """
        number = stream_seed(self._seed, "network", *numbers, *self._of_rank)
        _seed_all(number)
        with self._in_place_of_the_default():
            if self._own is not None:
                self._own.manual_seed(number)
            yield

    @contextmanager
    def _in_place_of_the_default(self) -> Iterator[None]:
        if self._own is None:
            yield
            return
        # A device "cuda" without a number is the current GPU, and a generator that is made for it has no number either.
        number = self._own.device.index
        default = torch.cuda.default_generators[torch.cuda.current_device() if number is None else number]
        before = default.graphsafe_get_state()
        default.graphsafe_set_state(self._own)
        try:
            yield
        finally:
            default.graphsafe_set_state(before)


def _seed_all(number: int) -> None:
    """Seed the global generators of Python, of numpy and of torch on the CPU."""
    random.seed(number)
    np.random.seed(number % 2**32)
    # torch.manual_seed would also wake devices that this training does not use.
    torch.default_generator.manual_seed(number)
