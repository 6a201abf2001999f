from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn
from torchvision import models
from torchvision.models import vgg

from tskd_tune.errors import InputError
from tskd_tune.networks import build
from tskd_tune.networks.torchvision_network import FAMILIES, Tap
from tskd_tune.testing.networks import check_cut

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")
HALVED = (32, 16, 8, 4, 2)
# model -> the channels of its stages, and their heights of 64: residual nets and MobileNetV2 as in mdistiller
TAPPED = {
    "resnet18": ((64, 64, 128, 256, 512), HALVED),
    "resnet50": ((64, 256, 512, 1024, 2048), HALVED),
    "regnet_y_400mf": ((32, 48, 104, 208, 440), HALVED),
    "densenet121": ((64, 256, 512, 1024, 1024), HALVED),
    "shufflenet_v2_x1_0": ((24, 116, 232, 464), (32, 8, 4, 2)),
    "mobilenet_v2": ((32, 24, 32, 96, 320), HALVED),
    "mobilenet_v3_small": ((16, 16, 24, 48, 96), HALVED),
    "mobilenet_v3_large": ((16, 24, 40, 112, 160), HALVED),
    "efficientnet_b0": ((32, 24, 40, 112, 320), HALVED),
    "convnext_tiny": ((96, 96, 192, 384, 768), (16, 16, 8, 4, 2)),
}
BEFORE_TOO = ("resnet18", "resnet50", "regnet_y_400mf")
EVERY = [
    *("resnet34", "resnext50_32x4d", "wide_resnet50_2", "regnet_x_400mf", "efficientnet_v2_s", "efficientnet_v2_m"),
    *("vgg11", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "densenet201", "shufflenet_v2_x0_5", "convnext_small"),
]


def network(model: str, classes: int = 7, **options):
    torch.manual_seed(0)
    return build("torchvision", classes=classes, model=model, **options)


@pytest.mark.parametrize("model", TAPPED)
def test_stages_are_where_the_field_taps_them(model):
    ours = network(model)
    channels, sizes = TAPPED[model]
    expected = {stage: (width, side, side) for stage, width, side in zip(STAGES, channels, sizes, strict=False)}
    shapes = ours.probe(3, 64)
    assert shapes.features == expected
    assert list(shapes.features) == list(expected)
    before = expected if model in BEFORE_TOO else {}
    assert shapes.preactivations == before
    assert {stage: len(norm.weight) for stage, norm in ours.stage_norms().items()} == {
        stage: shape[0] for stage, shape in before.items()
    }

    own = models.get_model(model, num_classes=7)
    assert list(ours.state_dict()) == list(own.state_dict())
    own.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 64)
    output = ours.eval()(images)
    torch.testing.assert_close(output.logits, own.eval()(images))
    head = [part for part in own.modules() if isinstance(part, nn.Linear)][-1]
    torch.testing.assert_close(output.logits, head(output.embedding))


@pytest.mark.parametrize("model", TAPPED)
def test_without_their_heads_the_families_end_at_their_last_tap(model):
    check_cut(network(model).eval(), torch.randn(2, 3, 64, 64))


@pytest.mark.long
@pytest.mark.parametrize("model", EVERY)
def test_other_models_of_the_families_are_tapped_too(model):
    shapes = network(model).probe(3, 64)
    sizes = (64, 32, 16, 8, 4) if model.startswith("vgg") else (32, 8, 4, 2) if "shuffle" in model else None
    expected = sizes or ((16, 16, 8, 4, 2) if "convnext" in model else HALVED)
    assert tuple(shape[-1] for shape in shapes.features.values()) == expected


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_values_of_residual_nets_are_those_of_their_parts(model):
    ours = network(model)
    images = torch.randn(4, 3, 32, 32)
    part = ours.model
    output = ours(images)

    def last_sum(block, x):
        inner = part.relu(block.bn1(block.conv1(x)))
        inner = block.bn2(block.conv2(inner))
        if hasattr(block, "bn3"):
            inner = block.bn3(block.conv3(part.relu(inner)))
        return inner + (x if block.downsample is None else block.downsample(x))

    # In training mode: the statistics are those of the batch in both.
    before = part.bn1(part.conv1(images))
    torch.testing.assert_close(output.preactivations["stem"], before)
    torch.testing.assert_close(output.features["stem"], F.relu(before))
    x = part.maxpool(F.relu(before))
    for number in range(1, 5):
        *first, last = getattr(part, f"layer{number}")
        for block in first:
            x = block(x)
        total = last_sum(last, x)
        x = F.relu(total)
        torch.testing.assert_close(output.preactivations[f"stage{number}"], total)
        torch.testing.assert_close(output.features[f"stage{number}"], x)
    torch.testing.assert_close(output.embedding, x.mean((2, 3)))


