from __future__ import annotations

import pytest
import torch

from tskd_tune.method.transforms import TRANSFORMS, Attention


def features(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_hand(maps, norm):
    """Norms written pixel by pixel."""
    result = torch.empty_like(maps)
    batch, height, width = maps.shape
    for b in range(batch):
        pixels = [maps[b, y, x] for y in range(height) for x in range(width)]
        length = sum(pixel**2 for pixel in pixels).sqrt()
        for x in range(width):
            column = sum(maps[b, y, x] ** 2 for y in range(height)).sqrt()
            for y in range(height):
                scale = {
                    "none": 1.0,
                    "l2": 1 / length,
                    "l2_rms": (height * width) ** 0.5 / length,
                    "column_l2": 1 / column,
                    "sum1": 1 / sum(pixels),
                }[norm]
                result[b, y, x] = maps[b, y, x] * scale
    return result


@pytest.mark.parametrize("norm", ["none", "l2", "l2_rms", "column_l2", "sum1"])
@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_values_against_loops(power, reduce, norm):
    x = features(2, 3, 4, 5)
    powers = x.abs() ** power
    reduced = {"sum": powers.sum(1), "mean": powers.sum(1) / 3, "max": powers.max(1).values}[reduce]
    found = Attention(power=power, reduce=reduce, norm=norm)(x)
    assert found.shape == (2, 4, 5)
    torch.testing.assert_close(found, by_hand(reduced, norm), rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", ["none", "l2", "l2_rms", "column_l2", "sum1"])
def test_gradient_by_finite_differences(norm):
    x = features(2, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(Attention(norm=norm, power=3), (x,))


def test_what_the_norms_promise():
    x = features(2, 3, 4, 6)
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(Attention(norm="l2")(x).square().sum((1, 2)), ones)
    torch.testing.assert_close(Attention(norm="l2_rms")(x).square().mean((1, 2)), ones)
    torch.testing.assert_close(Attention(norm="sum1")(x).sum((1, 2)), ones)
    torch.testing.assert_close(Attention(norm="column_l2")(x).square().sum(1), torch.ones(2, 6, dtype=torch.float64))


@pytest.mark.parametrize("norm", ["l2", "l2_rms", "column_l2", "sum1"])
def test_a_norm_forgets_scale_and_the_number_of_channels(norm):
    x = features(2, 3, 4, 4)
    torch.testing.assert_close(Attention(norm=norm)(7 * x), Attention(norm=norm)(x))
    torch.testing.assert_close(Attention(norm=norm, reduce="mean")(x), Attention(norm=norm)(x))


@pytest.mark.parametrize("norm", ["none", "l2", "l2_rms", "column_l2", "sum1"])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_maps_of_zeros_are_harmless(norm, power):
    x = torch.zeros(2, 3, 4, 4, requires_grad=True)
    found = Attention(norm=norm, power=power)(x)
    found.sum().backward()
    assert torch.equal(found, torch.zeros(2, 4, 4))
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_precision():
    x = features(2, 3, 4, 4)
    assert Attention()(x).dtype == torch.float64
    half = (300 * x).to(torch.float16)  # whose squares leave the range of float16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Attention(norm="none")(half)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, half.float().square().sum(1), rtol=1e-6, atol=0)


def test_registered():
    assert TRANSFORMS.build("attention", norm="sum1")(features(1, 2, 2, 2)).sum().item() == pytest.approx(1)
