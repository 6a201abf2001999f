"""torchvision's convolutional image classifiers, with their stages tapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from tskd_tune.contracts import STEM, Batch, BatchNormStatistics, Classified, Features
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.networks.base import NETWORKS, statistics
from tskd_tune.networks.initialization import replace_first_convolution
from tskd_tune.networks.wrapped import Watch, Wrapped

CLASSIFIER = "classifier"
STAGES = ("stage1", "stage2", "stage3", "stage4")
# Stages begin where the image's height is divided by this much; what is larger belongs to the stem.
FIRST_STRIDE = 4


@dataclass(frozen=True)
class Tap:
    """Where a stage ends.

    Attributes:
        module: the path of the module whose output is the stage's feature.
        norm: where that module is an activation, which reads the stage's pre-activation, the path of the batch norm
            right before it; else None.
        block: the path of the block that ends with that module, where the module runs several times in the block; else
            None.
    """

    module: str
    norm: str | None = None
    block: str | None = None


Taps = dict[str, Tap]


@NETWORKS.register("torchvision", source="torchvision's models; taps of mdistiller's ImageNet networks")
class TorchvisionNetwork(Wrapped):
    """A convolutional classifier of torchvision by name: `model: resnet50`.

    Stages 1 to 4 end where the height of the image is divided by 4, 8, 16 and 32 (of ShuffleNetV2 stages 1 to 3, by
    8, 16 and 32). The ``stem`` is what comes first: the first activation of residual nets, RegNets, DenseNets and
    ShuffleNetV2, the first block of the others. VGG is tapped before its five max pools, the first of which ends
    its stem. ``features`` are what a stage gives to the next one: activated in residual nets, RegNets and VGG, which
    have ``preactivations`` and batch norms too (of VGG those with batch norm); raw in most others.

    Images of other than 3 channels get a first convolution of their own.

    Source: the models are torchvision's; where residual nets and MobileNets are tapped is mdistiller's choice.
    """

    publisher = "torchvision"

    def __init__(self, classes: int, channels: int = 3, *, model: Annotated[str, Field(examples=["resnet50"])]) -> None:
        """Build ``model`` with torchvision's first weights.

        Args:
            model: name of the model in torchvision, such as resnet50.

        Raises:
            InputError: torchvision has no such classifier, or its stages are not known here.
        """
        from torchvision.models import get_model

        find_taps = _family(model)
        super().__init__(get_model(model, num_classes=classes), model, classes, channels)
        if channels != 3:
            replace_first_convolution(self.model, channels)
        self._taps = find_taps(self.model)
        classifier = [part for part in self.model.modules() if isinstance(part, nn.Linear)][-1]
        watched = {stage: self.model.get_submodule(tap.module) for stage, tap in self._taps.items()}
        last = list(self._taps.values())[-1]
        self._watch = Watch(watched | {CLASSIFIER: classifier}, self.model.get_submodule(last.block or last.module))
        for tap in self._taps.values():
            if tap.norm is not None:
                # What the activation reads is tapped too.
                cast("nn.ReLU", self.model.get_submodule(tap.module)).inplace = False

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Classified | Features:
        """Map images ``[B, channels, H, W]`` to their output, or to their features alone; the batch is not read.

        The embedding is the input of the last linear layer.
        """
        logits = self.model(images) if heads else None
        if not heads:
            self._watch.run_to_its_end(self.model, images)
        seen = self._watch.take()
        features = {stage: seen[stage][1] for stage in self._taps}
        preactivations = {stage: seen[stage][0] for stage, tap in self._taps.items() if tap.norm is not None}
        if logits is None:
            return Features(features, preactivations)
        return Classified(logits, features, preactivations, embedding=seen[CLASSIFIER][0])

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return the batch norm right before each pre-activation, in the families that show them."""
        paths = {stage: tap.norm for stage, tap in self._taps.items() if tap.norm is not None}
        norms = {stage: self.model.get_submodule(path) for stage, path in paths.items()}
        return statistics({stage: cast("nn.BatchNorm2d", norm) for stage, norm in norms.items()})

    def load_published(self, tag: str) -> None:
        """Load torchvision's weights, ``IMAGENET1K_V1`` or ``DEFAULT``; see `Wrapped.load_published`."""
        from torchvision.models import get_model

        weights = self._offered(tag)
        self.check_published(tag, classes=len(weights.meta["categories"]), channels=3)
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        place = f"download {weights.url} on a machine with a network and put it at {file}"
        self.load_from(lambda: cast("nn.Module", get_model(self.model_name, weights=weights)), tag, place)

    def published_classes(self, tag: str) -> int:
        """Return for how many classes torchvision's weights are; see `Wrapped.published_classes`."""
        return len(self._offered(tag).meta["categories"])

    def _offered(self, tag: str) -> Any:
        from torchvision.models import get_model_weights

        offered = get_model_weights(self.model_name).__members__
        if tag not in offered:
            raise InputError(f"{self.title} has no weights '{tag}'{did_you_mean(tag, offered)}")
        return offered[tag]


