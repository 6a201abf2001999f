from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tskd_tune.errors import InputError
from tskd_tune.method.extractors import EXTRACTORS, ConvGRU, ExtractorSite, LastStep, Linear, build_extractors

SITE = ExtractorSite(3, 4, 6, 0, 1)


def sequence(steps=3, batch=2):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(steps, batch, 1, 4, 6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", EXTRACTORS.names())
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_every_extractor_keeps_its_contract(name, steps):
    torch.manual_seed(0)
    extractor = EXTRACTORS.build(name, ExtractorSite(steps, 4, 6, 0, 1)).double()
    x = sequence(steps).requires_grad_()
    found = extractor(x)
    assert found.shape == (2, 1, 4, 6)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[1:], extractor(x[:, 1:]), msg="samples must not mix")
    found.square().sum().backward()
    assert x.grad[-1].abs().sum() > 0
    if steps > 1:
        assert all(parameter.grad.abs().sum() > 0 for parameter in extractor.parameters())
    assert (x.grad[:-1].abs().sum() > 0) == (steps > 1 and name != "last_step")


@pytest.mark.parametrize("name", EXTRACTORS.names())
def test_every_extractor_survives_a_state_dict(name):
    first, second = EXTRACTORS.build(name, SITE), EXTRACTORS.build(name, SITE)
    second.load_state_dict(first.state_dict())
    x = sequence().float()
    assert torch.equal(first(x), second(x))


def test_conv_gru_against_its_equations():
    torch.manual_seed(0)
    gru, x = ConvGRU(SITE, hidden=3).double(), sequence()
    w, b = gru.input.weight.chunk(3), gru.input.bias.chunk(3)
    u = [*gru.gates.weight.chunk(2), gru.candidate.weight]
    h = torch.zeros(2, 3, 4, 6, dtype=torch.float64)
    for step in x:
        z = torch.sigmoid(F.conv2d(step, w[0], b[0], padding=1) + F.conv2d(h, u[0], padding=1))
        r = torch.sigmoid(F.conv2d(step, w[1], b[1], padding=1) + F.conv2d(h, u[1], padding=1))
        n = torch.tanh(F.conv2d(step, w[2], b[2], padding=1) + F.conv2d(r * h, u[2], padding=1))
        h = (1 - z) * h + z * n
    torch.testing.assert_close(gru(x), F.conv2d(h, gru.head.weight, gru.head.bias))


def test_the_simplest_rivals_against_their_formulas():
    x = sequence()
    last = LastStep(SITE).double()
    torch.testing.assert_close(last(x), last.head.weight.item() * x[-1] + last.head.bias.item())
    linear = Linear(SITE).double()
    a, b, c = linear.head.weight.flatten().tolist()
    torch.testing.assert_close(linear(x), a * x[0] + b * x[1] + c * x[2] + linear.head.bias.item())


def test_conv3d_sees_order_and_space():
    torch.manual_seed(0)
    extractor, x = EXTRACTORS.build("conv3d", SITE, hidden=4).double(), sequence()
    assert (extractor(x) - extractor(x.flip(0))).abs().max() > 1e-4
    moved = x.clone()
    moved[0, :, :, 0, 0] += 1
    change = (extractor(moved) - extractor(x))[0, 0].abs()
    assert change[1, 1] > 0
    assert change[3, 5] == 0, "two 3x3 kernels reach two pixels far"


@pytest.mark.parametrize("name", ["conv_lstm", "conv_gru", "conv3d"])
def test_kernels_are_odd(name):
    with pytest.raises(ValueError, match="must be odd"):
        EXTRACTORS.options(name)(name=name, kernel=4)


def test_one_a_tap_or_one_for_all():
    sites = []

    def make(site):
        sites.append(site)
        return Linear(site)

    assert len(build_extractors(make, 3, [(8, 8), (4, 6)])) == 2
    assert sites == [ExtractorSite(3, 8, 8, 0, 2), ExtractorSite(3, 4, 6, 1, 2)]
    sites.clear()
    assert len(build_extractors(make, 2, [(8, 8), (4, 6)], share=True)) == 1
    assert sites == [ExtractorSite(2, 8, 8, 0, 1)]


def test_an_extractor_must_keep_the_size():
    class Shrinking(nn.Module):
        def __init__(self, site):
            super().__init__()

        def forward(self, sequence):
            return sequence[-1, ..., 1:]

    with pytest.raises(InputError, match=r"Shrinking turned a sequence \[3, 1, 1, 4, 6\] into \[1, 1, 4, 5\]"):
        build_extractors(Shrinking, 3, [(4, 6)])
