"""Channel maps against loops, and a review of several maps per image against a review of each map alone."""

from __future__ import annotations

import pytest
import torch

from tskd_tune.contracts import Features, Shapes
from tskd_tune.errors import InputError
from tskd_tune.method.extractors import EXTRACTORS, build_extractors
from tskd_tune.method.review import ReviewLoss
from tskd_tune.method.sequences import KnowledgeSequence, Target
from tskd_tune.method.taps import Taps
from tskd_tune.method.transforms import Channels, PrincipalComponents, Transform

NORMS = ["none", "l2", "l2_rms", "map_l2"]


def features(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_hand(image, groups, norm):
    """The maps of one image [C, H, W], number by number."""
    channels, height, width = image.shape
    size = channels // groups
    maps = torch.stack([sum(image[group * size + i] for i in range(size)) / size for group in range(groups)])
    of_all = sum(number**2 for number in maps.flatten()).sqrt()
    result = torch.empty_like(maps)
    for number, map_ in enumerate(maps):
        of_one = sum(pixel**2 for pixel in map_.flatten()).sqrt()
        rms = (groups * height * width) ** 0.5 / of_all
        result[number] = map_ * {"none": 1, "l2": 1 / of_all, "l2_rms": rms, "map_l2": 1 / of_one}[norm]
    return result


@pytest.mark.parametrize("norm", NORMS)
def test_values_and_gradients_by_hand(norm):
    for groups, given in ((None, 6), (3, 3), (1, 1)):
        x = features(2, 6, 3, 4).requires_grad_()
        found = Channels(groups=groups, norm=norm)(x)
        wanted = torch.stack([by_hand(image, given, norm) for image in x])
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)
        weights = features(*found.shape, seed=1)
        ours, theirs = (torch.autograd.grad((maps * weights).sum(), x)[0] for maps in (found, wanted))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)
    assert torch.autograd.gradcheck(Channels(groups=2, norm=norm), (features(1, 4, 2, 3).requires_grad_(),))


def test_zeros_half_precision_and_repetition():
    for norm in NORMS:
        x = torch.zeros(2, 4, 3, 3, requires_grad=True)
        found = Channels(norm=norm)(x)
        found.square().sum().backward()
        assert torch.equal(found, x) and torch.equal(x.grad, x)
        dead = features(2, 4, 3, 3)
        dead[:, 1] = 0  # a dead channel
        assert not Channels(norm=norm)(dead)[:, 1].any() and Channels(norm=norm)(dead)[:, 0].any()
    half = (300 * features(2, 4, 3, 3)).to(torch.float16)  # whose squares leave the range of float16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Channels(groups=2)(half)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, Channels(groups=2)(half.float()), rtol=1e-6, atol=0)
    assert torch.equal(found, Channels(groups=2)(half))


def networks(channels, teacher_channels, seed=0):
    """The features of a student, its teacher and two snapshots at one stage."""
    counts = (channels, teacher_channels, channels, channels)
    return [Features({"stage1": features(3, count, 4, 5, seed=seed + i)}, {}) for i, count in enumerate(counts)]


def review(transform, student, teacher, **parts):
    torch.manual_seed(0)
    sequence = KnowledgeSequence()
    taps = Taps(Shapes.of(student), Shapes.of(teacher))
    made = build_extractors(lambda site: EXTRACTORS.build("conv_gru", site, hidden=3), sequence.steps(2), taps.sites)
    return ReviewLoss(taps, transform, sequence, Target(), made, **parts).double()


class One(Transform):
    """One of the maps of another transform."""

    def __init__(self, other, number):
        super().__init__()
        self.other, self.number = other, number

    def forward(self, given):
        return self.other(given)[:, self.number]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_of_several_maps_is_the_mean_over_the_maps_reviewed_alone(reduction):
    for transform, maps in ((Channels(groups=4, norm="l2_rms"), 4), (PrincipalComponents(components=2), 2)):
        student, teacher, *past = networks(4, 8)
        x = student.features["stage1"].requires_grad_()
        terms = review(transform, student, teacher, reduction=reduction)(student, teacher, past)
        alone = [
            review(One(transform, number), student, teacher, reduction=reduction)(student, teacher, past)
            for number in range(maps)
        ]
        loss, gap = (sum(found) / maps for found in zip(*((one.loss, one.teacher_gap) for one in alone), strict=True))
        torch.testing.assert_close(terms.loss, loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(terms.teacher_gap, gap, rtol=1e-12, atol=0)
        found, wanted = (torch.autograd.grad(value, x)[0] for value in (terms.loss, loss))
        assert wanted.abs().max() > 0
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-14)


class Flat(Transform):
    """No map at all."""

    def forward(self, given):
        return given.flatten(1)


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (Channels(), r"Channels makes 4 maps of stage 'stage1' of the student \(4 channels\), but 8 .* set .* groups"),
        (Channels(groups=3), "review.transform.groups: 3 groups of the same size .* 4 channels; set groups to"),
        (Flat(), r"turned features \[1, 4, 4, 5\] into \[1, 80\], but maps must be \[1, 4, 5\], or \[1, 'M', 4, 5\]"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused_before_the_training(transform, said):
    student, teacher, *_ = networks(4, 8)
    with pytest.raises(InputError, match=said):
        review(transform, student, teacher)
