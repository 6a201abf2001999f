from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tskd_tune.networks import build

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
COUNTS = {
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
}
RESNET8_KEYS = [
    "conv1.weight",
    *(f"bn1.{part}" for part in NORM),
    "layer1.0.conv1.weight",
    *(f"layer1.0.bn1.{part}" for part in NORM),
    "layer1.0.conv2.weight",
    *(f"layer1.0.bn2.{part}" for part in NORM),
    "layer2.0.conv1.weight",
    *(f"layer2.0.bn1.{part}" for part in NORM),
    "layer2.0.conv2.weight",
    *(f"layer2.0.bn2.{part}" for part in NORM),
    "layer2.0.downsample.0.weight",
    *(f"layer2.0.downsample.1.{part}" for part in NORM),
    "layer3.0.conv1.weight",
    *(f"layer3.0.bn1.{part}" for part in NORM),
    "layer3.0.conv2.weight",
    *(f"layer3.0.bn2.{part}" for part in NORM),
    "layer3.0.downsample.0.weight",
    *(f"layer3.0.downsample.1.{part}" for part in NORM),
    "fc.weight",
    "fc.bias",
]


def reference(state, images, blocks):
    """The network of He et al. section 4.2 in training mode, written out; returns logits, sums, maps, pooled."""

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
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1").clamp(min=0)
            total = norm(conv(inner, f"{name}.conv2"), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in state:
                total = total + norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            else:
                total = total + x
            x = total.clamp(min=0)
        sums[f"stage{stage}"], maps[f"stage{stage}"] = total, x
    pooled = x.mean((2, 3))
    return pooled @ state["fc.weight"].T + state["fc.bias"], sums, maps, pooled


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_the_number_of_parameters_is_the_published_one(name, count):
    network = build(name, classes=100)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_names_are_those_of_the_fields_checkpoints():
    assert list(build("resnet8", classes=10).state_dict()) == RESNET8_KEYS


def test_the_wide_stem_is_projected_in_the_first_stage_too():
    network = build("resnet8x4", classes=10)
    state = network.state_dict()
    assert state["conv1.weight"].shape == (32, 3, 3, 3)
    assert state["layer1.0.downsample.0.weight"].shape == (64, 32, 1, 1)
    assert "layer1.0.downsample.0.weight" not in RESNET8_KEYS


@pytest.mark.parametrize(("name", "widths"), [("resnet20", (16, 16, 32, 64)), ("resnet8x4", (32, 64, 128, 256))])
@pytest.mark.parametrize("size", [32, 8])
def test_shapes_of_the_taps(name, widths, size):
    shapes = build(name, classes=100).probe(3, size)
    stages = ("stem", "stage1", "stage2", "stage3")
    expected = dict(
        zip(stages, zip(widths, sizes := (size, size, size // 2, size // 4), sizes, strict=True), strict=True)
    )
    assert list(shapes.features) == list(stages)
    assert shapes.features == expected
    assert shapes.preactivations == expected
    assert shapes.embedding == (widths[-1],)
    assert shapes.logits == (100,)


@pytest.mark.parametrize(("name", "blocks"), [("resnet8", 1), ("resnet14", 2), ("resnet8x4", 1)])
def test_values_and_gradients_are_those_of_the_written_out_network(name, blocks):
    torch.manual_seed(0)
    network = build(name, classes=5).double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    state = {key: parameter.detach().clone().requires_grad_() for key, parameter in network.named_parameters()}
    output, (logits, sums, maps, pooled) = network(images), reference(state, images, blocks)

    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.embedding, pooled)
    for stage in ("stem", "stage1", "stage2", "stage3"):
        torch.testing.assert_close(output.preactivations[stage], sums[stage])
        torch.testing.assert_close(output.features[stage], maps[stage])

    # One loss over everything that is tapped: an operation in place on a tapped tensor would raise or differ here.
    def loss(logits, sums, maps):
        taps = [(x**3).mean() for x in (*sums.values(), *maps.values())]
        return logits.square().mean() + sum(taps)

    loss(output.logits, output.preactivations, output.features).backward()
    loss(logits, sums, maps).backward()
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, state[key].grad, msg=lambda text, key=key: f"{key}: {text}")


def test_features_are_the_activated_preactivations_and_both_are_kept():
    network = build("resnet14", classes=5)
    output = network(torch.randn(4, 3, 16, 16))
    for stage, before in output.preactivations.items():
        assert (before < 0).any()
        assert torch.equal(before.relu(), output.features[stage])


def test_the_norm_of_a_stage_is_the_last_one_before_its_preactivation():
    network = build("resnet14", classes=5)
    parameters = dict(network.named_parameters())
    names = {"stem": "bn1", "stage1": "layer1.1.bn2", "stage2": "layer2.1.bn2", "stage3": "layer3.1.bn2"}
    norms = network.stage_norms()
    assert list(norms) == list(names)
    for stage, name in names.items():
        assert norms[stage].weight.data_ptr() == parameters[f"{name}.weight"].data_ptr()
        assert norms[stage].bias.data_ptr() == parameters[f"{name}.bias"].data_ptr()
        assert not norms[stage].weight.requires_grad
        assert not norms[stage].bias.requires_grad


def test_convolutions_start_with_the_deviation_of_their_outputs():
    torch.manual_seed(0)
    network = build("resnet8x4", classes=10)
    convolutions = {key: weight for key, weight in network.named_parameters() if weight.ndim == 4}
    assert len(convolutions) == 1 + 3 * 2 + 3
    for key, weight in convolutions.items():
        expected = math.sqrt(2 / (weight.shape[0] * weight.shape[2] * weight.shape[3]))
        error = 4 / math.sqrt(2 * weight.numel())
        assert weight.std().item() == pytest.approx(expected, rel=error), key


def test_every_batch_norm_runs_once_a_forward():
    network = build("resnet14", classes=5)
    network(torch.randn(2, 3, 8, 8))
    assert {value.item() for key, value in network.state_dict().items() if key.endswith("tracked")} == {1}
