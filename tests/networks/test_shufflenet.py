from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tskd_tune.networks import build
from tskd_tune.networks.shufflenet import ShuffleNet, shuffled

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
STAGES = ("stem", "stage1", "stage2", "stage3")
WIDTHS = (24, 240, 480, 960)
DEPTHS = (4, 8, 4)


def keys():
    """The names of RepDistiller's ShuffleV1."""
    expected = ["conv1.weight", *(f"bn1.{part}" for part in NORM)]
    for stage, depth in enumerate(DEPTHS, 1):
        for block in range(depth):
            for number in (1, 2, 3):
                prefix = f"layer{stage}.{block}"
                expected += [f"{prefix}.conv{number}.weight", *(f"{prefix}.bn{number}.{part}" for part in NORM)]
    return [*expected, "linear.weight", "linear.bias"]


def counted(classes):
    """Count the parameters from the layout."""
    total = 3 * 24 + 2 * 24 + 960 * classes + classes
    for stage, depth in enumerate(DEPTHS, 1):
        for block in range(depth):
            inputs = WIDTHS[stage - 1] if block == 0 else WIDTHS[stage]
            outputs = WIDTHS[stage] - (inputs if block == 0 else 0)
            middle, groups = outputs // 4, 1 if inputs == 24 else 3
            total += inputs // groups * middle + 9 * middle + middle // 3 * outputs + 2 * (2 * middle + outputs)
    return total


def interleaved(x, groups):
    """Channel j of group k goes to place j * groups + k."""
    size = x.shape[1] // groups
    out = torch.empty_like(x)
    for group in range(groups):
        for channel in range(size):
            out[:, channel * groups + group] = x[:, group * size + channel]
    return out


def reference(state, images, depths):
    """The network in training mode, written out; returns logits, sums, maps, pooled."""

    def norm(x, name):
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        scale, shift = state[f"{name}.weight"].view(1, -1, 1, 1), state[f"{name}.bias"].view(1, -1, 1, 1)
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def conv(x, name, stride=1, groups=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    sums = {"stem": norm(conv(images, "conv1"), "bn1")}
    x = sums["stem"].clamp(min=0)
    maps = {"stem": x}
    for stage, depth in enumerate(depths, 1):
        for block in range(depth):
            name, groups = f"layer{stage}.{block}", 1 if (stage, block) == (1, 0) else 3
            stride = 2 if block == 0 else 1
            inner = interleaved(norm(conv(x, f"{name}.conv1", groups=groups), f"{name}.bn1").clamp(min=0), groups)
            inner = norm(conv(inner, f"{name}.conv2", stride, inner.shape[1]), f"{name}.bn2").clamp(min=0)
            inner = norm(conv(inner, f"{name}.conv3", groups=3), f"{name}.bn3")
            # The mean of 3x3 pixels with zeros around the image, every second one.
            pooled = F.pad(x, (1, 1, 1, 1)).unfold(2, 3, stride).unfold(3, 3, stride).mean((4, 5))
            total = torch.cat((inner, pooled), 1) if block == 0 else inner + x
            x = total.clamp(min=0)
        sums[f"stage{stage}"], maps[f"stage{stage}"] = total, x
    embedding = x.mean((2, 3))
    return embedding @ state["linear.weight"].T + state["linear.bias"], sums, maps, embedding


def test_parameters_and_names_are_those_of_the_field():
    network = build("shufflenet_v1", classes=100)
    assert sum(parameter.numel() for parameter in network.parameters()) == 949_258 == counted(100)
    assert list(network.state_dict()) == keys()


@pytest.mark.parametrize("size", [32, 64])
def test_shapes_of_the_taps(size):
    shapes = build("shufflenet_v1", classes=100).probe(3, size)
    sides = (size, size // 2, size // 4, size // 8)
    expected = {stage: (width, side, side) for stage, width, side in zip(STAGES, WIDTHS, sides, strict=True)}
    assert list(shapes.features) == list(STAGES)
    assert shapes.features == shapes.preactivations == expected
    assert shapes.embedding == (960,)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_channels_are_shuffled(groups):
    maps = torch.randn(2, 12, 3, 4)
    assert torch.equal(shuffled(maps, groups), interleaved(maps, groups))


def test_values_and_gradients_are_those_of_the_written_out_network():
    torch.manual_seed(0)
    network = ShuffleNet(classes=5).double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    state = {key: parameter.detach().clone().requires_grad_() for key, parameter in network.named_parameters()}
    output, (logits, sums, maps, pooled) = network(images), reference(state, images, DEPTHS)

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


def test_the_norm_of_a_stage_is_the_last_one_before_its_sum():
    network = build("shufflenet_v1", classes=5)
    parameters = dict(network.named_parameters())
    names = {"stem": "bn1", "stage1": "layer1.3.bn3", "stage2": "layer2.7.bn3", "stage3": "layer3.3.bn3"}
    norms = network.stage_norms()
    assert list(norms) == list(names)
    for stage, name in names.items():
        assert norms[stage].weight.data_ptr() == parameters[f"{name}.weight"].data_ptr()
        assert norms[stage].bias.data_ptr() == parameters[f"{name}.bias"].data_ptr()
