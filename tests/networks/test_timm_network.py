from __future__ import annotations

import copy
import sys
from itertools import product

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tskd_tune.errors import InputError
from tskd_tune.method.taps import Taps
from tskd_tune.networks import build
from tskd_tune.testing.networks import check_cut

timm = pytest.importorskip("timm")

RESNET = ("stem", "stage1", "stage2", "stage3", "stage4")


def network(model: str, seed: int = 0, classes: int = 7, **options):
    torch.manual_seed(seed)
    return build("timm", classes=classes, model=model, **options)


def backbone(model: str, state) -> nn.Module:
    """Return timm's own feature network with the weights of a classifier, which has the same order of parameters."""
    taken = timm.create_model(model, features_only=True, out_indices=None if "vit" not in model else range(6))
    own = taken.state_dict()
    with torch.no_grad():
        for target, source in zip(own.values(), state.values(), strict=False):
            target.copy_(source)
    return taken


@pytest.mark.parametrize(("model", "size"), [("test_resnet", 64), ("test_convnext", 64), ("test_vit", 160)])
def test_everything_is_what_timms_classifier_and_backbone_give(model, size):
    ours = network(model).eval()
    own = timm.create_model(model, num_classes=7)
    own.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, size, size)
    output, last = ours(images), own.eval().forward_features(images)

    torch.testing.assert_close(output.logits, own(images))
    torch.testing.assert_close(output.embedding, own.forward_head(last, pre_logits=True))
    torch.testing.assert_close(output.logits, own.get_classifier()(output.embedding))
    features = backbone(model, ours.state_dict()).eval()(images)
    for given, expected in zip(output.features.values(), features, strict=True):
        torch.testing.assert_close(given, expected)


@pytest.mark.parametrize(
    ("model", "size", "options"),
    [
        ("test_resnet", 64, {}),
        ("test_efficientnet", 64, {}),
        ("test_convnext", 64, {}),
        ("test_vit", 160, {}),
        ("test_resnet", 64, {"stages": [0, 2]}),
    ],
)
def test_without_their_heads_models_end_at_their_last_tap(model, size, options):
    check_cut(network(model, **options).eval(), torch.randn(2, 3, size, size))


def test_one_forward_trains_one_network():
    ours = network("test_resnet")
    own = timm.create_model("test_resnet", num_classes=7)
    assert [parameter.shape for parameter in ours.parameters()] == [parameter.shape for parameter in own.parameters()]
    output = ours(torch.randn(4, 3, 32, 32))
    tracked = {int(value) for key, value in ours.state_dict().items() if key.endswith("tracked")}
    assert tracked == {1}
    # The features are on the path to the logits: a gradient of the logits arrives at them.
    reached = torch.autograd.grad(output.logits.sum(), list(output.features.values()))
    assert all(gradient.any() for gradient in reached)


@pytest.mark.parametrize(
    ("model", "size", "names"),
    [
        ("test_resnet", 64, dict(zip(RESNET, (32, 16, 8, 4, 2), strict=True))),
        ("test_efficientnet", 64, dict(zip(RESNET, (32, 16, 8, 4, 2), strict=True))),
        ("mobilenetv1_100", 64, dict(zip(RESNET, (32, 16, 8, 4, 2), strict=True))),
        ("test_convnext", 64, dict(zip(RESNET[1:], (16, 8, 4, 2), strict=True))),
        ("test_vit", 160, {f"stage{number}": 10 for number in range(1, 7)}),
    ],
)
def test_levels_are_named_by_how_much_they_divide_the_image(model, size, names):
    shapes = network(model).probe(3, size)
    assert {stage: shape[-1] for stage, shape in shapes.features.items()} == names
    assert shapes.preactivations == {}
    assert network(model).stage_norms() == {}


def test_chosen_levels_become_the_stages():
    every, chosen = network("test_resnet"), network("test_resnet", stages=[0, 2, 4])
    images = torch.randn(2, 3, 64, 64)
    all_maps, maps = every.eval()(images).features, chosen.eval()(images).features
    assert list(maps) == ["stage1", "stage2", "stage3"]
    for stage, source in zip(maps, ("stem", "stage2", "stage4"), strict=True):
        torch.testing.assert_close(maps[stage], all_maps[source])


@pytest.mark.parametrize("stages", [[], [2, 1], [1, 1], [1, 5]])
def test_levels_that_are_not_there_are_refused(stages):
    with pytest.raises(InputError) as caught:
        network("test_resnet", stages=stages)
    assert str(caught.value) == (
        "timm's test_resnet: stages must be rising numbers of its levels, which are 0 (1/2), 1 (1/4), 2 (1/8),"
        f" 3 (1/16), 4 (1/32); got {stages}"
    )


def test_options_are_checked():
    with pytest.raises(ValidationError, match="model"):
        build("timm", classes=7)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        network("test_resnet", stages=[-1])
    with pytest.raises(InputError, match=r"^timm has no model 'resnet51'; did you mean 'resnet.*'\? timm.list_models"):
        network("resnet51")
    with pytest.raises(InputError, match=r"^timm has no model 'hf-hub:timm/resnet18'; "):
        network("hf-hub:timm/resnet18")


def test_a_model_with_two_classifiers_is_refused():
    with pytest.raises(
        InputError, match=r"^timm's levit_128s gives no access to its stages, or has more than one classifier"
    ):
        network("levit_128s")


def test_images_of_another_size_than_a_transformer_takes_are_refused():
    sentence = r"^timm's vit_tiny_patch16_224: a forward of images \[3, 32, 32\] fails \(.*32.*224.*\);"
    with pytest.raises(InputError, match=sentence):
        network("vit_tiny_patch16_224").probe(3, 32)


def test_a_machine_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError) as caught:
        network("test_resnet")
    assert str(caught.value) == "timm's networks need the package timm, which is not installed: pip install timm"


def test_gray_images_are_taken():
    assert network("test_resnet", channels=1).probe(1, 32).logits == (7,)


def test_names_are_timms_own_alone_and_within_another_network():
    ours, again = network("test_resnet", seed=0), network("test_resnet", seed=1)
    own = timm.create_model("test_resnet", num_classes=7)
    assert list(ours.state_dict()) == list(own.state_dict())

    again.load_state_dict(own.state_dict())
    assert all(torch.equal(value, own.state_dict()[key]) for key, value in again.state_dict().items())

    both = nn.ModuleDict({"first": ours, "second": nn.Sequential(again)})
    names = [f"{prefix}.{key}" for prefix, key in product(("first", "second.0"), own.state_dict())]
    assert list(both.state_dict()) == names
    swapped = nn.ModuleDict({"first": copy.deepcopy(again), "second": nn.Sequential(copy.deepcopy(ours))})
    swapped.load_state_dict(both.state_dict())
    assert all(torch.equal(value, swapped.state_dict()[key]) for key, value in both.state_dict().items())
    with pytest.raises(RuntimeError, match=r"Missing key.*fc\.weight"):
        ours.load_state_dict({key: value for key, value in own.state_dict().items() if key != "fc.weight"})


def test_a_review_before_the_activation_is_refused():
    shapes = network("test_resnet").probe(3, 32)
    with pytest.raises(InputError, match="the teacher has no pre-activation of stage 'stage1'; .*'post'$"):
        Taps(build("resnet8", classes=7).probe(3, 32), shapes, teacher_point="pre", layers=["stage1"])
