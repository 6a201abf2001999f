"""The examples of a run: what networks answered to some samples of the test set, with small pictures of the samples.

Each training keeps its answers in ``examples.json`` in its folder. The pictures are the same for all trainings on the
same data, so they are kept once, as ``examples/<data>.json``; the answers of a teacher, which many trainings share, are
in ``examples/<data>-<key>.json``. ``<data>`` is a digest of the data, the part and the chosen samples.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from tskd_tune.metrics import Part
from tskd_tune.records.entries.names import FileName
from tskd_tune.records.entries.row import Declared, Finite, Record, Row
from tskd_tune.records.kept import kept_files
from tskd_tune.records.runs.run_folder import RunFolder

EXAMPLES: Final = "examples.json"
FOLDER: Final = "examples"

Box: TypeAlias = tuple[float, float, float, float, int]
"""x1, y1, x2 and y2 in pixels, and the class."""
ScoredBox: TypeAlias = tuple[float, float, float, float, int, float]
"""A `Box` with its score, from 0 to 1."""


class ClassAnswers(Record):
    """The classes of the samples, by number.

    Attributes:
        truth: the true class of each sample.
        answer: the class that the network gives.
        confidence: the network's probability of this class.
    """

    kind: Literal["classes"]
    truth: list[int]
    answer: list[int]
    confidence: list[float]


class BoxAnswers(Record):
    """The boxes of the samples, in pixels of an image of the sample's size.

    Attributes:
        sizes: height and width of each sample, as the network got it.
        truth: the true boxes.
        answer: the boxes that the network found, the highest score first.
    """

    kind: Literal["boxes"]
    sizes: list[Annotated[tuple[int, int], Field(strict=False)]]
    truth: list[list[Annotated[Box, Field(strict=False)]]]
    answer: list[list[Annotated[ScoredBox, Field(strict=False)]]]


class BreakdownRecord(Record):
    """A metric by conditions; see `tskd_tune.tasks.examples.Breakdown`."""

    name: str
    title: str
    axis: str
    metric: Declared
    labels: list[str]
    values: list[Finite]
    ordered: bool = False


class Examples(Record):
    """What a network answered.

    Attributes:
        part: the part that the samples belong to.
        data: the digest of data, part and chosen samples, which names the file of the pictures.
        samples: the position of each sample in the part, from 0.
        answers: the answers; None where they were not to be kept, or the task has no way to show them.
        breakdowns: the metrics by conditions.
    """

    format: Literal[1] = 1
    part: Part
    data: FileName
    samples: list[int]
    answers: Annotated[ClassAnswers | BoxAnswers, Field(discriminator="kind")] | None = None
    breakdowns: list[BreakdownRecord] = Field(default_factory=list)


class Pictures(Record):
    """Small pictures of the samples.

    Attributes:
        classes: the name of each class.
        names: the name of each sample, such as the id of an image; empty where samples have no names.
        images: the picture of each sample as a JPEG or PNG in base64; empty where pictures were not to be kept.
    """

    format: Literal[1] = 1
    classes: list[str]
    names: list[str] = Field(default_factory=list)
    images: list[str] = Field(default_factory=list)


def examples_of(run: RunFolder, row: Row) -> Examples | None:
    """Return the examples of a training; None where there are none, or the file is damaged.

    Raises:
        RunError: the storage or the disk fails.
    """
    return kept_files.read(run, kept_files.of_training(run, row, EXAMPLES), Examples)


def examples_of_teacher(run: RunFolder, data: str, key: str) -> Examples | None:
    """Return the examples of a teacher with a key; None where there are none. Raises as `examples_of`."""
    return kept_files.read(run, teacher_file(data, key), Examples)


def pictures_of(run: RunFolder, data: str) -> Pictures | None:
    """Return the pictures of the samples; None where there are none. Raises as `examples_of`."""
    return kept_files.read(run, pictures_file(data), Pictures)


def pictures_file(data: str) -> str:
    """Return the name of the file of pictures in a run."""
    return f"{FOLDER}/{data}.json"


def teacher_file(data: str, key: str) -> str:
    """Return the name of the file of a teacher's examples in a run."""
    return f"{FOLDER}/{data}-{key}.json"
