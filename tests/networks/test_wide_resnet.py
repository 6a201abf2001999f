from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tskd_tune.networks import build

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
STAGES = ("stem", "stage1", "stage2", "stage3")
COUNTS = {"wrn_16_1": 180_916, "wrn_16_2": 703_284, "wrn_40_1": 569_780, "wrn_40_2": 2_255_156}
WRN_16_1_KEYS = [
    "conv1.weight",
    *(f"block1.layer.0.bn1.{part}" for part in NORM),
    "block1.layer.0.conv1.weight",
    *(f"block1.layer.0.bn2.{part}" for part in NORM),
    "block1.layer.0.conv2.weight",
    *(f"block1.layer.1.bn1.{part}" for part in NORM),
    "block1.layer.1.conv1.weight",
    *(f"block1.layer.1.bn2.{part}" for part in NORM),
    "block1.layer.1.conv2.weight",
    *(f"block2.layer.0.bn1.{part}" for part in NORM),
    "block2.layer.0.conv1.weight",
    *(f"block2.layer.0.bn2.{part}" for part in NORM),
    "block2.layer.0.conv2.weight",
    "block2.layer.0.convShortcut.weight",
    *(f"block2.layer.1.bn1.{part}" for part in NORM),
    "block2.layer.1.conv1.weight",
    *(f"block2.layer.1.bn2.{part}" for part in NORM),
    "block2.layer.1.conv2.weight",
    *(f"block3.layer.0.bn1.{part}" for part in NORM),
    "block3.layer.0.conv1.weight",
    *(f"block3.layer.0.bn2.{part}" for part in NORM),
    "block3.layer.0.conv2.weight",
    "block3.layer.0.convShortcut.weight",
    *(f"block3.layer.1.bn1.{part}" for part in NORM),
    "block3.layer.1.conv1.weight",
    *(f"block3.layer.1.bn2.{part}" for part in NORM),
    "block3.layer.1.conv2.weight",
    *(f"bn1.{part}" for part in NORM),
    "fc.weight",
    "fc.bias",
]


def normed(x, state, name):
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    scale, shift = state[f"{name}.weight"].view(1, -1, 1, 1), state[f"{name}.bias"].view(1, -1, 1, 1)
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def reference(state, images, blocks):
    """The network of table 1 of Zagoruyko and Komodakis in training mode, written out."""
    x = F.conv2d(images, state["conv1.weight"], padding=1)
    sums = {"stem": x}
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, stride = f"block{stage}.layer.{block}", 2 if stage > 1 and block == 0 else 1
            active = normed(x, state, f"{name}.bn1").clamp(min=0)
            inner = F.conv2d(active, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            inner = F.conv2d(normed(inner, state, f"{name}.bn2").clamp(min=0), state[f"{name}.conv2.weight"], padding=1)
            projection = state.get(f"{name}.convShortcut.weight")
            x = inner + (x if projection is None else F.conv2d(active, projection, stride=stride))
        sums[f"stage{stage}"] = x
    readers = ("block1.layer.0.bn1", "block2.layer.0.bn1", "block3.layer.0.bn1", "bn1")
    norms = {stage: normed(sums[stage], state, name) for stage, name in zip(STAGES, readers, strict=True)}
    pooled = norms["stage3"].clamp(min=0).mean((2, 3))
    return pooled @ state["fc.weight"].T + state["fc.bias"], norms, sums, pooled


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_the_number_of_parameters_is_the_published_one(name, count):
    network = build(name, classes=100)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_names_are_those_of_the_fields_checkpoints():
    assert list(build("wrn_16_1", classes=10).state_dict()) == WRN_16_1_KEYS


def test_a_widened_first_stage_has_a_projection():
    network = build("wrn_16_2", classes=10)
    shortcuts = {key: tuple(value.shape) for key, value in network.state_dict().items() if "convShortcut" in key}
    assert shortcuts == {
        "block1.layer.0.convShortcut.weight": (32, 16, 1, 1),
        "block2.layer.0.convShortcut.weight": (64, 32, 1, 1),
        "block3.layer.0.convShortcut.weight": (128, 64, 1, 1),
    }


@pytest.mark.parametrize(("name", "widths"), [("wrn_16_1", (16, 16, 32, 64)), ("wrn_40_2", (16, 32, 64, 128))])
@pytest.mark.parametrize("size", [32, 8])
def test_shapes_of_the_taps(name, widths, size):
    shapes = build(name, classes=100).probe(3, size)
    sizes = (size, size, size // 2, size // 4)
    expected = dict(zip(STAGES, zip(widths, sizes, sizes, strict=True), strict=True))
    assert list(shapes.features) == list(STAGES)
    assert shapes.features == expected
    assert shapes.preactivations == expected
    assert shapes.embedding == (widths[-1],)
    assert shapes.logits == (100,)


@pytest.mark.parametrize("name", ["wrn_16_1", "wrn_16_2"])
def test_values_and_gradients_are_those_of_the_written_out_network(name):
    torch.manual_seed(0)
    network = build(name, classes=5).double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    state = {key: parameter.detach().clone().requires_grad_() for key, parameter in network.named_parameters()}
    output, (logits, norms, sums, pooled) = network(images), reference(state, images, blocks=2)

    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.embedding, pooled)
    for stage in STAGES:
        torch.testing.assert_close(output.preactivations[stage], norms[stage])
        torch.testing.assert_close(output.features[stage], sums[stage])

    # One loss over everything that is tapped: an operation in place on a tapped tensor would raise or differ here.
    def loss(logits, norms, sums):
        return logits.square().mean() + sum((x**3).mean() for x in (*norms.values(), *sums.values()))

    loss(output.logits, output.preactivations, output.features).backward()
    loss(logits, norms, sums).backward()
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, state[key].grad, msg=lambda text, key=key: f"{key}: {text}")


