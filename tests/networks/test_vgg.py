from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tskd_tune.errors import InputError
from tskd_tune.networks import build

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")
WIDTHS = (64, 128, 256, 512, 512)
# name -> convolutions a block, the parameters with 100 classes
NETWORKS = {"vgg8": (1, 3_965_028), "vgg13": (2, 9_462_180)}


def keys(convolutions):
    """The names of RepDistiller's vgg8_bn and vgg13_bn: each activation between two convolutions has a number too."""
    return [
        *(
            key
            for block in range(5)
            for place in range(convolutions)
            for key in (
                *(f"block{block}.{3 * place}.{part}" for part in ("weight", "bias")),
                *(f"block{block}.{3 * place + 1}.{part}" for part in NORM),
            )
        ),
        "classifier.weight",
        "classifier.bias",
    ]


def reference(state, images, convolutions):
    """The network in training mode, written out; returns logits, what comes before and after, pooled."""

    def norm(x, name):
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        scale, shift = state[f"{name}.weight"].view(1, -1, 1, 1), state[f"{name}.bias"].view(1, -1, 1, 1)
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def halved(x):
        batch, channels, height, width = x.shape
        return x.reshape(batch, channels, height // 2, 2, width // 2, 2).amax((3, 5))

    befores, afters, x = {}, {}, images
    for block, stage in enumerate(STAGES):
        if 1 <= block <= 3 or (block == 4 and images.shape[-1] == 64):
            x = halved(x)
        for place in range(convolutions):
            name = f"block{block}.{3 * place}"
            before = norm(
                F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1), f"block{block}.{3 * place + 1}"
            )
            x = before.clamp(min=0)
        befores[stage], afters[stage] = before, x
    pooled = x.mean((2, 3))
    return pooled @ state["classifier.weight"].T + state["classifier.bias"], befores, afters, pooled


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_names_are_those_of_the_field(name):
    convolutions, count = NETWORKS[name]
    network = build(name, classes=100)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert list(network.state_dict()) == keys(convolutions)
    # The same count from the layout: convolutions with their biases, two numbers a channel for each batch norm.
    inputs, total = 3, 512 * 100 + 100
    for width in WIDTHS:
        for _ in range(convolutions):
            total += 9 * inputs * width + width + 2 * width
            inputs = width
    assert total == count


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("size", "sizes"), [(32, (32, 16, 8, 4, 4)), (64, (64, 32, 16, 8, 4)), (8, (8, 4, 2, 1, 1))])
def test_shapes_of_the_taps(name, size, sizes):
    shapes = build(name, classes=100).probe(3, size)
    expected = {stage: (width, height, height) for stage, width, height in zip(STAGES, WIDTHS, sizes, strict=True)}
    assert list(shapes.features) == list(STAGES)
    assert shapes.features == shapes.preactivations == expected
    assert shapes.embedding == (512,)
    assert shapes.logits == (100,)


@pytest.mark.parametrize(("name", "size"), [("vgg8", 16), ("vgg8", 64), ("vgg13", 8)])
def test_values_and_gradients_are_those_of_the_written_out_network(name, size):
    torch.manual_seed(0)
    network = build(name, classes=5).double()
    images = torch.randn(3, 3, size, size, dtype=torch.float64)
    state = {key: parameter.detach().clone().requires_grad_() for key, parameter in network.named_parameters()}
    output, (logits, befores, afters, pooled) = network(images), reference(state, images, NETWORKS[name][0])

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
        # The biases of the convolutions are canceled by their batch norms, but for rounding.
        torch.testing.assert_close(parameter.grad, state[key].grad, atol=1e-9, rtol=1e-6, msg=lambda t, k=key: k + t)


def test_images_that_vanish_in_the_pools_are_refused():
    with pytest.raises(
        InputError, match=r"^network VGG: a forward of images \[3, 4, 4\] fails \(.*\); choose a network"
    ):
        build("vgg8", classes=5).probe(3, 4)


@pytest.mark.parametrize(("name", "place"), [("vgg8", 1), ("vgg13", 4)])
def test_the_norm_of_a_stage_is_the_last_one_of_its_block(name, place):
    network = build(name, classes=5)
    parameters = dict(network.named_parameters())
    norms = network.stage_norms()
    assert list(norms) == list(STAGES)
    for block, norm in enumerate(norms.values()):
        assert norm.weight.data_ptr() == parameters[f"block{block}.{place}.weight"].data_ptr()
        assert norm.bias.data_ptr() == parameters[f"block{block}.{place}.bias"].data_ptr()
        assert not norm.weight.requires_grad


def test_first_weights_are_those_of_the_field():
    torch.manual_seed(0)
    network = build("vgg8", classes=100)
    for key, weight in network.named_parameters():
        if weight.ndim == 4:
            expected = math.sqrt(2 / (9 * weight.shape[0]))
            assert weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * weight.numel())), key
        elif key.endswith("bias"):
            assert not weight.any(), key
    assert network.classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
