"""timm's image classifiers, convolutional or not, if they can return their stages."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from tskd_tune.contracts import STEM, Batch, BatchNormStatistics, Classified, Features
from tskd_tune.errors import InputError
from tskd_tune.networks.base import NETWORKS
from tskd_tune.networks.wrapped import Watch, Wrapped

CLASSIFIER = "classifier"
# A first level that is larger than this fraction of the image is a stem.
FIRST_STRIDE = 4
NEAREST = 3


@NETWORKS.register("timm", source="Wightman, PyTorch Image Models (timm)")
class TimmNetwork(Wrapped):
    """A classifier of timm by name: `model: mobilenetv1_100`.

    The levels are timm's own, those of ``features_only``, as maps ``[B, C, H, W]``, shallow to deep. By default they
    are the stages 1, 2, ..., but a first level that divides the height of the image by less than 4 is the ``stem``,
    so that stage 1 of most networks is the level of 4, as torchvision's here. There are no ``preactivations`` and no
    batch norms: what needs them is refused.

    One forward gives everything: timm's own classifier reads the features that are tapped, and the embedding is what
    that classifier reads. Models whose classifier is more than one layer, such as those with a second one for
    distillation, are refused.
    """

    publisher = "timm"

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        *,
        model: Annotated[str, Field(examples=["mobilenetv1_100"])],
        stages: list[Annotated[int, Field(ge=0)]] | None = None,
    ) -> None:
        """Build ``model`` with timm's first weights.

        Args:
            classes: the number of classes.
            channels: the channels of the images.
            model: name of the model in timm, such as mobilenetv1_100.
            stages: numbers, from 0, of timm's feature levels that become stage 1, 2, ...; null: all levels, the first
                as stem where it is larger than a quarter of the image.

        Raises:
            InputError: timm is not installed, has no such model, or the model does not show what is asked for.
        """
        super().__init__(_created(model, num_classes=classes, in_chans=channels), model, classes, channels)
        shows = hasattr(self.model, "forward_intermediates")
        classifier: object = cast("Any", self.model).get_classifier() if shows else None
        if not isinstance(classifier, nn.Module):
            raise InputError(
                f"{self.title} gives no access to its stages, or has more than one classifier; choose another model of"
                " timm"
            )
        self._levels = _named_levels(cast("Any", self.model).feature_info, stages, self.title)
        self._watch = Watch({CLASSIFIER: classifier})

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Classified | Features:
        """Map images ``[B, channels, H, W]`` to their output, or to their features alone; the batch is not read."""
        model: Any = self.model
        levels = list(self._levels.values())
        if not heads:
            maps = model.forward_intermediates(
                images, indices=levels, output_fmt="NCHW", stop_early=True, intermediates_only=True
            )
            return Features(dict(zip(self._levels, maps, strict=True)), {})
        last, maps = model.forward_intermediates(images, indices=levels, output_fmt="NCHW")
        logits = model.forward_head(last)
        # Some classifiers are 1x1 convolutions, which read [B, D, 1, 1].
        embedding = self._watch.take()[CLASSIFIER][0].flatten(1)
        return Classified(logits, dict(zip(self._levels, maps, strict=True)), {}, embedding)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return nothing: timm's networks do not return pre-activations."""
        return {}

    def load_published(self, tag: str) -> None:
        """Load timm's weights, ``a1_in1k`` or ``default``; see `Wrapped.load_published`."""
        name, settings = self._offered(tag)
        self.check_published(tag, settings.num_classes, settings.input_size[0])
        self.load_from(lambda: _created(name, pretrained=True), tag, _place(settings))

    def published_classes(self, tag: str) -> int:
        """Return for how many classes timm's weights are; see `Wrapped.published_classes`."""
        return int(self._offered(tag)[1].num_classes)

    def _offered(self, tag: str) -> tuple[str, Any]:
        timm = _timm()
        architecture = self.model_name.partition(".")[0]
        offered = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        name = self.model_name if tag == "default" else f"{architecture}.{tag}"
        settings = timm.get_pretrained_cfg(name) if tag == "default" or tag in offered else None
        if settings is None or not settings.has_weights:
            known = ["default", *offered] if offered else ["none"]
            raise InputError(f"{self.title} has no weights '{tag}'; known: {', '.join(known)}")
        return name, settings


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise InputError("timm's networks need the package timm, which is not installed: pip install timm") from error


def _created(name: str, **options: Any) -> nn.Module:
    timm = _timm()
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=NEAREST)
        hint = f"did you mean {' or '.join(repr(found) for found in near)}? " if near else ""
        raise InputError(f"timm has no model '{name}'; {hint}timm.list_models() lists all models")
    try:
        return cast("nn.Module", timm.create_model(name, **options))
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"timm cannot build '{name}' ({error}); choose another model") from error


def _named_levels(levels: list[Mapping[str, Any]], chosen: list[int] | None, title: str) -> dict[str, int]:
    """Return stage name -> the number of its level."""
    if chosen is None:
        stem = [STEM] if levels[0]["reduction"] < FIRST_STRIDE else []
        names = [*stem, *(f"stage{number}" for number in range(1, len(levels) + 1 - len(stem)))]
        return {name: number for number, name in enumerate(names)}
    if not chosen or chosen != sorted(set(chosen)) or chosen[-1] >= len(levels):
        sizes = ", ".join(f"{number} (1/{level['reduction']})" for number, level in enumerate(levels))
        raise InputError(f"{title}: stages must be rising numbers of its levels, which are {sizes}; got {chosen}")
    return {f"stage{number}": level for number, level in enumerate(chosen, 1)}


def _place(settings: Any) -> str:
    """Return how to download weights by hand, and the place where timm looks for them."""
    if settings.hf_hub_id:
        cache = importlib.import_module("huggingface_hub").constants.HF_HUB_CACHE
        folder = f"models--{settings.hf_hub_id.replace('/', '--')}"
        return (
            f"on a machine with a network run `hf download {settings.hf_hub_id}` and copy the folder {folder} of its"
            f" cache to {cache}"
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(settings.url).name
    return f"download {settings.url} on a machine with a network and put it at {file}"
