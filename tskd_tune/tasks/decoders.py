"""The worker processes that decode the images of a streamed feed: how many, how they start, and what they send back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tskd_tune.errors import InputError, RunError
from tskd_tune.tasks.base import Draw

View = TypeVar("View")
MOST_WORKERS, PREFETCH = 4, 2
"""Processes that decode images for a training, and the batches that each prepares in advance, unless told otherwise."""


def default_workers() -> int:
    """Return how many processes decode images unless told otherwise: at most one for each CPU of this machine."""
    return min(MOST_WORKERS, os.cpu_count() or 1)


def refuse_prefetch(workers: int | None, prefetch: int | None) -> None:
    """Refuse batches that are prepared in advance where no process prepares them.

    Raises:
        InputError: ``prefetch`` is given, and ``workers`` is 0.
    """
    if workers == 0 and prefetch is not None:
        raise InputError(
            f"task.prefetch: {prefetch} does not apply where task.workers is 0; remove task.prefetch, or raise"
            " task.workers"
        )


class Decoded(NamedTuple):
    """What a worker made of a batch: the tensors of its `Draw`; or why it could not.

    Errors come back as text, because an error that crosses processes loses its sentence.
    """

    tensors: dict[str, Tensor]
    wrong: str = ""
    vanished: str = ""


def decoded(make: Callable[[], dict[str, Tensor]]) -> Decoded:
    """Make a batch; an error becomes a text."""
    try:
        return Decoded(make())
    except InputError as error:
        return Decoded({}, wrong=str(error))
    except RunError as error:
        return Decoded({}, vanished=str(error))


def decoding(
    samples: Dataset[Decoded], batches: Sampler[list[View]], workers: int, prefetch: int, device: torch.device
) -> DataLoader[Decoded]:
    """Return the loader of a feed, whose workers make the batches that ``batches`` names; 0 workers: this process."""
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=as_it_is,
        pin_memory=device.type == "cuda",
        worker_init_fn=leave_signals if workers else None,
        prefetch_factor=prefetch if workers else None,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # else each epoch would draw a number from the global one, as networks do
    )


def draws_of(loader: Iterable[Decoded], sizes: Sequence[tuple[int, ...]]) -> Iterator[Draw]:
    """Return the draws of what workers made; ``sizes`` has the shares of the workers of a training in each.

    Raises:
        InputError: an image cannot be read.
        RunError: a file vanished, or a worker died.
    """
    for found, each in zip(_made(loader), sizes, strict=False):
        if found.wrong:
            raise InputError(found.wrong)
        if found.vanished:
            raise RunError(found.vanished)
        yield Draw(found.tensors, each)


def _made(loader: Iterable[Decoded]) -> Iterator[Decoded]:
    """Iterate over what the workers decoded.

    Raises:
        RunError: a worker died.
    """
    found = iter(loader)
    while True:
        try:
            batch = next(found)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):  # an error of the samples' own code
                raise
            raise RunError(
                f"task: a process that decodes images ended ({error}); lower task.workers or task.prefetch, or free"
                " some memory"
            ) from error
        yield batch


def as_it_is(batch: object) -> object:
    """Take a batch as the data set made it."""
    return batch


def leave_signals(worker: int) -> None:
    """Let a worker outlive Ctrl-C, which goes to every process of a terminal, so that the training can end its epoch.

    A worker ends with the process of its training.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
