"""SoTeacher: a smooth teacher, consistent with its own past predictions (Dong et al., 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from tskd_tune.contracts import Batch, Classified, exact, varying, weighted
from tskd_tune.errors import InputError
from tskd_tune.teaching.base import TEACHER_METHODS, Need, Setting, TeacherMethod


@TEACHER_METHODS.register(
    "soteacher", source="Dong, Liu and Shang 2024, arXiv 2206.06661; terms and weights of the authors' code"
)
class SoTeacher(TeacherMethod):
    """A bound on the network's Lipschitz constant, and consistency with the mean of a sample's past predictions.

    The bound is a sum over the layers: for a convolution the sum of its absolute weights, for a batch norm the largest
    ``|weight| / sqrt(running variance + eps)``, for a linear layer the largest column sum of absolute weights. The
    consistency loss is ``|softmax(z) - h|^2``, averaged over the batch, from epoch 1 on; h is the mean of the softmax
    outputs of the sample in all earlier epochs. (The authors' code counts the first epoch twice in h.)

    The means are kept on the device: 5.1 GB for the 1.28 million images and 1000 classes of ImageNet.
    """

    needs = frozenset({Need.LOGITS, Need.INDICES, Need.LAYERS})
    separable = True
    average: Tensor
    weight: Tensor
    new_share: Tensor

    def __init__(
        self,
        setting: Setting,
        *,
        lipschitz: NonNegativeFloat = 1e-5,
        consistency: NonNegativeFloat = 1.0,
        schedule: Literal["linear", "cosine", "constant"] = "linear",
        average_precision: Literal["float32", "float16"] = "float32",
    ) -> None:
        """Set both weights, and how the consistency's rises to its own by the last epoch.

        Args:
            lipschitz: weight of the bound on the network's Lipschitz constant.
            consistency: weight, in the last epoch, of the distance to the mean of a sample's past predictions.
            schedule: how the weight of the consistency rises over the epochs: in a straight line, as a quarter of a
                cosine wave, or not at all.
            average_precision: precision in which the means of past predictions are kept, one number for each class and
                training image; float16 takes half the memory and rounds the means to about three digits.

        Raises:
            InputError: a schedule of no consistency.
        """
        super().__init__()
        if consistency == 0 and schedule != "linear":
            raise InputError(
                "teacher.training.method.schedule: has no effect when consistency is 0; leave schedule out"
            )
        self._network = (setting.network,)  # not a part of this module: it is trained as the student of its training
        self.lipschitz = lipschitz
        self.consistency = consistency
        self._schedule = schedule
        self._epochs = setting.epochs
        self._compares = False
        self.register_buffer(
            "average", torch.zeros(setting.samples, setting.classes, dtype=getattr(torch, average_precision))
        )
        self.register_buffer("weight", varying(self.weight_at(0)), persistent=False)
        self.register_buffer("new_share", varying(1.0), persistent=False)

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Set the weight of the consistency, and the share of a new prediction in the mean of all."""
        self._compares = self.phase(epoch)
        self.weight.fill_(self.weight_at(epoch))
        self.new_share.fill_(1 / (epoch + 1))

    def phase(self, epoch: int) -> bool:
        """Tell whether there are past predictions to be consistent with: from epoch 1 on."""
        return epoch > 0

    def forward(self, network: Classified, above: Classified | None, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``lipschitz`` and, from epoch 1 on, ``consistency``, and take the predictions into the mean."""
        found = exact(network.logits).softmax(dim=1)
        past = exact(self.average[batch.indices])
        losses = {"lipschitz": self.lipschitz * torch.stack(list(self._bounds())).sum()}
        if self._compares:
            losses["consistency"] = weighted(self.weight, (found - past).square().sum(dim=1).mean())
        mean = weighted(1 - self.new_share, past) + weighted(self.new_share, found.detach())
        self.average[batch.indices] = mean.to(self.average.dtype)
        return losses

    def weight_at(self, epoch: int) -> float:
        """Return the weight of the consistency in an epoch."""
        done = (epoch + 1) / self._epochs
        shares = {"linear": done, "cosine": math.cos((1 - done) * math.pi / 2), "constant": 1.0}
        return self.consistency * shares[self._schedule]

    def _bounds(self) -> Iterator[Tensor]:
        for layer in self._network[0].modules():
            if isinstance(layer, _ConvNd):
                yield exact(layer.weight).abs().sum()
            elif isinstance(layer, _BatchNorm) and layer.affine and layer.running_var is not None:
                yield (exact(layer.weight).abs() / (layer.running_var + layer.eps).sqrt()).max()
            elif isinstance(layer, nn.Linear):
                yield exact(layer.weight).abs().sum(dim=0).max()
