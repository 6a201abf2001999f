"""Detectors: torchvision's numbers, its weights and those of backbones, frozen parts, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

from tskd_tune.contracts import Batch, Boxes, Detected
from tskd_tune.errors import InputError
from tskd_tune.networks import NETWORKS, Network, pretrained
from tskd_tune.networks.weights import head_classes, load_into, write_state

SMALL = {"pyramid_width": 16, "head_width": 16, "regions": 32, "train_proposals": 64, "test_proposals": 32}
RESNET, MOBILENET = "faster_rcnn_resnet18_fpn", "faster_rcnn_mobilenet_v2_fpn"


def detector(name: str = RESNET, outputs: int = 3, **options: Any) -> Network[Detected]:
    torch.manual_seed(0)
    made: Any = NETWORKS.build(name, outputs, 3, **{**SMALL, **options})
    return cast("Network[Detected]", made)


def model_of(network: Network[Detected]) -> Any:
    return network.get_submodule("model")


def batch() -> Batch[Boxes]:
    corners = [torch.tensor([[4.0, 4, 40, 32], [16, 8, 60, 50]]), torch.tensor([[0.0, 0, 30, 60]])]
    boxes = Boxes.padded(corners, [torch.tensor([0, 2]), torch.tensor([1])])
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return Batch(images, boxes, torch.arange(2), torch.tensor([[64, 64], [64, 64]]))


class Untransformed(nn.Module):
    """What torchvision's detector does to images before all else, without changing anything."""

    def forward(self, images: list[torch.Tensor], targets: Any) -> Any:
        from torchvision.models.detection.image_list import ImageList

        return ImageList(torch.stack(images), [(64, 64)] * len(images)), targets

    def postprocess(self, found: Any, *sizes: Any) -> Any:
        return found


def test_losses_and_detections_are_those_of_torchvisions_own_forward() -> None:
    network, given = detector(score_threshold=0.0), batch()
    model = model_of(network)
    model.transform = Untransformed()
    truth = [
        {"boxes": given.targets.corners[image, :count], "labels": given.targets.labels[image, :count] + 1}
        for image, count in enumerate((2, 1))
    ]
    torch.manual_seed(5)
    expected = model(list(given.images), truth)
    torch.manual_seed(5)
    losses = network(given.images, given).losses
    names = {"classifier": "loss_classifier", "box": "loss_box_reg"}
    names |= {"objectness": "loss_objectness", "rpn_box": "loss_rpn_box_reg"}
    assert {name: float(loss.detach()) for name, loss in losses.items()} == {
        ours: float(expected[theirs].detach()) for ours, theirs in names.items()
    }
    network.eval()
    wanted, found = model(list(given.images)), network(given.images, given).detections
    assert found.scores is not None and bool(found.counts.any())
    for image, count in enumerate(found.counts.tolist()):
        torch.testing.assert_close(found.corners[image, :count], wanted[image]["boxes"])
        torch.testing.assert_close(found.scores[image, :count], wanted[image]["scores"])
        assert torch.equal(found.labels[image, :count], wanted[image]["labels"] - 1)


