"""Which samples the student of a training got right in the last evaluation: ``hits.json`` beside the student.

The file has a bit for each sample of the test set, or of the validation set where the test set is never read. It has no
part in the training: a row, a history and a student have the same bits with and without it.
"""

from __future__ import annotations

import base64
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field, model_validator

from tskd_tune.metrics import Part
from tskd_tune.records.entries.names import FileName
from tskd_tune.records.entries.row import Record, Row
from tskd_tune.records.kept import kept_files
from tskd_tune.records.runs.run_folder import RunFolder

HITS: Final = "hits.json"
OF_FILE: Final = 100
"""The bytes of a file without its bits."""


class KeptHits(Record):
    """Whether a network is right about each sample of a part.

    Attributes:
        part: the part.
        metric: the metric, without the part, that is the share of the samples that are right.
        data: the digest of the data of the part: the source, its split, and the targets in order.
        samples: the number of samples of the part.
        bits: eight samples a byte, the first in the highest bit, in base64 (`tskd_tune.tasks.hits.Hits.packed`).
    """

    format: Literal[1] = 1
    part: Part
    metric: str
    data: FileName
    samples: Annotated[int, Field(ge=1)]
    bits: str

    @model_validator(mode="after")
    def _has_a_bit_for_each_sample(self) -> KeptHits:
        unpacked(self.bits, self.samples)
        return self

    def right(self) -> np.ndarray:
        """Return whether each sample is right ``[samples]``, in the order of the part."""
        return unpacked(self.bits, self.samples)


def hits_of(run: RunFolder, row: Row) -> KeptHits | None:
    """Return the hits of a training; None where there are none, or the file is damaged.

    Raises:
        RunError: the storage or the disk fails.
    """
    return kept_files.read(run, kept_files.of_training(run, row, HITS), KeptHits)


def bytes_on_disk(samples: int) -> int:
    """Return the bytes of the file of so many samples: base64 makes four bytes of three.

    >>> bytes_on_disk(10_000)
    1768
    """
    return OF_FILE + 4 * -(-bytes_of(samples) // 3)


def unpacked(bits: str, samples: int) -> np.ndarray:
    """Return whether each sample is right ``[samples]``, from what `tskd_tune.tasks.hits.Hits.packed` gave.

    Raises:
        ValueError: the text is no base64, or the bits are not those of so many samples.

    >>> unpacked("oA==", 3).tolist()
    [True, False, True]
    """
    found = np.frombuffer(base64.b64decode(bits, validate=True), dtype=np.uint8)
    if len(found) != bytes_of(samples):
        raise ValueError(f"{samples} samples take {bytes_of(samples)} bytes, but there are {len(found)}")
    every = np.unpackbits(found)
    if every[samples:].any():
        raise ValueError(f"there are bits after the last of {samples} samples")
    return every[:samples].astype(bool)


def bytes_of(samples: int) -> int:
    """Return the bytes of the bits of so many samples, before base64."""
    return -(-samples // 8)
