"""Networks of stages of blocks; each block is followed by an activation and tapped before and after that activation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.contracts import STEM, Batch, Classified, Features
from tskd_tune.networks.base import Network, behind


class Tapped(Network):
    """A network of a stem and stages; each stage is a sequence of blocks, tapped at its last one.

    ``features`` are taken after the activation, ``preactivations`` before it.

    Attributes:
        conv1: the convolution of the stem.
        bn1: the batch norm of the stem; its output is the pre-activation of the stem.
    """

    conv1: nn.Conv2d
    bn1: nn.BatchNorm2d

    @abstractmethod
    def _stages(self) -> Mapping[str, nn.Sequential]:
        """Return the blocks of every stage, shallow to deep."""

    @abstractmethod
    def _classifier(self) -> nn.Linear:
        """Return the layer that maps the embedding to logits."""

    @abstractmethod
    def _advance(self, block: nn.Module, activated: Tensor, *, tapped: bool) -> tuple[Tensor, Tensor]:
        """Run a block on activated features, and return its output after and before its activation.

        Only the last block of a stage is ``tapped``; elsewhere nobody reads what the activation reads.
        """

    @abstractmethod
    def _embedding(self, activated: Tensor) -> Tensor:
        """Return the embedding, ``[B, D]``, of the last stage's features."""

    cuttable = True

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Classified | Features:
        """Map images ``[B, channels, H, W]`` to their output, or to their features alone; the batch is not read."""
        preactivations: dict[str, Tensor] = {STEM: self.bn1(self.conv1(images))}
        # Not in place: what the activations read is tapped too.
        features = {STEM: F.relu(preactivations[STEM])}
        activated = features[STEM]
        for stage, blocks in self._stages().items():
            for place, block in enumerate(blocks, start=1):
                activated, before = self._advance(block, activated, tapped=place == len(blocks))
            features[stage], preactivations[stage] = activated, before
        if not heads:
            return Features(features, preactivations)
        embedding = self._embedding(activated)
        return Classified(self._classifier()(embedding), features, preactivations, embedding)


class Staged(Tapped):
    """A network whose blocks all end before their activation; the embedding is the mean of the last features."""

    def _advance(self, block: nn.Module, activated: Tensor, *, tapped: bool) -> tuple[Tensor, Tensor]:
        total: Tensor = block(activated)
        return F.relu(total, inplace=not tapped), total

    def _embedding(self, activated: Tensor) -> Tensor:
        return activated.mean(dim=(2, 3))

    def tail(self, stage: str) -> nn.Module:
        """Return the network behind a stage, the stem or another; see `Network.tail`."""
        stages = self._stages()
        return _Tail((stages[name] for name in behind(stage, [STEM, *stages])), self._classifier())


class _Tail(nn.Module):
    """The last stages of a network, and its classifier."""

    def __init__(self, stages: Iterable[nn.Sequential], classifier: nn.Linear) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.classifier = classifier

    def forward(self, activated: Tensor) -> Tensor:
        """Map activated features ``[B, C, H, W]`` to logits ``[B, classes]``."""
        for stage in self.stages:
            for block in cast("nn.Sequential", stage):
                activated = F.relu(block(activated), inplace=True)
        logits: Tensor = self.classifier(activated.mean(dim=(2, 3)))
        return logits
