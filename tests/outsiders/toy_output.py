"""An output of one's own, which is no classification, with what makes it, learns from it and measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self, final

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from tskd_tune.contracts import Batch, BatchNormStatistics, Features, Output
from tskd_tune.distillers.base import Distiller, Need
from tskd_tune.metrics import Metric
from tskd_tune.networks import Network
from tskd_tune.tasks import Task, TaskFacts, build
from tskd_tune.tasks.base import Meter, Objective

ERROR = Metric("error", "mean absolute error", "", "min", digits=3)


@final
@dataclass(frozen=True)
class Painted(Output):
    """A picture ``[B, C, H, W]`` for each image, beside the tapped maps."""

    features: Mapping[str, Tensor]
    preactivations: Mapping[str, Tensor]
    picture: Tensor

    def detached(self) -> Self:
        """Return the output cut off from the network that made it."""
        maps = {stage: map_.detach() for stage, map_ in self.features.items()}
        return replace(self, features=maps, preactivations={}, picture=self.picture.detach())


class Painter(Network[Painted]):
    """Three convolutions, each a stage, and one that paints."""

    def __init__(self, outputs: int, channels: int = 3, *, width: PositiveInt = 4) -> None:
        """Build the layers.

        Args:
            width: number of channels of each stage.
        """
        super().__init__()
        widths = (channels, width, width)
        self.stages = nn.ModuleList(nn.Conv2d(before, width, 3, padding=1) for before in widths)
        self.paint = nn.Conv2d(width, channels, 1)

    cuttable = True

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Painted | Features:
        """Map images ``[B, channels, H, W]`` to pictures of their size, or to the tapped maps alone."""
        features: dict[str, Tensor] = {}
        maps = images
        for number, stage in enumerate(self.stages, 1):
            features[f"stage{number}"] = maps = stage(maps).relu()
        return Painted(features, {}, self.paint(maps)) if heads else Features(features, {})

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return nothing: there is no batch norm."""
        return {}


class Imitation(Distiller[Painted]):
    """The squared distance of the student's picture to the teacher's."""

    needs = frozenset({Need.FEATURES})

    def __init__(self, probe: object = None, *, weight: NonNegativeFloat = 1.0) -> None:
        """Set the weight.

        Args:
            weight: factor of the loss.
        """
        super().__init__()
        self._weight = weight

    def forward(self, student: Painted, teacher: Painted, batch: Batch) -> Mapping[str, Tensor]:
        """Return the weighted loss."""
        return {"imitation": self._weight * (student.picture - teacher.picture).square().mean()}


class Copying(Objective[Painted]):
    """Paint each image as it is."""

    def metrics(self, facts: TaskFacts) -> tuple[Metric, ...]:
        """Return the error."""
        return (ERROR,)

    def losses(self, output: Painted, batch: Batch) -> Mapping[str, Tensor]:
        """Return the mean squared error."""
        return {"task": (output.picture - batch.images).square().mean()}

    def meter(self, facts: TaskFacts) -> Meter[Painted]:
        """Return a new meter."""
        return Errors()

    def identity(self) -> Mapping[str, str]:
        """Return what is painted."""
        return {"painted": "images"}


class Errors:
    """Collects the mean absolute error of every image."""

    def __init__(self) -> None:
        """Begin with no image."""
        self._errors: list[float] = []

    def update(self, output: Painted, batch: Batch) -> None:
        """Add a batch."""
        self._errors += (output.picture - batch.images).abs().mean(dim=(1, 2, 3)).tolist()

    def compute(self) -> dict[str, float]:
        """Return the mean of all images so far."""
        return {ERROR.name: sum(self._errors) / len(self._errors)}


def pictures(*, batch_size: PositiveInt = 16) -> Task[Painted]:
    """Made-up images, to be painted.

    Args:
        batch_size: images in a training batch.
    """
    made = build("synthetic", batch_size=batch_size, size=8, train=48, validation=16, test=16)
    return Task(made.source, Copying(), made.feeding)
