"""VID against its formula in float64, in value and gradient, and at its minima."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Probe, Shapes

BATCH = Batch(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 2]), torch.arange(3))


def output(seed: int, sizes: tuple[int, ...] = (4, 4, 2), channels: int = 2) -> Classified:
    source = torch.Generator().manual_seed(seed)
    names = ["stem", *(f"stage{number}" for number in range(1, len(sizes)))]
    features = {
        name: torch.randn(3, channels, size, size, generator=source, dtype=torch.float64).requires_grad_(seed == 0)
        for name, size in zip(names, sizes, strict=True)
    }
    return Classified(torch.zeros(3, 2), features, {}, Tensor())


def made(student: Classified, teacher: Classified, **options: object) -> distillers.Distiller:
    torch.manual_seed(0)
    return distillers.build("vid", Probe(Shapes.of(student), Shapes.of(teacher), 2, torch.zeros(3)), **options).double()


def likelihood(given: Tensor, wanted: Tensor, weights: list[Tensor], log_scale: Tensor) -> Tensor:
    """The negative log-likelihood, channel by channel of the teacher."""
    for number, weight in enumerate(weights):
        given = torch.einsum("bchw,oc->bohw", given if number == 0 else given.clamp_min(0), weight[:, :, 0, 0])
    total = torch.zeros((), dtype=torch.float64)
    for channel in range(wanted.shape[1]):
        variance = torch.log(1 + torch.exp(log_scale[channel])) + 1e-5
        gaps = given[:, channel] - wanted[:, channel]
        total = total + (gaps**2 / (2 * variance) + variance.sqrt().log()).sum()
    return total / wanted.numel()


def test_it_is_the_sum_of_the_negative_log_likelihoods_without_the_stem() -> None:
    given, wanted = output(0), output(1, channels=4)
    vid = made(given, wanted, weight=3.0)
    for posterior in vid.posteriors:
        torch.nn.init.normal_(posterior.log_scale)
    loss = vid(given, wanted, BATCH)["vid"]
    own = [[posterior.regressor[n].weight for n in (0, 2, 4)] for posterior in vid.posteriors]
    expected = 3.0 * sum(
        (
            likelihood(given.features[stage], wanted.features[stage], weights, posterior.log_scale)
            for stage, weights, posterior in zip(("stage1", "stage2"), own, vid.posteriors, strict=True)
        ),
        torch.zeros((), dtype=torch.float64),
    )
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    sources = [given.features["stage1"], given.features["stage2"], *vid.parameters()]
    for found, hoped in zip(torch.autograd.grad(loss, sources), torch.autograd.grad(expected, sources), strict=True):
        assert found.abs().max() > 1e-5
        torch.testing.assert_close(found, hoped, rtol=1e-9, atol=1e-12)
    assert [tuple(weight.shape[:2]) for weight in own[0]] == [(4, 2), (4, 4), (4, 4)]


@pytest.mark.parametrize("variance", [0.01, 5.0, 2000.0])
def test_every_channel_begins_with_the_variance_that_is_asked_for(variance: float) -> None:
    given, wanted = output(0), output(1, channels=4)
    for posterior in made(given, wanted, variance=variance).posteriors:
        assert posterior.log_scale.shape == (4,)
        found = torch.nn.functional.softplus(posterior.log_scale.detach()) + 1e-5
        torch.testing.assert_close(found, torch.full((4,), variance, dtype=torch.float64), rtol=1e-5, atol=0)


def test_the_first_log_scale_is_repdistillers() -> None:
    found = made(output(0), output(1)).posteriors[0].log_scale[0]
    assert float(found.detach()) == pytest.approx(math.log(math.exp(5.0 - 1e-5) - 1.0), rel=1e-6)


def guessed(vid: distillers.Distiller, given: Classified, shift: float) -> Classified:
    """A teacher that the student guesses wrong by a shift everywhere."""
    stages = zip(("stage1", "stage2"), vid.posteriors, strict=True)
    features = {stage: posterior.regressor(given.features[stage]).detach() + shift for stage, posterior in stages}
    return Classified(given.logits, features, {}, Tensor())


def test_a_mean_that_is_the_teachers_is_the_minimum() -> None:
    given = output(0)
    vid = made(given, output(1, channels=4))
    loss = vid(given, guessed(vid, given, 0.0), BATCH)["vid"]
    assert float(loss.detach()) == pytest.approx(2 * 0.5 * math.log(5.0), rel=1e-6)
    regressors = [weight for posterior in vid.posteriors for weight in posterior.regressor.parameters()]
    stages = [given.features[stage] for stage in ("stage1", "stage2")]
    assert all(not gradient.any() for gradient in torch.autograd.grad(loss, [*stages, *regressors]))


def test_the_best_variance_is_the_mean_squared_gap() -> None:
    given = output(0)
    vid = made(given, output(1, channels=4), variance=0.3**2)
    scales = [posterior.log_scale for posterior in vid.posteriors]
    for shift, sign in [(0.3, 0), (0.6, -1), (0.1, 1)]:
        loss = vid(given, guessed(vid, given, shift), BATCH)["vid"]
        gradients = torch.cat(torch.autograd.grad(loss, scales))
        # Float32 held the first log-scale.
        assert (gradients.abs() < 1e-6).all() if sign == 0 else (gradients.sign() == sign).all()


def test_the_larger_of_two_maps_is_pooled() -> None:
    small, large = output(0, (4, 2, 2)), output(0, (4, 4, 2))
    vid = made(small, large)
    pooled = torch.nn.functional.avg_pool2d(large.features["stage1"], 2)
    reduced = Classified(large.logits, {**large.features, "stage1": pooled}, {}, large.embedding)
    for pair, twin in [((small, large), (small, reduced)), ((large, small), (reduced, small))]:
        torch.testing.assert_close(vid(*pair, BATCH)["vid"], vid(*twin, BATCH)["vid"], rtol=1e-12, atol=0)


def test_the_defaults_are_repdistillers() -> None:
    vid = made(output(0), output(1))
    assert (vid.weight, vid.task_weight) == (1.0, 1.0)


def test_a_variance_below_the_least_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0.00001"):
        made(output(0), output(1), variance=1e-5)
