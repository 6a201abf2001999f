"""Principal components against the singular value decomposition, value and gradient, and where there are none."""

from __future__ import annotations

import pytest
import torch

from tskd_tune.method.transforms import PrincipalComponents

MANY = 100
"""Power iterations after which the error is that of float64, for the features below."""


def features(*shape, seed=0):
    """Features whose components have well separated variances."""
    generator = torch.Generator().manual_seed(seed)
    batch, channels, height, width = shape
    scales = 3.0 ** -torch.arange(channels, dtype=torch.float64)
    mixing = torch.linalg.qr(torch.randn(channels, channels, generator=generator, dtype=torch.float64))[0]
    scores = torch.randn(batch, height * width, channels, generator=generator, dtype=torch.float64) * scales
    return ((scores + 0.3) @ mixing).mT.unflatten(2, (height, width)).contiguous()


def by_decomposition(x, components, center, norm):
    """X v_n, with v_n from the singular value decomposition and a sign by the mean over the channels."""
    pixels = x.flatten(2).mT
    if center:
        pixels = pixels - pixels.mean(1, keepdim=True)
    directions = torch.linalg.svd(pixels, full_matrices=False)[2][:, :components]
    scores = pixels @ directions.mT
    signs = (scores * pixels.mean(2, keepdim=True)).sum(1, keepdim=True).sign()
    maps = (scores * signs).mT.unflatten(2, x.shape[2:])
    length = maps.square().sum((1, 2, 3), keepdim=True).sqrt()
    return maps * {"none": 1, "l2": 1 / length, "l2_rms": maps[0].numel() ** 0.5 / length}[norm]


@pytest.mark.parametrize("norm", ["none", "l2", "l2_rms"])
@pytest.mark.parametrize("center", [True, False])
def test_values_and_gradients_are_those_of_the_decomposition(center, norm):
    x = features(2, 4, 3, 5).requires_grad_()
    found = PrincipalComponents(components=3, center=center, norm=norm, steps=MANY)(x)
    wanted = by_decomposition(x, 3, center, norm)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((maps * weights).sum(), x)[0] for maps in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
    few = PrincipalComponents(components=2, center=center, norm=norm, steps=2)
    assert torch.autograd.gradcheck(few, (features(1, 3, 2, 3).requires_grad_(),))


def test_what_the_components_promise():
    x = features(2, 6, 4, 5)
    for center in (True, False):
        maps = PrincipalComponents(components=3, center=center, norm="none", steps=MANY)(x).flatten(2)
        gram = maps @ maps.mT
        variances = gram.diagonal(dim1=1, dim2=2)
        assert (variances[:, :-1] > variances[:, 1:]).all()
        torch.testing.assert_close(gram, torch.diag_embed(variances), rtol=0, atol=1e-8)
        mean = x.flatten(2).mean(1, keepdim=True)
        assert ((maps * (mean - (mean.mean(2, keepdim=True) if center else 0))).sum(2) > 0).all()
    # Other channels, and more of them, that hold the same: a rotation keeps the component, up to the sign of the mean.
    rotation = torch.linalg.qr(torch.randn(9, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    wider = torch.einsum("bchw,cd->bdhw", x, rotation[:6])
    plain, rotated = (PrincipalComponents(steps=MANY)(given) for given in (x, wider))
    torch.testing.assert_close(plain.abs(), rotated.abs(), rtol=1e-8, atol=1e-10)
    # After a ReLU, and not centered, the first component is nowhere negative (Perron and Frobenius).
    assert (PrincipalComponents(center=False)(x.relu()) >= 0).all()


@pytest.mark.parametrize("norm", ["none", "l2", "l2_rms"])
def test_features_with_fewer_components_than_are_asked_for(norm):
    transform = PrincipalComponents(components=3, norm=norm)
    zeros = torch.zeros(2, 4, 3, 3, requires_grad=True)
    transform(zeros).square().sum().backward()
    assert not transform(zeros).any() and torch.equal(zeros.grad, torch.zeros_like(zeros))
    # All channels are one map: rounding is all that is left for the second component, and it stays small.
    shared = (features(2, 1, 3, 3) * torch.arange(1, 5).view(1, 4, 1, 1)).float().requires_grad_()
    found = transform(shared)
    (found * torch.randn(found.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert found[:, 0].abs().max() > 0.1 and found[:, 1:].abs().max() < 1e-5 * found[:, 0].abs().max()
    assert shared.grad.abs().max() < 100


def test_half_precision_and_repetition():
    half = (300 * features(2, 4, 3, 5)).to(torch.float16)  # whose squares leave the range of float16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = PrincipalComponents(components=2)(half)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, PrincipalComponents(components=2)(half.float()), rtol=1e-6, atol=1e-7)
    assert torch.equal(found, PrincipalComponents(components=2)(half))
    tiny = PrincipalComponents()(1e-9 * features(1, 4, 3, 5).float())
    torch.testing.assert_close(tiny, PrincipalComponents()(features(1, 4, 3, 5).float()), rtol=1e-4, atol=1e-5)