def test_features_are_signed_and_not_the_preactivations():
    output = build("wrn_16_1", classes=5)(torch.randn(4, 3, 16, 16))
    for stage in STAGES:
        assert (output.features[stage] < 0).any()
        assert (output.preactivations[stage] < 0).any()
        assert not torch.equal(output.features[stage], output.preactivations[stage])


def test_every_batch_norm_runs_once_a_forward():
    torch.manual_seed(0)
    network = build("wrn_16_1", classes=5)
    output = network(torch.randn(4, 3, 8, 8))
    state = network.state_dict()
    assert {value.item() for key, value in state.items() if key.endswith("tracked")} == {1}
    # The moving mean of a tapped norm took one step of a tenth from 0.
    torch.testing.assert_close(state["bn1.running_mean"], 0.1 * output.features["stage3"].mean((0, 2, 3)))
    torch.testing.assert_close(
        state["block2.layer.0.bn1.running_mean"], 0.1 * output.features["stage1"].mean((0, 2, 3))
    )


def test_the_norm_of_a_stage_is_the_one_that_reads_its_sum():
    network = build("wrn_16_1", classes=5).eval()
    norms = network.stage_norms()
    assert list(norms) == list(STAGES)
    for index, norm in enumerate(norms.values()):
        assert not norm.weight.requires_grad
        assert not norm.bias.requires_grad
        norm.weight.fill_(0.0)
        norm.bias.fill_(index + 1.0)
    output = network(torch.randn(2, 3, 8, 8))
    for index, stage in enumerate(STAGES):
        assert (output.preactivations[stage] == index + 1.0).all()


def test_initial_weights_are_those_of_the_field():
    torch.manual_seed(0)
    network = build("wrn_16_2", classes=10)
    assert not network.fc.bias.any()
    assert network.fc.weight.any()
    for key, weight in network.named_parameters():
        if weight.ndim == 4:
            expected = math.sqrt(2 / (weight.shape[0] * weight.shape[2] * weight.shape[3]))
            error = 4 / math.sqrt(2 * weight.numel())
            assert weight.std().item() == pytest.approx(expected, rel=error), key
