from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tskd_tune.errors import InputError
from tskd_tune.method.extractors import (
    EXTRACTORS,
    ConvGRU,
    ExtractorSite,
    LastStep,
    Linear,
    Mean,
    PixelAR,
    TemporalAttention,
    build_extractors,
)
from tskd_tune.method.extractors.temporal_attention import sinusoids

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


def test_the_mean_and_an_autoregression_of_each_pixel():
    x = sequence()
    mean = Mean(SITE).double()
    torch.testing.assert_close(mean(x), mean.head.weight.item() * x.mean(0) + mean.head.bias.item())
    each = PixelAR(SITE).double()
    torch.testing.assert_close(each(x), x.mean(0), msg="it begins as the mean")
    torch.manual_seed(0)
    for parameter in each.parameters():
        nn.init.normal_(parameter)
    wanted = torch.zeros(2, 1, 4, 6, dtype=torch.float64)
    for row, column in np.ndindex(4, 6):
        wanted[..., row, column] = each.bias[row, column]
        for step in range(3):
            wanted[..., row, column] += each.weight[step, 0, 0, row, column] * x[step, ..., row, column]
    torch.testing.assert_close(each(x), wanted.detach())
    with pytest.raises(InputError, match=r"weights for maps of 4x6 pixels but these are 4x5; use linear, or one extra"):
        build_extractors(PixelAR, 3, [(4, 6), (4, 5)], share=True)
    with pytest.raises(InputError, match=r"different sizes, and so have their maps, but: .* pixel_ar has weights"):
        build_extractors(PixelAR, 3, [(4, 6)], varying=True)


def attended_by_hand(extractor, x):
    """The formulas of temporal attention, pixel by pixel and head by head; the two convolutions are torch's."""
    d, heads, (steps, batch) = extractor.query.out_channels, extractor.heads, x.shape[:2]
    weights = {name: value.flatten(1) for name, value in extractor.named_parameters() if value.dim() == 4}
    w_q, w_k, w_v, w_o, w_1, w_2 = (
        weights[f"{name}.weight"] for name in ("query", "key", "value", "join", "mixing.0", "mixing.2")
    )
    positions = [torch.zeros(d)] * steps if extractor.positions is None else extractor.positions[:, 0, :, 0, 0]
    z = [
        F.leaky_relu(F.conv2d(x[t], extractor.embedding[0].weight, extractor.embedding[0].bias, padding=1), 0.2)
        + positions[t].view(1, d, 1, 1)
        for t in range(steps)
    ]
    rows = []
    for b, row, column in np.ndindex(batch, 4, 6):
        tokens = [z[t][b, :, row, column] for t in range(steps)]
        parts = []
        for head in range(heads):
            own = slice(head * d // heads, (head + 1) * d // heads)
            query = (w_q @ tokens[-1])[own]
            grades = torch.stack([(query * (w_k @ token)[own]).sum() / (d / heads) ** 0.5 for token in tokens]).exp()
            parts.append(sum(grade * (w_v @ token)[own] for grade, token in zip(grades, tokens, strict=True)))
            parts[-1] = parts[-1] / grades.sum()
        c = tokens[-1] + w_o @ torch.cat(parts)
        rows.append(c + w_2 @ F.leaky_relu(w_1 @ c + extractor.mixing[0].bias, 0.2) + extractor.mixing[2].bias)
    state = torch.stack(rows).view(batch, 4, 6, d).movedim(-1, 1)
    return F.conv2d(state, extractor.head.weight, extractor.head.bias, padding=1)


@pytest.mark.parametrize("position", ["sinusoidal", "learned", "none"])
def test_temporal_attention_against_its_formulas(position):
    torch.manual_seed(0)
    extractor = TemporalAttention(SITE, hidden=4, heads=2, position=position).double()
    for parameter in extractor.parameters():
        nn.init.normal_(parameter)
    x = sequence().requires_grad_()
    found, wanted = extractor(x), attended_by_hand(extractor, x)
    torch.testing.assert_close(found, wanted)
    inputs = [x, *extractor.parameters()]
    slopes, expected = (torch.autograd.grad(one.square().sum(), inputs) for one in (found, wanted))
    torch.testing.assert_close(slopes, expected)
    moved = (extractor(x[[1, 0, 2]]) - found).abs().max()
    assert (moved < 1e-12) == (position == "none"), "without positions the order of the earlier steps has no effect"
    assert (extractor(x[[0, 2, 1]]) - found).abs().max() > 1e-3, "the last step asks"


def test_positions_are_sines_and_cosines_and_only_learned_ones_are_trained():
    found = sinusoids(3, 6)
    for step, channel in np.ndindex(3, 6):
        angle = step / 10_000 ** (2 * (channel // 2) / 6)
        assert found[step, channel].item() == pytest.approx([math.sin, math.cos][channel % 2](angle), abs=1e-6)
    assert "positions" in dict(TemporalAttention(SITE, position="learned").named_parameters())
    assert "positions" not in TemporalAttention(SITE).state_dict()
    with pytest.raises(InputError, match="3 heads cannot share 16 channels equally; set hidden to a multiple of heads"):
        TemporalAttention(SITE, heads=3)


def test_conv3d_sees_order_and_space():
    torch.manual_seed(0)
    extractor, x = EXTRACTORS.build("conv3d", SITE, hidden=4).double(), sequence()
    assert (extractor(x) - extractor(x.flip(0))).abs().max() > 1e-4
    moved = x.clone()
    moved[0, :, :, 0, 0] += 1
    change = (extractor(moved) - extractor(x))[0, 0].abs()
    assert change[1, 1] > 0
    assert change[3, 5] == 0, "two 3x3 kernels reach two pixels far"


@pytest.mark.parametrize("name", ["conv_lstm", "conv_gru", "conv3d", "temporal_attention"])
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
