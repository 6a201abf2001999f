"""What people can look at: the answers of a network to some samples of a part, and a metric broken down.

An objective whose outputs can be shown has a method `Showing.answering`, and a meter that can say more than its metrics
has a method `Detailed.breakdowns`. Both are optional.
"""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, Protocol, TypeVar, final, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from tskd_tune.contracts import AnyBatch, Out, Output
from tskd_tune.metrics import Metric, Part
from tskd_tune.plain import Json
from tskd_tune.tasks.facts import TaskFacts

Out_contra = TypeVar("Out_contra", bound=Output, contravariant=True)

AnswerKind = Literal["classes", "boxes"]
QUALITY = 80
"""The quality of the JPEG of a picture, from 1 to 95."""


class Answering(ABC, Generic[Out_contra]):
    """How the answers of networks to single samples are kept: as tensors whose first dimension counts the samples.

    Attributes:
        kind: what an answer is: the class of a sample, or boxes with classes.
        samples: the answers to at most this number of samples of a part are kept.
        pixels: the length of the longer side of a picture, in pixels; smaller samples stay as they are.
        first: the index of the part's first sample, for tasks whose indices count through all parts.
    """

    kind: ClassVar[AnswerKind]
    samples: ClassVar[int]
    pixels: ClassVar[int]
    first: int = 0

    @abstractmethod
    def blank(self, samples: int) -> dict[str, Tensor]:
        """Return zeros for some samples, on the CPU, with the names, shapes and types of `answers`."""

    @abstractmethod
    def answers(self, output: Out_contra, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return the answers to the B samples of a batch, and the truth; nothing waits for the device."""

    @abstractmethod
    def plain(self, kept: Mapping[str, Tensor]) -> dict[str, Json]:
        """Return what was kept of some samples as plain data, which `tskd_tune.records.kept.examples` reads."""


@runtime_checkable
class Showing(Protocol[Out_contra]):
    """An objective whose outputs can be shown."""

    def answering(self, facts: TaskFacts, part: Part) -> Answering[Out_contra]:
        """Return how the answers of networks to samples of a part are kept."""


@final
class Answers(Generic[Out]):
    """The answers of a network to the chosen samples of a part; they stay on the device until they are asked for."""

    def __init__(self, answering: Answering[Out], samples: int, device: torch.device) -> None:
        """Choose from a part with so many samples; see `chosen`."""
        self.answering = answering
        self.chosen = chosen(samples, answering.samples)
        count = len(self.chosen)
        # Samples that were not chosen are written to one more place, so that nothing waits for the device.
        places = torch.full((samples,), count)
        places[torch.tensor(self.chosen, dtype=torch.int64)] = torch.arange(count)
        self._places = places.to(device)
        self._kept = {name: blank.to(device) for name, blank in answering.blank(count + 1).items()}

    def update(self, output: Out, batch: AnyBatch) -> None:
        """Take what a network computed from a batch of the part."""
        places = self._places[batch.indices - self.answering.first]
        for name, values in self.answering.answers(output, batch).items():
            self._kept[name].index_copy_(0, places, values.to(self._kept[name].dtype))

    def merge(self, add: Callable[[Sequence[Tensor]], None]) -> None:
        """Take in the answers of all workers; each sample was answered by one of them."""
        for kept in self._kept.values():
            kept[-1].zero_()
        add(list(self._kept.values()))

    def plain(self) -> dict[str, Json]:
        """Return the answers as plain data; this waits for the device."""
        count = len(self.chosen)
        kept = {name: values[:count].cpu() for name, values in self._kept.items()}
        return {"kind": self.answering.kind, **self.answering.plain(kept)}


def chosen(samples: int, most: int) -> list[int]:
    """Return the numbers of at most ``most`` of a part's samples, evenly spaced; the first sample is one of them.

    The order of a part is the same for all arms, and a part that is sorted by class gives samples of all classes.

    >>> chosen(10, 4)
    [0, 2, 5, 7]
    """
    count = min(samples, most)
    return [place * samples // count for place in range(count)]


@dataclass(frozen=True)
class Breakdown:
    """A metric of one part, for several conditions: AP by IoU threshold, by size of the objects, by class.

    Attributes:
        name: the name, such as ``iou``.
        title: the title of the chart, such as ``AP by IoU threshold``.
        axis: what differs, such as ``IoU threshold``.
        metric: the metric, for unit and digits.
        labels: the conditions, in order.
        values: the value for each condition; None where it cannot be measured, as without objects of a size.
        ordered: whether the conditions are numbers, which a chart shows as an axis.
    """

    name: str
    title: str
    axis: str
    metric: Metric
    labels: tuple[str, ...]
    values: tuple[float | None, ...]
    ordered: bool = False


@runtime_checkable
class Detailed(Protocol):
    """A meter that can say more than its metrics."""

    def breakdowns(self) -> Sequence[Breakdown]:
        """Return metrics by conditions; called once, after `Meter.compute`."""


def picture(pixels: Tensor, longest: int) -> str:
    """Return a sample as a small JPEG or PNG in base64, whichever is smaller.

    Args:
        pixels: bytes ``[C, H, W]``, with one channel or three.
        longest: the longer side of the picture, in pixels; smaller samples are not enlarged.
    """
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array[:, :, :3])
    image.thumbnail((longest, longest))
    return base64.b64encode(min(_encoded(image, "JPEG"), _encoded(image, "PNG"), key=len)).decode()


def _encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, quality=QUALITY)
    return file.getvalue()
