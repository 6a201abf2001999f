from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from tskd_tune.networks import build

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")
# Table 2 of Sandler et al. with RepDistiller's strides for 32 pixels: expansion, channels, blocks, stride.
TABLE = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def keys():
    """The names of RepDistiller's mobile_half, whose first block is expanded once too."""

    def part(name):
        return [f"{name}.weight"]

    def norm(name):
        return [f"{name}.{part}" for part in NORM]

    expected = [*part("conv1.0"), *norm("conv1.1")]
    for group, (_, _, blocks, _) in enumerate(TABLE):
        for block in range(blocks):
            prefix = f"blocks.{group}.{block}.conv"
            for convolution in (0, 3, 6):
                expected += [*part(f"{prefix}.{convolution}"), *norm(f"{prefix}.{convolution + 1}")]
    return [*expected, *part("conv2.0"), *norm("conv2.1"), "classifier.0.weight", "classifier.0.bias"]


def counted(width, classes, last):
    """Count the parameters from the table."""
    inputs = int(32 * width)
    total = 27 * inputs + 2 * inputs
    for expansion, channels, blocks, _ in TABLE:
        outputs = int(channels * width)
        for _ in range(blocks):
            wide = expansion * inputs
            total += inputs * wide + 2 * wide + 9 * wide + 2 * wide + wide * outputs + 2 * outputs
            inputs = outputs
    return total + inputs * last + 2 * last + last * classes + classes


def reference(state, images):
    """The network in training mode, written out; returns logits, the stem's pre-activation, maps, pooled."""

    def norm(x, name):
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        scale, shift = state[f"{name}.weight"].view(1, -1, 1, 1), state[f"{name}.bias"].view(1, -1, 1, 1)
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def conv(x, name, stride=1, groups=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    before = norm(conv(images, "conv1.0", stride=2), "conv1.1")
    x = before.clamp(min=0)
    maps = {"stem": x}
    for group, (_, _, blocks, first_stride) in enumerate(TABLE):
        for block in range(blocks):
            name, stride = f"blocks.{group}.{block}.conv", first_stride if block == 0 else 1
            wide = norm(conv(x, f"{name}.0"), f"{name}.1").clamp(min=0)
            wide = norm(conv(wide, f"{name}.3", stride, groups=wide.shape[1]), f"{name}.4").clamp(min=0)
            narrow = norm(conv(wide, f"{name}.6"), f"{name}.7")
            x = x + narrow if block > 0 else narrow
        if group in (1, 2, 4, 6):
            maps[STAGES[(1, 2, 4, 6).index(group) + 1]] = x
    pooled = norm(conv(x, "conv2.0"), "conv2.1").clamp(min=0).mean((2, 3))
    return pooled @ state["classifier.0.weight"].T + state["classifier.0.bias"], before, maps, pooled


def test_parameters_and_names_are_those_of_the_field():
    network = build("mobilenet_v2", classes=100)
    assert sum(parameter.numel() for parameter in network.parameters()) == 812_836 == counted(0.5, 100, 1280)
    assert list(network.state_dict()) == keys()


@pytest.mark.parametrize(("width", "last"), [(0.25, 1280), (1.0, 1280), (1.5, 1920)])
def test_the_width_multiplies_the_channels(width, last):
    network = build("mobilenet_v2", classes=10, width=width)
    assert sum(parameter.numel() for parameter in network.parameters()) == counted(width, 10, last)
    shapes = network.probe(3, 16)
    assert [shape[0] for shape in shapes.features.values()] == [int(n * width) for n in (32, 24, 32, 96, 320)]
    assert shapes.embedding == (last,)


def test_a_width_that_leaves_no_channels_is_refused():
    with pytest.raises(ValidationError, match="width"):
        build("mobilenet_v2", classes=10, width=0.1)


@pytest.mark.parametrize(("size", "sizes"), [(32, (16, 16, 8, 4, 2)), (64, (32, 32, 16, 8, 4))])
def test_shapes_of_the_taps(size, sizes):
    shapes = build("mobilenet_v2", classes=100).probe(3, size)
    widths = (16, 12, 16, 48, 160)
    expected = {stage: (width, side, side) for stage, width, side in zip(STAGES, widths, sizes, strict=True)}
    assert list(shapes.features) == list(STAGES)
    assert shapes.features == shapes.preactivations == expected
    assert shapes.embedding == (1280,)


def test_values_and_gradients_are_those_of_the_written_out_network():
    torch.manual_seed(0)
    network = build("mobilenet_v2", classes=5).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    state = {key: parameter.detach().clone().requires_grad_() for key, parameter in network.named_parameters()}
    output, (logits, before, maps, pooled) = network(images), reference(state, images)

    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.embedding, pooled)
    torch.testing.assert_close(output.preactivations["stem"], before)
    for stage in STAGES:
        torch.testing.assert_close(output.features[stage], maps[stage])

    def loss(logits, before, maps):
        return logits.square().mean() + sum((x**3).mean() for x in (before, *maps.values()))

    loss(output.logits, output.preactivations["stem"], output.features).backward()
    loss(logits, before, maps).backward()
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, state[key].grad, msg=lambda text, key=key: f"{key}: {text}")


def test_stages_are_linear_and_their_own_preactivations():
    output = build("mobilenet_v2", classes=5)(torch.randn(4, 3, 32, 32))
    assert torch.equal(output.features["stem"], output.preactivations["stem"].relu())
    for stage in STAGES[1:]:
        assert output.features[stage] is output.preactivations[stage]
        assert (output.features[stage] < 0).any()


def test_the_norm_of_a_stage_is_the_last_one_of_its_last_block():
    network = build("mobilenet_v2", classes=5)
    parameters = dict(network.named_parameters())
    ends = {"stem": "conv1.1"} | {
        stage: f"blocks.{group}.{TABLE[group][2] - 1}.conv.7"
        for stage, group in zip(STAGES[1:], (1, 2, 4, 6), strict=True)
    }
    norms = network.stage_norms()
    assert list(norms) == list(ends)
    for stage, name in ends.items():
        assert norms[stage].weight.data_ptr() == parameters[f"{name}.weight"].data_ptr()
        assert norms[stage].bias.data_ptr() == parameters[f"{name}.bias"].data_ptr()


def test_first_weights_are_those_of_the_field():
    torch.manual_seed(0)
    network = build("mobilenet_v2", classes=100)
    for key, weight in network.named_parameters():
        if weight.ndim == 4:
            # Of a convolution of each channel too the deviation counts all outputs, as in the public code.
            expected = math.sqrt(2 / (weight.shape[0] * weight.shape[2] * weight.shape[3]))
            assert weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * weight.numel())), key
    assert network.classifier[0].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not network.classifier[0].bias.any()
