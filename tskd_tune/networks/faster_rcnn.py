"""Faster R-CNN with a feature pyramid, of torchvision's parts, on residual networks and MobileNetV2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, cast

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from tskd_tune.contracts import Batch, BatchNormStatistics, Boxes, Detected, Features, exact
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.networks.base import NETWORKS
from tskd_tune.networks.detection import Found, Scene, truth_of
from tskd_tune.networks.initialization import replace_first_convolution
from tskd_tune.networks.weights import read_state
from tskd_tune.networks.wrapped import Wrapped, published_state
from tskd_tune.paths import PathOption

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

SOURCE = "Ren et al. 2015, arXiv 1506.01497, with the pyramid of Lin et al. 2017, arXiv 1612.03144; torchvision's parts"
PACKAGE = "torchvision"
BACKBONE_WEIGHTS = PathOption(lambda given: not given.startswith(f"{PACKAGE}:"))
RATIOS = (0.5, 1.0, 2.0)
LEVELS: Final = {"0": "fpn0", "1": "fpn1", "2": "fpn2", "3": "fpn3", "pool": "fpn_pool"}
"""Torchvision's names of the levels of the pyramid, finest first -> our names."""
LAYERS = 5
ANCHORS = [32, 64, 128, 256, 512]
# Of each backbone the modules of its stem and of its four stages, and the channels of these stages.
RESIDUAL = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
INVERTED = (("0",), ("1", "2", "3"), ("4", "5", "6"), tuple(map(str, range(7, 14))), tuple(map(str, range(14, 18))))
WIDTHS = {
    "resnet18": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "resnet101": (256, 512, 1024, 2048),
    "mobilenet_v2": (24, 32, 96, 320),
}


