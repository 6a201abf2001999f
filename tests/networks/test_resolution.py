"""A network that sees smaller images: which ones, and that nothing else of it changes."""

from __future__ import annotations

import copy

import pytest
import torch

from tskd_tune import networks
from tskd_tune.networks.resolution import Downsample, downsampled


def test_pixels_that_fit_are_averaged() -> None:
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    found = downsampled(images, 4)
    assert found.shape == (2, 3, 4, 4)
    for row in range(4):
        for column in range(4):
            block = images[:, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            torch.testing.assert_close(found[:, :, row, column], block.sum((2, 3)) / 6)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_others_are_filtered_so_that_no_pixel_is_skipped(size: int) -> None:
    torch.testing.assert_close(downsampled(torch.full((1, 1, 8, 8), 2.5), size), torch.full((1, 1, size, size), 2.5))
    images = torch.rand(1, 1, 8, 8, dtype=torch.float64).requires_grad_()
    (reach,) = torch.autograd.grad(downsampled(images, size).sum(), [images])
    assert bool((reach > 0).all())


def test_whole_images_stay_as_they_are() -> None:
    images = torch.randn(1, 3, 8, 8)
    assert downsampled(images, 8) is images


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_2"])
def test_a_network_and_its_copies_see_less_under_the_same_names(name: str) -> None:
    torch.manual_seed(0)
    plain = networks.build(name, classes=5).eval()
    small = copy.deepcopy(plain)
    small.register_forward_pre_hook(Downsample(4))
    images = torch.randn(2, 3, 8, 8)
    expected = plain(torch.nn.functional.avg_pool2d(images, 2)).logits
    assert not torch.equal(plain(images).logits, expected)
    for network in (small, copy.deepcopy(small)):
        assert torch.equal(network(images).logits, expected)
        assert network.state_dict().keys() == plain.state_dict().keys()
        assert network.probe(3, 8) == plain.probe(3, 4) != plain.probe(3, 8)
