from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from tskd_tune.errors import InputError
from tskd_tune.networks import NETWORKS, build


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1"])
@pytest.mark.parametrize("training", [True, False])
def test_a_probe_leaves_no_trace(name, training):
    network = build(name, classes=4, channels=1).train(training)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    shapes = network.probe(channels=1, size=8)
    assert shapes.logits == (4,)
    assert all(module.training is training for module in network.modules())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_probe_draws_no_random_numbers():
    network = build("resnet8", classes=4)
    state = torch.get_rng_state()
    network.probe(3, 8)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_registered_networks():
    assert set(NETWORKS.names()) >= {
        *(f"resnet{depth}" for depth in (8, 14, 20, 32, 44, 56, 110, "8x4", "32x4")),
        *("wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2"),
        *("vgg8", "vgg13", "resnet18", "resnet34", "resnet50", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2"),
        *("torchvision", "timm"),
        *(f"faster_rcnn_{backbone}_fpn" for backbone in ("resnet18", "resnet50", "resnet101", "mobilenet_v2")),
    }


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"'wrn-40-2' is not among the networks; did you mean 'wrn_40_2'\?"):
        build("wrn-40-2", classes=10)


def test_an_unknown_option_is_refused():
    with pytest.raises(ValidationError, match="unknown key 'widen'"):
        build("resnet8", classes=10, widen=2)


@pytest.mark.parametrize(("classes", "channels"), [(0, 3), (10, 0)])
def test_networks_without_classes_or_channels_are_refused(classes, channels):
    sentence = f"resnet8: classes and channels must be at least 1, got {classes} and {channels}"
    with pytest.raises(InputError) as caught:
        build("resnet8", classes=classes, channels=channels)
    assert str(caught.value) == sentence


def test_descriptions_say_what_a_network_is():
    described = {entry["name"]: entry for entry in NETWORKS.describe()}
    assert described["resnet8"]["options"] == {}
    assert "1512.03385" in described["resnet8"]["source"]
    assert "1605.07146" in described["wrn_40_2"]["source"]
    documents = {name: NETWORKS.options(name).__doc__ for name in ("resnet110", "wrn_40_2")}
    assert documents["resnet110"] == "The residual network of depth 110; stem and stages of (16, 16, 32, 64) channels."
    assert documents["wrn_40_2"] == "The wide residual network of depth 40, widened 2 times."