class FasterRcnn(Wrapped[Detected]):
    """A two-stage detector whose backbone's stages and pyramid's levels are tapped.

    Images come normalized and padded, and keep their size. The parameters have torchvision's names.

    Source: torchvision's ``FasterRCNN`` and its recipe (references/detection); of MobileNetV2 the ends of the four
    groups of blocks at strides 4, 8, 16 and 32, as ReviewKD's detectors have them.
    """

    publisher = PACKAGE
    capturable = False
    takes_batch = True
    backbone: ClassVar[str]

    def __init__(
        self,
        outputs: int,
        channels: int = 3,
        *,
        backbone_weights: Annotated[str, BACKBONE_WEIGHTS] | None = None,
        norms: Literal["frozen", "trained"] | None = None,
        trainable_layers: Annotated[int, Field(ge=0, le=LAYERS)] | None = None,
        anchor_sizes: Annotated[list[PositiveInt], Field(min_length=5, max_length=5)] = ANCHORS,
        train_proposals: PositiveInt = 2000,
        test_proposals: PositiveInt = 1000,
        regions: PositiveInt = 512,
        score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05,
        detections: PositiveInt = 100,
        pyramid_width: PositiveInt = 256,
        head_width: PositiveInt = 1024,
    ) -> None:
        """Build the detector for ``outputs`` classes.

        Args:
            backbone_weights: weights with which the backbone begins: torchvision:IMAGENET1K_V1, or the path of a
                checkpoint of the classifier; null: random ones.
            norms: batch norms of the backbone: frozen: constants; trained: as usual; null: frozen where
                backbone_weights are given, else trained.
            trainable_layers: how many of the backbone's five parts (the stem and the four stages) are trained, the
                deepest first; null: 3 where backbone_weights are given, else all.
            anchor_sizes: the side of the anchors in pixels, of each of the five levels of the pyramid.
            train_proposals: most proposals an image in train mode, before and after their suppression.
            test_proposals: the same in eval mode.
            regions: regions an image that the box head learns from.
            score_threshold: detections below this score are left out.
            detections: most detections an image.
            pyramid_width: channels of the pyramid.
            head_width: neurons of each of the box head's two layers.

        Raises:
            InputError: there are no such weights, or they do not fit.
        """
        from torchvision.models.detection import FasterRCNN
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.ops import MultiScaleRoIAlign

        given = backbone_weights is not None
        frozen = given if norms is None else norms == "frozen"
        model = FasterRCNN(
            _backbone(self.backbone, channels, pyramid_width, frozen=frozen),
            rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in anchor_sizes), (RATIOS,) * LAYERS),
            rpn_pre_nms_top_n_train=train_proposals,
            rpn_post_nms_top_n_train=train_proposals,
            rpn_pre_nms_top_n_test=test_proposals,
            rpn_post_nms_top_n_test=test_proposals,
            box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
            box_head=TwoMLPHead(pyramid_width * 7**2, head_width),
            box_predictor=FastRCNNPredictor(head_width, outputs + 1),
            box_batch_size_per_image=regions,
            box_score_thresh=score_threshold,
            box_detections_per_img=detections,
        )
        # Coordinates are exact under autocast too.
        model.rpn.anchor_generator.register_forward_pre_hook(_exact_maps)
        model.rpn.head.register_forward_hook(_exact_outputs)
        super().__init__(model, f"fasterrcnn_{self.backbone}_fpn", outputs, channels)
        if backbone_weights is not None:
            self._load_backbone(backbone_weights)
        self._freeze(trainable_layers if trainable_layers is not None else 3 if given else LAYERS)

    def forward(self, images: Tensor, batch: Batch[Boxes] | None = None, *, heads: bool = True) -> Detected | Features:
        """Map padded images ``[B, channels, H, W]`` to their output, or to their features alone.

        In train mode the losses need the boxes of the batch. Regions to learn from are drawn from torch's default
        generator of the device. Without ``heads`` the detector ends with its pyramid.
        """
        model = cast("FasterRCNN", self.model)
        stages = model.backbone.body(images)
        levels = model.backbone.fpn(stages)
        features = {f"stage{number}": map_ for number, map_ in enumerate(stages.values(), 1)}
        features |= {LEVELS[name]: map_ for name, map_ in levels.items()}
        if not heads:
            return Features(features, {})
        scene = Scene(model, images, levels, batch)
        if not self.training:
            return Found(features, scene)
        return scene.explore(features) if batch is None else scene.learn(truth_of(batch.targets), features)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return nothing: pre-activations are not tapped."""
        return {}

    def load_published(self, tag: str) -> None:
        """Load the weights of torchvision's detector, ``COCO_V1``; see `Wrapped.load_published`.

        The rows of the 11 ids that no category of COCO has are left out, so class 0 is COCO's first category.
        """
        weights = self._offered(tag)
        self.check_published(tag, classes=self.published_classes(tag), channels=3)
        from torchvision.models import get_model

        what = f"the weights '{tag}' of {self.title}"
        state = published_state(lambda: get_model(self.model_name, weights=weights), what, _place(weights))
        kept = _rows(weights)
        for name in ("cls_score.weight", "cls_score.bias", "bbox_pred.weight", "bbox_pred.bias"):
            key = f"roi_heads.box_predictor.{name}"
            rows = state[key].reshape(len(weights.meta["categories"]), -1, *state[key].shape[1:])
            state[key] = rows[kept].flatten(0, 1)
        for key in state:
            if key.endswith("running_var"):
                # Torchvision's norms add no epsilon to these variances, ours do.
                state[key] = state[key] - EPSILON
        self._take(self.model, state, what)

    def published_classes(self, tag: str) -> int:
        """Return for how many classes torchvision's weights are; see `Wrapped.published_classes`."""
        return len(_rows(self._offered(tag))) - 1

    def _offered(self, tag: str) -> WeightsEnum:
        from torchvision.models import get_model_weights, list_models

        if self.model_name not in list_models():
            raise InputError(
                f"torchvision has no trained detector on {self.backbone}; give auto or the path of a checkpoint, or"
                " set name: faster_rcnn_resnet50_fpn with torchvision:COCO_V1"
            )
        return _member(get_model_weights(self.model_name).__members__, tag, self.title)

    def _load_backbone(self, given: str) -> None:
        """Begin with the weights of a classifier, by torchvision's name or from a file."""
        body, what = cast("FasterRCNN", self.model).backbone.body, f"backbone_weights: {given}"
        if not given.startswith(f"{PACKAGE}:"):
            self._take(body, read_state(Path(given), where="backbone_weights").state, what)
            return
        from torchvision.models import get_model, get_model_weights

        weights = _member(get_model_weights(self.backbone).__members__, given.partition(":")[2], self.backbone)
        state = published_state(lambda: get_model(self.backbone, weights=weights), what, _place(weights))
        self._take(body, {key.removeprefix("features."): value for key, value in state.items()}, what)

    def _take(self, module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
        """Load what a module has from a state, which may have more."""
        own = module.state_dict()
        for name, value in own.items():
            if name.endswith("num_batches_tracked"):
                continue
            if name not in state or state[name].shape != value.shape:
                found = f"has the shape {[*state[name].shape]}" if name in state else "is missing"
                raise InputError(
                    f"{what}: {name} {found}, but {self.title} with these options needs {[*value.shape]}; give other"
                    " weights, or correct the options"
                )
        module.load_state_dict({**own, **{name: state[name] for name in own if name in state}})

    def _freeze(self, trained: int) -> None:
        body = cast("FasterRCNN", self.model).backbone.body
        for names in _parts(self.backbone)[: LAYERS - trained]:
            for name in names:
                body.get_submodule(name).requires_grad_(False)


@NETWORKS.register("faster_rcnn_resnet18_fpn", source=SOURCE)
class FasterRcnnResNet18(FasterRcnn):
    """Faster R-CNN with a feature pyramid on ResNet-18."""

    backbone = "resnet18"


@NETWORKS.register("faster_rcnn_resnet50_fpn", source=SOURCE)
class FasterRcnnResNet50(FasterRcnn):
    """Faster R-CNN with a feature pyramid on ResNet-50; torchvision has weights of it for COCO."""

    backbone = "resnet50"


@NETWORKS.register("faster_rcnn_resnet101_fpn", source=SOURCE)
class FasterRcnnResNet101(FasterRcnn):
    """Faster R-CNN with a feature pyramid on ResNet-101."""

    backbone = "resnet101"


@NETWORKS.register("faster_rcnn_mobilenet_v2_fpn", source=SOURCE)
class FasterRcnnMobileNetV2(FasterRcnn):
    """Faster R-CNN with a feature pyramid on MobileNetV2."""

    backbone = "mobilenet_v2"


EPSILON = 1e-5
"""What batch norms, frozen or not, add to a variance."""


def _parts(backbone: str) -> tuple[tuple[str, ...], ...]:
    return INVERTED if backbone == "mobilenet_v2" else RESIDUAL


def _backbone(name: str, channels: int, width: int, *, frozen: bool) -> BackboneWithFPN:
    from torchvision.models import get_model
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.ops import FrozenBatchNorm2d

    model = get_model(name, norm_layer=FrozenBatchNorm2d if frozen else nn.BatchNorm2d)
    if channels != 3:
        replace_first_convolution(model, channels)
    stages = {part[-1]: str(number) for number, part in enumerate(_parts(name)[1:])}
    return BackboneWithFPN(getattr(model, "features", model), stages, list(WIDTHS[name]), width)


def _member(offered: Mapping[str, WeightsEnum], tag: str, title: str) -> WeightsEnum:
    if tag not in offered:
        raise InputError(f"{title} has no weights '{tag}'{did_you_mean(tag, offered)}")
    return offered[tag]


def _place(weights: WeightsEnum) -> str:
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    return f"download {weights.url} on a machine with a network and put it at {file}"


def _rows(weights: WeightsEnum) -> list[int]:
    """Return the rows of the published head that stand for the background and for categories."""
    return [row for row, name in enumerate(weights.meta["categories"]) if name != "N/A"]


def _exact_maps(module: nn.Module, given: tuple[object, list[Tensor]]) -> tuple[object, list[Tensor]]:
    """Let anchors have coordinates in float32 at least; of the maps only the sizes are read."""
    images, maps = given
    return images, [exact(map_[:1, :1]) for map_ in maps]


def _exact_outputs(module: nn.Module, given: object, found: tuple[list[Tensor], list[Tensor]]) -> object:
    """Let objectness and shifts of anchors be in float32 at least."""
    return tuple([exact(map_) for map_ in maps] for maps in found)
