"""Image classifiers whose stages are tapped, and the field's checkpoints of them."""

from __future__ import annotations

from typing import Any

from tskd_tune.errors import InputError
from tskd_tune.networks import (  # noqa: F401 (each import registers its networks)
    cifar_resnet,
    faster_rcnn,
    four_stage_resnet,
    mlp,
    mobilenet_v1,
    mobilenet_v2,
    shufflenet,
    shufflenet_v2,
    small_cnn,
    small_vit,
    timm_network,
    torchvision_network,
    vgg,
    wide_resnet,
)
from tskd_tune.networks.base import NETWORKS, Network

__all__ = ["NETWORKS", "Network", "build"]


def build(name: str, classes: int, channels: int = 3, **options: Any) -> Network:
    """Build a network by name for images of ``channels`` channels, ``build("resnet20", classes=100)``.

    Raises:
        InputError: no network has this name, or the classes or channels are not positive.
        pydantic.ValidationError: an option is unknown or out of its bounds.
    """
    if classes < 1 or channels < 1:
        raise InputError(f"{name}: classes and channels must be at least 1, got {classes} and {channels}")
    return NETWORKS.build(name, classes, channels, **options)