def test_proposals_stay_within_the_true_size_of_an_image() -> None:
    network, given = detector().eval(), batch()
    sizes = torch.tensor([[64, 40], [32, 64]])
    corners = network(given.images, Batch(given.images, given.targets, given.indices, sizes)).proposals.corners
    assert bool((corners[0, :, 2] <= 40).all()) and bool((corners[1, :, 3] <= 32).all())


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_torchvisions_weights_for_coco_lose_the_rows_of_no_category(cache: Path) -> None:
    torch.manual_seed(1)
    own = get_model("fasterrcnn_resnet50_fpn", weights=None, weights_backbone=None, num_classes=91).state_dict()
    torch.save(own, cache / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")
    network: Any = NETWORKS.build("faster_rcnn_resnet50_fpn", 80)
    pretrained.load_published(network, "torchvision:COCO_V1", name="faster_rcnn_resnet50_fpn")
    state = network.state_dict()
    assert torch.equal(state["backbone.fpn.inner_blocks.0.0.weight"], own["backbone.fpn.inner_blocks.0.0.weight"])
    scores, shifts = (f"roi_heads.box_predictor.{name}.weight" for name in ("cls_score", "bbox_pred"))
    # Class 10 is the fire hydrant, id 11; there is no id 12; class 11 is the stop sign, id 13.
    assert torch.equal(state[scores][[0, 1, 11, 12, 80]], own[scores][[0, 1, 11, 13, 90]])
    assert torch.equal(state[shifts][48:52], own[shifts][52:56])
    # Torchvision's own network of these weights has norms without epsilon.
    torch.testing.assert_close(state["backbone.body.bn1.running_var"] + 1e-5, own["backbone.body.bn1.running_var"])
    theirs = get_model("fasterrcnn_resnet50_fpn", weights="COCO_V1").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = network.eval()(images, heads=False).features
        wanted = theirs.backbone(images)
    torch.testing.assert_close(found["fpn0"], wanted["0"])
    torch.testing.assert_close(found["fpn_pool"], wanted["pool"])


def test_published_weights_that_do_not_fit_are_refused(cache: Path) -> None:
    def refusal(network: Any, weights: str = "torchvision:COCO_V1") -> str:
        with pytest.raises(InputError) as caught:
            pretrained.load_published(network, weights, name=RESNET)
        return str(caught.value)

    resnet50 = "faster_rcnn_resnet50_fpn"
    assert "are for 80 classes and 3 channels, but the task has 3 classes" in refusal(detector(resnet50))
    assert "has no weights 'COCO_V7'" in refusal(detector(resnet50, 80), "torchvision:COCO_V7")
    assert refusal(detector()) == (
        "teacher.weights: torchvision has no trained detector on resnet18; give auto or the path of a checkpoint, or"
        " set name: faster_rcnn_resnet50_fpn with torchvision:COCO_V1"
    )


@pytest.mark.parametrize(("name", "backbone"), [(RESNET, "resnet18"), (MOBILENET, "mobilenet_v2")])
def test_a_backbone_begins_with_the_weights_of_a_classifier(
    cache: Path, tmp_path: Path, name: str, backbone: str
) -> None:
    from torchvision.models import get_model_weights

    torch.manual_seed(1)
    own = get_model(backbone)
    torch.save(own.state_dict(), cache / Path(get_model_weights(backbone)["IMAGENET1K_V1"].url).name)
    body = {key.removeprefix("features."): value for key, value in own.state_dict().items()}
    torch.save({"model": body}, tmp_path / "body.pth")
    for weights in ("torchvision:IMAGENET1K_V1", str(tmp_path / "body.pth")):
        network = detector(name, backbone_weights=weights)
        state = model_of(network).backbone.body.state_dict()
        assert state and all(torch.equal(value, body[key]) for key, value in state.items())
        norms = [part for part in network.modules() if isinstance(part, FrozenBatchNorm2d | nn.BatchNorm2d)]
        assert all(isinstance(part, FrozenBatchNorm2d) for part in norms)


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    torch.save(get_model("mobilenet_v2").state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"backbone_weights: .*other.pth: conv1.weight is missing, but torchvision's"):
        detector(backbone_weights=str(tmp_path / "other.pth"))


@pytest.mark.parametrize(
    ("trained", "frozen"), [(5, set()), (3, {"conv1", "bn1", "layer1"}), (0, {"conv1", "bn1", *"1234"})]
)
def test_the_first_layers_are_frozen(trained: int, frozen: set[str]) -> None:
    body = model_of(detector(trainable_layers=trained)).backbone.body
    still = {key.partition(".")[0] for key, value in body.named_parameters() if not value.requires_grad}
    assert still == {f"layer{name}" if name.isdecimal() else name for name in frozen}


def test_mobilenets_stages_end_where_its_size_halves() -> None:
    features = detector(MOBILENET).probe(3, 64).features
    assert [features[f"stage{number}"] for number in (1, 2, 3, 4)] == [
        *((24, 16, 16), (32, 8, 8), (96, 4, 4), (320, 2, 2)),
    ]
    assert features["fpn_pool"] == (16, 1, 1)


def test_a_state_goes_to_frozen_norms_and_back(tmp_path: Path) -> None:
    trained, frozen = detector(), detector(norms="frozen")
    given = batch()
    trained(given.images, given)  # so that the running statistics differ from those of a new network
    write_state(tmp_path / "detector.pth", trained, facts={})
    load_into(frozen, tmp_path / "detector.pth", name=RESNET)
    maps = [network.eval()(given.images, given).features["fpn0"] for network in (trained, frozen)]
    torch.testing.assert_close(*maps)
    assert head_classes(frozen.state_dict()) == 3


def test_a_detector_of_another_backbone_is_named(tmp_path: Path) -> None:
    wide: Any = NETWORKS.build(RESNET, 3)
    write_state(tmp_path / "detector.pth", wide, facts={})
    with pytest.raises(InputError) as caught:
        load_into(detector(MOBILENET, pyramid_width=256, head_width=1024), tmp_path / "detector.pth", name=MOBILENET)
    assert f"the file is a {RESNET} with 3 classes for images of 3 channels: set name: {RESNET}" in str(caught.value)


def test_coordinates_stay_exact_under_autocast() -> None:
    network, given = detector().eval(), batch()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        output = network(given.images, given)
        assert output.features["fpn0"].dtype is torch.bfloat16
        assert output.proposals.corners.dtype is output.classify(given.targets).dtype is torch.float32
    # Steps of bfloat16 would be whole pixels here.
    corners = output.proposals.corners[output.proposals.valid]
    assert not torch.equal(corners, corners.bfloat16().float())


def test_in_channels_last_it_gives_the_same() -> None:
    network, given = detector().eval().double(), batch()
    images = given.images.double()
    expected = network(images, given)
    network.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    found = network(images, given)
    torch.testing.assert_close(found.features["fpn0"], expected.features["fpn0"])
    torch.testing.assert_close(found.proposals.corners, expected.proposals.corners)
