"""The contract of a network: it returns logits, an embedding and its stages, before and after their activation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic

import torch
from torch import Tensor, nn

from tskd_tune.contracts import BatchNormStatistics, Features, Out_co, Shapes
from tskd_tune.errors import InputError, did_you_mean, reason
from tskd_tune.networks.outputs import refuse_output
from tskd_tune.registry import Registry


class Network(nn.Module, ABC, Generic[Out_co]):
    """A network whose stages are tapped: an image classifier, unless it says that its output is another.

    A factory of a network takes ``(classes: int, channels: int = 3, *, ...options)``.

    >>> from tskd_tune.networks import NETWORKS
    >>> shapes = NETWORKS.build("resnet8", 10).probe(3, 32)
    >>> shapes.logits, shapes.features["stage3"]
    ((10,), (64, 8, 8))

    Attributes:
        cuttable: whether `forward` can end at the last tap; then reviews do not compute the heads of frozen networks.
        capturable: whether `forward` does the same operations in every step and never waits for the device, so that one
            captured CUDA graph can stand for all these steps.
        takes_batch: whether `forward` is also given the batch, whose targets and sizes a detector reads.
    """

    cuttable: bool = False
    capturable: bool = True
    takes_batch: bool = False

    @abstractmethod
    def forward(self, images: Tensor) -> Out_co | Features:
        """Map images ``[B, channels, H, W]`` to their output.

        A network with ``cuttable = True`` also takes ``batch: Batch | None = None`` and ``*, heads: bool = True``. With
        ``heads=False`` it ends at its last tap and returns `Features`, with the same bits. A network with
        ``takes_batch = True`` is given the batch wherever there is one; a probe gives images alone.
        """

    @abstractmethod
    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return, by stage, the batch norm that computes the stage's pre-activation; some stages have none."""

    @property
    def title(self) -> str:
        """The name of the network in messages."""
        return f"network {type(self).__name__}"

    def tail(self, stage: str) -> nn.Module:
        """Return the network behind a stage: ``features[stage]``, ``[B, C, H, W]``, to logits ``[B, classes]``.

        Its layers are the network's own, not copies.

        Raises:
            InputError: the network cannot be entered there.
        """
        raise InputError(
            f"{self.title}: its layers behind '{stage}' cannot be used alone; choose a residual network for small"
            " images, or ShuffleNet V1 (resnet20, resnet50, shufflenet_v1, wrn_16_2)"
        )

    def probe(self, channels: int, size: int, width: int | None = None) -> Shapes:
        """Find the shapes of all outputs by one forward of zeros in eval mode; the network is not changed.

        Args:
            channels: the channels of an image.
            size: the height of an image, in pixels.
            width: the width of an image, in pixels; None: the image is a square.

        Raises:
            InputError: the network does not take such images.
        """
        shape = (channels, size, size if width is None else width)
        modes = {module: module.training for module in self.modules()}
        first = next(self.parameters(), torch.zeros(()))
        self.eval()
        try:
            with torch.no_grad():
                output = self(torch.zeros(1, *shape, device=first.device, dtype=first.dtype))
        except Exception as error:  # the network may be another's code
            raise InputError(
                f"{self.title}: a forward of images {[*shape]} fails ({reason(error)});"
                " choose a network that takes images of this size, or resize them"
            ) from error
        finally:
            for module, mode in modes.items():
                module.training = mode
        refuse_output(output, self.title)
        return Shapes.of(output)


def statistics(norms: Mapping[str, nn.BatchNorm2d]) -> dict[str, BatchNormStatistics]:
    """Return the weight and the bias of the batch norm of each stage."""
    return {stage: BatchNormStatistics(norm.weight.detach(), norm.bias.detach()) for stage, norm in norms.items()}


def behind(stage: str, stages: Sequence[str]) -> Sequence[str]:
    """Return the stages that follow one.

    Raises:
        InputError: there is no such stage.
    """
    if stage not in stages:
        raise InputError(f"networks: there is no stage '{stage}'{did_you_mean(stage, stages)}")
    return stages[stages.index(stage) + 1 :]


NETWORKS: Registry[Network] = Registry("networks", Network)
