"""An observer that records series: single units, attention maps and weights, one value for each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt
from torch import Tensor

from tskd_tune.contracts import STEM, Output
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.networks.base import Network
from tskd_tune.options import DISTINCT
from tskd_tune.tasks.base import Feed, TaskFacts
from tskd_tune.training.observers import OBSERVERS, Observer, Training
from tskd_tune.training.record import Record

Indices = Annotated[list[NonNegativeInt], Field(min_length=1), DISTINCT]
# The weights are drawn with this seed, so that the trainings of all seeds record the same weights.
WEIGHT_SEED = 0


@OBSERVERS.register("series", source="the TSKD paper, section 1 and figure 1: a value of a network over the epochs")
class Series(Observer):
    """Record numbers of the network in eval mode at the end of each epoch, on the same few samples.

    The samples come from the validation set, or where there is none from the training set as it is, without
    augmentation. The history gets:

    - ``unit_S_U``: unit U (channel) of sample S, after the activation, in the middle of the map;
    - ``map_S_P``: pixel P of the attention map of sample S, the mean of the squares over the channels, pooled;
    - ``weight_W``: single weights.
    """

    def __init__(
        self,
        *,
        samples: Indices | None = None,
        stage: str | None = None,
        units: NonNegativeInt = 8,
        pixels: NonNegativeInt = 4,
        weights: NonNegativeInt = 32,
    ) -> None:
        """Choose what is recorded.

        Args:
            samples: the numbers of the samples, from 0; null: the first four.
            stage: stage of the units and of the maps; null: the first one behind the stem.
            units: number of units of each sample; 0: none.
            pixels: height and width to which attention maps are pooled; 0: no maps.
            weights: number of single weights, drawn at random from all; 0: none.
        """
        self._samples = samples or list(range(4))
        self._stage = stage
        self._units = units
        self._pixels = pixels
        self._weights = weights
        self._images: Tensor | None = None

    def check(self, training: Training) -> None:
        """Refuse a stage that the network has not, and samples that the data have not.

        Raises:
            InputError: the network has no such stage, or the data have fewer samples.
        """
        facts = training.task.facts()
        _stage(training.student.probe(*facts.probe).features, self._stage)
        _refuse_missing(facts, self._samples)

    def ended(self, training: Training, record: Record) -> Mapping[str, float]:
        """Return the numbers of this epoch."""
        student = training.student
        if self._images is None:
            self._images = _images(training, self._samples)
        modes = {module: module.training for module in student.modules()}
        student.eval()
        try:
            with torch.no_grad():
                output = student(training.compute.arrange(self._images))
        finally:
            for module, mode in modes.items():
                module.training = mode
        map_ = output.features[_stage(output.features, self._stage)]
        numbers = {**self._of_units(map_), **self._of_maps(map_)}
        numbers |= {f"weight_{place}": value for place, value in enumerate(_weights(student, self._weights))}
        return numbers

    def _of_units(self, map_: Tensor) -> dict[str, float]:
        middle = map_[:, : self._units, map_.shape[2] // 2, map_.shape[3] // 2].tolist()
        return {f"unit_{s}_{u}": value for s, row in enumerate(middle) for u, value in enumerate(row)}

    def _of_maps(self, map_: Tensor) -> dict[str, float]:
        if not self._pixels:
            return {}
        size = (min(self._pixels, map_.shape[2]), min(self._pixels, map_.shape[3]))
        pooled = F.adaptive_avg_pool2d(map_.square().mean(1, keepdim=True), size).flatten(1).tolist()
        return {f"map_{s}_{p}": value for s, row in enumerate(pooled) for p, value in enumerate(row)}


def _images(training: Training, samples: Sequence[int]) -> Tensor:
    """Return the samples ``[S, C, H, W]`` on the device, from the validation set or from the training set as it is."""
    task, device = training.task, training.compute.device
    feed: Feed = task.evaluation("validation", device) if task.facts().samples[1] else task.training(device)
    found: dict[int, Tensor] = {}
    for draw in feed.draws():
        batch = feed.batch(draw)
        wanted = [(place, index) for place, index in enumerate(batch.indices.tolist()) if index in samples]
        found |= {index: batch.images[place] for place, index in wanted}
        if len(found) == len(set(samples)):
            break
    return torch.stack([found[index] for index in samples])


def _refuse_missing(facts: TaskFacts, samples: Sequence[int]) -> None:
    train, validation, _ = facts.samples
    count = validation or train
    if max(samples) >= count:
        raise InputError(
            f"observe.series.samples: sample {max(samples)} is asked for, but the"
            f" {'validation' if validation else 'training'} set has {count} samples, from 0 to {count - 1}"
        )


def _stage(features: Mapping[str, object], stage: str | None) -> str:
    stages = list(features)
    if stage is None:
        return next((name for name in stages if name != STEM), stages[0])
    if stage not in stages:
        raise InputError(f"observe.series.stage: the network has no stage '{stage}'{did_you_mean(stage, stages)}")
    return stage


def _weights(network: Network[Output], count: int) -> list[float]:
    """Return single weights, the same ones at every call."""
    if not count:
        return []
    parameters = [parameter.detach().flatten() for parameter in network.parameters()]
    sizes = torch.tensor([len(parameter) for parameter in parameters])
    generator = torch.Generator().manual_seed(WEIGHT_SEED)
    places = torch.randint(int(sizes.sum()), (count,), generator=generator)
    ends = sizes.cumsum(0)
    owners = torch.searchsorted(ends, places, right=True)
    starts = (ends - sizes)[owners]
    pairs = zip(owners.tolist(), (places - starts).tolist(), strict=True)
    return torch.stack([parameters[owner][place] for owner, place in pairs]).tolist()
