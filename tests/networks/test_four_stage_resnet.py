from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tskd_tune.networks import build
from tskd_tune.networks.four_stage_resnet import BasicBlock, Bottleneck, FourStageResNet

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")
# name -> the parameters with 100 classes, as the public repositories print them
COUNTS = {"resnet18": 11_220_132, "resnet34": 21_328_292, "resnet50": 23_705_252}
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def keys(name):
    """The names of RepDistiller's resnetv2.py."""
    convolutions = 3 if name == "resnet50" else 2
    expected = ["conv1.weight", *(f"bn1.{part}" for part in NORM)]
    for stage, depth in enumerate(DEPTHS[name], 1):
        for block in range(depth):
            prefix = f"layer{stage}.{block}"
            for number in range(1, convolutions + 1):
                expected += [f"{prefix}.conv{number}.weight", *(f"{prefix}.bn{number}.{part}" for part in NORM)]
            if block == 0 and (stage > 1 or name == "resnet50"):
                expected += [f"{prefix}.shortcut.0.weight", *(f"{prefix}.shortcut.1.{part}" for part in NORM)]
    return [*expected, "linear.weight", "linear.bias"]


def reference(state, images, depths, bottleneck):
    """The network in training mode, written out; returns logits, sums, maps, pooled."""

    def norm(x, name):
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        scale, shift = state[f"{name}.weight"].view(1, -1, 1, 1), state[f"{name}.bias"].view(1, -1, 1, 1)
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    sums = {"stem": norm(conv(images, "conv1"), "bn1")}
    x = sums["stem"].clamp(min=0)
    maps = {"stem": x}
    for stage, depth in enumerate(depths, 1):
        for block in range(depth):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            # A bottleneck strides in its 3x3 convolution, a basic block in its first one.
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            inner = x
            for number, own_stride in enumerate(strides, 1):
                total = norm(conv(inner, f"{name}.conv{number}", own_stride), f"{name}.bn{number}")
                inner = total.clamp(min=0)
            if f"{name}.shortcut.0.weight" in state:
                total = total + norm(conv(x, f"{name}.shortcut.0", stride), f"{name}.shortcut.1")
            else:
                total = total + x
            x = total.clamp(min=0)
        sums[f"stage{stage}"], maps[f"stage{stage}"] = total, x
    pooled = x.mean((2, 3))
    return pooled @ state["linear.weight"].T + state["linear.bias"], sums, maps, pooled


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_names_and_shapes_are_those_of_the_field(name):
    network = build(name, classes=100)
    assert sum(parameter.numel() for parameter in network.parameters()) == COUNTS[name]
    assert list(network.state_dict()) == keys(name)
    factor = 4 if name == "resnet50" else 1
    shapes = network.probe(3, 32)
    assert shapes.features == shapes.preactivations == {
        "stem": (64, 32, 32),
        "stage1": (64 * factor, 32, 32),
        "stage2": (128 * factor, 16, 16),
        "stage3": (256 * factor, 8, 8),
        "stage4": (512 * factor, 4, 4),
    }  # fmt: skip
    assert shapes.embedding == (512 * factor,)


def test_images_of_64_pixels_are_taken():
    shapes = build("resnet18", classes=200).probe(3, 64)
    assert [shape[1:] for shape in shapes.features.values()] == [(64, 64), (64, 64), (32, 32), (16, 16), (8, 8)]
    assert shapes.logits == (200,)


@pytest.mark.parametrize(("block", "depths"), [(BasicBlock, (1, 2, 1, 1)), (Bottleneck, (2, 1, 1, 1))])
def test_values_and_gradients_are_those_of_the_written_out_network(block, depths):
    torch.manual_seed(0)
    network = FourStageResNet(block, depths, classes=5).double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    state = {key: parameter.detach().clone().requires_grad_() for key, parameter in network.named_parameters()}
    output, (logits, sums, maps, pooled) = network(images), reference(state, images, depths, block is Bottleneck)

    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.embedding, pooled)
    for stage in STAGES:
        torch.testing.assert_close(output.preactivations[stage], sums[stage])
        torch.testing.assert_close(output.features[stage], maps[stage])

    def loss(logits, sums, maps):
        return logits.square().mean() + sum((x**3).mean() for x in (*sums.values(), *maps.values()))

    loss(output.logits, output.preactivations, output.features).backward()
    loss(logits, sums, maps).backward()
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, state[key].grad, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize(("block", "last"), [(BasicBlock, "bn2"), (Bottleneck, "bn3")])
def test_the_norm_of_a_stage_is_the_last_one_before_its_sum(block, last):
    network = FourStageResNet(block, (2, 1, 1, 1), classes=5)
    parameters = dict(network.named_parameters())
    names = {"stem": "bn1", "stage1": f"layer1.1.{last}"} | {f"stage{n}": f"layer{n}.0.{last}" for n in (2, 3, 4)}
    norms = network.stage_norms()
    assert list(norms) == list(names)
    for stage, name in names.items():
        assert norms[stage].weight.data_ptr() == parameters[f"{name}.weight"].data_ptr()
        assert norms[stage].bias.data_ptr() == parameters[f"{name}.bias"].data_ptr()
        assert not norms[stage].weight.requires_grad


def test_convolutions_start_with_the_deviation_of_their_outputs():
    torch.manual_seed(0)
    for key, weight in FourStageResNet(Bottleneck, (1, 1, 1, 1), classes=5).named_parameters():
        if weight.ndim == 4:
            expected = math.sqrt(2 / (weight.shape[0] * weight.shape[2] * weight.shape[3]))
            assert weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * weight.numel())), key