def _family(name: str) -> Callable[[nn.Module], Taps]:
    """Return the function that finds the stages of a model; the model is not built yet."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise InputError(f"torchvision has no classifier '{name}'{did_you_mean(name, known)}")
    family = models.get_model_builder(name).__module__.rpartition(".")[2]
    if family not in FAMILIES:
        raise InputError(
            f"the stages of torchvision's {name} are not known here, only those of the families"
            f" {', '.join(FAMILIES)}; choose one of these, or a timm model by name: timm"
        )
    return FAMILIES[family]


def _residual_taps(model: nn.Module) -> Taps:
    taps = {STEM: Tap("relu", "bn1")}
    for number, stage in enumerate(STAGES, 1):
        path, last = _last(model, f"layer{number}")
        taps[stage] = Tap(f"{path}.relu", f"{path}.bn3" if hasattr(last, "bn3") else f"{path}.bn2", block=path)
    return taps


def _regnet_taps(model: nn.Module) -> Taps:
    taps = {STEM: Tap("stem.2", "stem.1")}
    for number, stage in enumerate(STAGES, 1):
        path, _ = _last(model, f"trunk_output.block{number}")
        taps[stage] = Tap(f"{path}.activation", f"{path}.f.c.1")
    return taps


def _vgg_taps(model: nn.Module) -> Taps:
    layers = list(cast("nn.Sequential", model.get_submodule("features")))
    pools = [number for number, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    return {
        stage: Tap(f"features.{pool - 1}", f"features.{pool - 2}" if _is_norm(layers[pool - 2]) else None)
        for stage, pool in zip((STEM, *STAGES), pools, strict=True)
    }


def _densenet_taps(model: nn.Module) -> Taps:
    blocks = {stage: Tap(f"features.denseblock{number}") for number, stage in enumerate(STAGES, 1)}
    return {STEM: Tap("features.relu0"), **blocks}


def _shufflenet_taps(model: nn.Module) -> Taps:
    return {STEM: Tap("conv1")} | {f"stage{number}": Tap(f"stage{number + 1}") for number in (1, 2, 3)}


def _chain_taps(model: nn.Module) -> Taps:
    """Tap a chain of blocks at the last one of each size; the convolution behind the last one is a part of the head."""
    from torchvision.ops import Conv2dNormActivation

    blocks = list(cast("nn.Sequential", model.get_submodule("features")))
    if isinstance(blocks[-1], Conv2dNormActivation):
        blocks.pop()
    ends, total = [], 1
    for number, block in enumerate(blocks):
        total *= _stride(block)
        is_last_of_its_size = number + 1 == len(blocks) or _stride(blocks[number + 1]) > 1
        if number > 0 and is_last_of_its_size and total >= FIRST_STRIDE:
            ends.append(f"features.{number}")
    return {STEM: Tap("features.0")} | {stage: Tap(end) for stage, end in zip(STAGES, ends, strict=True)}


# module of torchvision.models -> what finds the stages of its models.
FAMILIES: dict[str, Callable[[nn.Module], Taps]] = {
    "resnet": _residual_taps,
    "regnet": _regnet_taps,
    "vgg": _vgg_taps,
    "densenet": _densenet_taps,
    "shufflenetv2": _shufflenet_taps,
    "mobilenetv2": _chain_taps,
    "mobilenetv3": _chain_taps,
    "efficientnet": _chain_taps,
    "convnext": _chain_taps,
}


def _last(model: nn.Module, path: str) -> tuple[str, nn.Module]:
    """Return the path of the last child of a module, and the child."""
    name, child = list(model.get_submodule(path).named_children())[-1]
    return f"{path}.{name}", child


def _stride(block: nn.Module) -> int:
    """Return by how much a block of a chain, which has no strided shortcuts, divides the size."""
    return max((part.stride[0] for part in block.modules() if isinstance(part, nn.Conv2d)), default=1)


def _is_norm(layer: nn.Module) -> bool:
    return isinstance(layer, nn.BatchNorm2d)
