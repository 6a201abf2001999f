from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tskd_tune.networks import build

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
STAGES = ("stem", "stage1", "stage2", "stage3")
WIDTHS = (24, 116, 232, 464)
DEPTHS = (3, 7, 3)


def keys():
    """The names of RepDistiller's ShuffleV2: a first block of five convolutions, then blocks of three."""
    expected = ["conv1.weight", *(f"bn1.{part}" for part in NORM)]
    for stage, depth in enumerate(DEPTHS, 1):
        for block in range(depth + 1):
            for number in range(1, 6 if block == 0 else 4):
                prefix = f"layer{stage}.{block}"
                expected += [f"{prefix}.conv{number}.weight", *(f"{prefix}.bn{number}.{part}" for part in NORM)]
    return [*expected, "conv2.weight", *(f"bn2.{part}" for part in NORM), "linear.weight", "linear.bias"]


def counted(classes):
    """Count the parameters from the layout."""
    total = 3 * 24 + 2 * 24 + 464 * 1024 + 2 * 1024 + 1024 * classes + classes
    for inputs, outputs, depth in zip(WIDTHS, WIDTHS[1:], DEPTHS, strict=False):
        half = outputs // 2
        left = 9 * inputs + 2 * inputs + inputs * half + 2 * half
        right = inputs * half + 2 * half + 9 * half + 2 * half + half * half + 2 * half
        total += left + right + depth * (2 * half * half + 9 * half + 6 * half)
    return total


def reference(state, images):
    """The network in training mode, written out; returns logits, maps before and after, pooled."""

    def norm(x, name):
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        scale, shift = state[f"{name}.weight"].view(1, -1, 1, 1), state[f"{name}.bias"].view(1, -1, 1, 1)
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def layer(x, block, number, stride=1, each=False):
        weight = state[f"{block}.conv{number}.weight"]
        padding, groups = weight.shape[-1] // 2, x.shape[1] if each else 1
        return norm(F.conv2d(x, weight, stride=stride, padding=padding, groups=groups), f"{block}.bn{number}")

    def interleaved(x):
        half = x.shape[1] // 2
        return torch.stack([x[:, i // 2 + (i % 2) * half] for i in range(2 * half)], dim=1)

    befores = {"stem": norm(F.conv2d(images, state["conv1.weight"]), "bn1")}
    x = befores["stem"].clamp(min=0)
    afters = {"stem": x}
    for stage, depth in enumerate(DEPTHS, 1):
        block = f"layer{stage}.0"
        left = layer(layer(x, block, 1, 2, each=True), block, 2).clamp(min=0)
        right = layer(x, block, 3).clamp(min=0)
        right = layer(layer(right, block, 4, 2, each=True), block, 5).clamp(min=0)
        x = interleaved(torch.cat((left, right), 1))
        for number in range(1, depth + 1):
            block, half = f"layer{stage}.{number}", x.shape[1] // 2
            worked = layer(x[:, half:], block, 1).clamp(min=0)
            worked = layer(layer(worked, block, 2, each=True), block, 3)
            before = interleaved(torch.cat((x[:, :half], worked), 1))
            x = interleaved(torch.cat((x[:, :half], worked.clamp(min=0)), 1))
        befores[f"stage{stage}"], afters[f"stage{stage}"] = before, x
    pooled = norm(F.conv2d(x, state["conv2.weight"]), "bn2").clamp(min=0).mean((2, 3))
    return pooled @ state["linear.weight"].T + state["linear.bias"], befores, afters, pooled


def test_parameters_and_names_are_those_of_the_field():
    network = build("shufflenet_v2", classes=100)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_355_528 == counted(100)
    assert list(network.state_dict()) == keys()


@pytest.mark.parametrize("size", [32, 64])
def test_shapes_of_the_taps(size):
    shapes = build("shufflenet_v2", classes=100).probe(3, size)
    sides = (size, size // 2, size // 4, size // 8)
    expected = {stage: (width, side, side) for stage, width, side in zip(STAGES, WIDTHS, sides, strict=True)}
    assert list(shapes.features) == list(STAGES)
    assert shapes.features == shapes.preactivations == expected
    assert shapes.embedding == (1024,)


def test_values_and_gradients_are_those_of_the_written_out_network():
    torch.manual_seed(0)
    network = build("shufflenet_v2", classes=5).double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    state = {key: parameter.detach().clone().requires_grad_() for key, parameter in network.named_parameters()}
    output, (logits, befores, afters, pooled) = network(images), reference(state, images)

    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.embedding, pooled)
    for stage in STAGES:
        torch.testing.assert_close(output.preactivations[stage], befores[stage])
        torch.testing.assert_close(output.features[stage], afters[stage])

    def loss(logits, befores, afters):
        return logits.square().mean() + sum((x**3).mean() for x in (*befores.values(), *afters.values()))

    loss(output.logits, output.preactivations, output.features).backward()
    loss(logits, befores, afters).backward()
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, state[key].grad, msg=lambda text, key=key: f"{key}: {text}")


def test_preactivations_have_the_order_of_the_features():
    output = build("shufflenet_v2", classes=5)(torch.randn(4, 3, 16, 16))
    for stage, before in output.preactivations.items():
        assert torch.equal(before.relu(), output.features[stage])
        # Of the shuffled channels every first one has passed its block and was activated before.
        assert (before[:, 1::2] < 0).any()
        assert stage == "stem" or not (before[:, ::2] < 0).any()


def test_only_the_stem_has_a_norm_for_all_of_its_channels():
    network = build("shufflenet_v2", classes=5)
    norms = network.stage_norms()
    assert list(norms) == ["stem"]
    assert norms["stem"].weight.data_ptr() == network.bn1.weight.data_ptr()
