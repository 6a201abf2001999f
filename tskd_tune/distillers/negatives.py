"""Negatives of a contrastive loss: samples of other classes, drawn for each sample of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tskd_tune.errors import InputError


class Negatives(nn.Module):
    """Draws K samples of other classes for each anchor, independently of the other anchors.

    If the other classes have at least K samples, no sample is drawn twice for an anchor. Otherwise samples are drawn
    with replacement, as in RepDistiller. The table of classes moves with the module and is not part of checkpoints.

    Attributes:
        count: K.
    """

    targets: Tensor
    by_class: Tensor
    starts: Tensor
    sizes: Tensor

    def __init__(self, targets: Tensor, count: int, name: str) -> None:
        """Sort the samples by their class.

        Args:
            targets: the class of every training sample, ``[N]``.
            count: K, how many are drawn for an anchor.
            name: the distiller's, which messages begin with.

        Raises:
            InputError: all samples are of one class.
        """
        super().__init__()
        targets = targets.cpu()
        sizes = targets.bincount()
        others = len(targets) - sizes[sizes > 0]
        if len(others) < 2:
            raise InputError(
                f"distiller: '{name}' contrasts a sample with those of other classes, but all {len(targets)} training"
                " samples are of one class; choose a task with two classes or more, or another distiller"
            )
        self.count = count
        self.all_distinct, self.any_distinct = bool(others.min() >= count), bool(others.max() >= count)
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("by_class", targets.argsort(stable=True), persistent=False)
        self.register_buffer("starts", sizes.cumsum(0) - sizes, persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)

    def draw(self, anchors: Tensor, random: torch.Generator) -> Tensor:
        """Return the indices of K negatives an anchor, ``[B, K]`` in no order.

        Args:
            anchors: sample indices ``[B]``.
            random: a generator on the device of the module.
        """
        classes = self.targets[anchors]
        if self.all_distinct:
            return self._distinct(classes, random)
        repeated = self._repeated(classes, random)
        if not self.any_distinct:
            return repeated
        enough = len(self.targets) - self.sizes[classes] >= self.count
        return torch.where(enough.unsqueeze(1), self._distinct(classes, random), repeated)

    def _distinct(self, classes: Tensor, random: torch.Generator) -> Tensor:
        """Draw without replacement: the K largest of random keys, of which the anchor's own class has the smallest."""
        shape = len(classes), len(self.targets)
        keys = torch.rand(shape, generator=random, device=classes.device)
        keys.masked_fill_(classes.unsqueeze(1) == self.targets, -1.0)
        return keys.topk(self.count, dim=1, sorted=False).indices

    def _repeated(self, classes: Tensor, random: torch.Generator) -> Tensor:
        """Draw with replacement: places among the samples sorted by class, of which the anchor's own are skipped."""
        starts, sizes = self.starts[classes].unsqueeze(1), self.sizes[classes].unsqueeze(1)
        shape = len(classes), self.count
        numbers = torch.randint(2**62, shape, generator=random, device=classes.device)
        places = numbers % (len(self.targets) - sizes)
        return self.by_class[places + sizes * (places >= starts)]