def test_every_batch_norm_runs_once_a_forward():
    ours = network("resnet18")
    ours(torch.randn(2, 3, 32, 32))
    assert {int(value) for key, value in ours.state_dict().items() if key.endswith("tracked")} == {1}


@pytest.mark.parametrize("model", ["mobilenet_v3_small", "efficientnet_b0"])
def test_the_embedding_is_what_the_classifier_reads_in_training_too(model):
    ours = network(model)
    output = ours(torch.randn(8, 3, 32, 32))
    head = [part for part in ours.modules() if isinstance(part, nn.Linear)][-1]
    torch.testing.assert_close(output.logits, head(output.embedding))


@pytest.mark.parametrize(
    ("model", "last"), [("resnet18", "layer2.1.bn2"), ("resnet50", "layer2.3.bn3"), ("regnet_y_400mf", None)]
)
def test_the_norm_of_a_stage_is_the_one_before_its_sum(model, last):
    ours = network(model).eval()
    norm = ours.stage_norms()["stage2"]
    own = dict(ours.model.named_modules())[last or "trunk_output.block2.block2-2.f.c.1"]
    assert norm.weight.data_ptr() == own.weight.data_ptr()
    assert norm.bias.data_ptr() == own.bias.data_ptr()
    images = torch.randn(2, 3, 32, 32)
    before = ours(images).preactivations["stage2"].clone()
    norm.bias.add_(3.0)
    torch.testing.assert_close(ours(images).preactivations["stage2"], before + 3.0)


@pytest.mark.parametrize(("batch_norm", "step"), [(True, 3), (False, 2)])
def test_vgg_is_tapped_before_its_pools(batch_norm, step):
    # Configuration A of the paper; a stand-in for vgg11, whose linear layers alone have 120 million weights.
    layers = vgg.make_layers([64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"], batch_norm)
    stand_in = nn.Module()
    stand_in.features = layers
    taps = FAMILIES["vgg"](stand_in)
    assert list(taps) == list(STAGES)
    convolutions = (1, 1, 2, 2, 2)
    place = -1
    for stage, count in zip(STAGES, convolutions, strict=True):
        place += count * step
        activation = f"features.{place}"
        assert taps[stage] == Tap(activation, f"features.{place - 1}" if batch_norm else None)
        assert isinstance(stand_in.get_submodule(activation), nn.ReLU)
        place += 1  # the pool
        assert isinstance(stand_in.get_submodule(f"features.{place}"), nn.MaxPool2d)


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2", "convnext_tiny"])
def test_gray_images_get_a_first_convolution_of_their_own(model):
    ours, colored = network(model, channels=1), network(model)
    differing = [key for key, value in ours.state_dict().items() if value.shape != colored.state_dict()[key].shape]
    first = next(key for key, value in colored.state_dict().items() if value.ndim == 4)
    assert differing == [first]
    assert ours.state_dict()[first].shape[1] == 1
    assert ours.state_dict()[first].std() > 0
    assert ours.probe(1, 32).logits == (7,)


def test_options_are_checked():
    with pytest.raises(ValidationError, match="model"):
        build("torchvision", classes=7)
    with pytest.raises(
        InputError, match=r"^torchvision has no classifier 'resnet51'; did you mean 'resnet.*'\? known:"
    ):
        network("resnet51")
    # A detector is a model of torchvision, too.
    with pytest.raises(InputError, match=r"^torchvision has no classifier 'fcos_resnet50_fpn'"):
        network("fcos_resnet50_fpn")


@pytest.mark.parametrize("model", ["vit_h_14", "swin_t", "squeezenet1_0", "googlenet"])
def test_models_whose_stages_are_not_known_are_refused_at_once(model):
    with pytest.raises(InputError) as caught:
        network(model)
    assert str(caught.value) == (
        f"the stages of torchvision's {model} are not known here, only those of the families resnet, regnet, vgg,"
        " densenet, shufflenetv2, mobilenetv2, mobilenetv3, efficientnet, convnext; choose one of these, or a timm"
        " model by name: timm"
    )


def test_a_copy_has_its_own_taps():
    ours = network("resnet18").eval()
    copied = copy.deepcopy(ours)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        copied.model.layer3[-1].bn2.bias.add_(1.0)
    first, second = ours(images), copied(images)
    assert torch.equal(first.preactivations["stage2"], second.preactivations["stage2"])
    assert not torch.equal(first.preactivations["stage3"], second.preactivations["stage3"])
    hooks = [list(part._forward_hooks) for part in ours.modules()]
    ours(images).logits.sum().backward()
    assert hooks == [list(part._forward_hooks) for part in ours.modules()], "a forward adds and removes no hook"
    copy.deepcopy(ours)  # which a tensor with a gradient, left in a tap, would prevent
