"""OFD against its formula in float64, element by element; its margins against numeric integration."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from tskd_tune import distillers, networks
from tskd_tune.contracts import Batch, BatchNormStatistics, Classified, Probe, Shapes
from tskd_tune.distillers.ofd import expected_negatives
from tskd_tune.errors import InputError

BATCH = Batch(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 2]), torch.arange(3))
STAGES = ("stage1", "stage2")


def output(seed: int, sizes: tuple[int, ...] = (4, 4, 2), channels: int = 2) -> Classified:
    source = torch.Generator().manual_seed(seed)
    maps = {
        name: torch.randn(3, channels, size, size, generator=source, dtype=torch.float64).requires_grad_(seed == 0)
        for name, size in zip(("stem", *STAGES), sizes, strict=True)
    }
    # What OFD reads are the pre-activations: the features have other values.
    features = {name: torch.full_like(map_, math.nan) for name, map_ in maps.items()}
    return Classified(torch.zeros(3, 2), features, maps, Tensor())


def statistics(channels: int, seed: int = 0) -> BatchNormStatistics:
    source = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(2, channels, generator=source, dtype=torch.float64)
    return BatchNormStatistics(weight, bias)


def probe(student: Classified, teacher: Classified) -> Probe:
    norms = {stage: statistics(teacher.preactivations[stage].shape[1]) for stage in STAGES}
    return Probe(Shapes.of(student), Shapes.of(teacher), 2, torch.zeros(3), norms)


def made(student: Classified, teacher: Classified, **options: object) -> distillers.Distiller:
    torch.manual_seed(0)
    return distillers.build("ofd", probe(student, teacher), **options).double()


def connected(maps: Tensor, connector: torch.nn.Module) -> Tensor:
    convolution, norm = connector.connector
    maps = torch.einsum("bchw,oc->bohw", maps, convolution.weight[:, :, 0, 0])
    mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), correction=0, keepdim=True)
    return (maps - mean) / (variance + 1e-5).sqrt() * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def partial_distance(student: Tensor, teacher: Tensor, margins: list[float]) -> Tensor:
    """The paper's distance: nothing where the student is below a target below zero, else the square."""
    total = torch.zeros((), dtype=torch.float64)
    for b, c, i, j in product(*map(range, teacher.shape)):
        target, guess = max(float(teacher[b, c, i, j]), margins[c]), student[b, c, i, j]
        if not float(guess.detach()) <= target <= 0:
            total = total + (target - guess) ** 2
    return total


def test_it_is_the_partial_distance_with_stages_that_weigh_half_of_the_next() -> None:
    given, wanted = output(0), output(1, channels=4)
    ofd = made(given, wanted, weight=0.7)
    for connector in ofd.connectors:
        torch.nn.init.uniform_(connector.connector[1].weight, 0.5, 1.5)
        torch.nn.init.uniform_(connector.connector[1].bias, -0.5, 0.5)
    loss = ofd(given, wanted, BATCH)["ofd"]
    margins = expected_negatives(statistics(4)).tolist()
    shares = [
        partial_distance(connected(given.preactivations[stage], connector), wanted.preactivations[stage], margins)
        for stage, connector in zip(STAGES, ofd.connectors, strict=True)
    ]
    expected = 0.7 * (shares[0] / 2 + shares[1]) / 3
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    sources = [*(given.preactivations[stage] for stage in STAGES), *ofd.parameters()]
    for found, hoped in zip(torch.autograd.grad(loss, sources), torch.autograd.grad(expected, sources), strict=True):
        assert found.abs().max() > 1e-3
        torch.testing.assert_close(found, hoped, rtol=1e-8, atol=1e-10)


def test_the_authors_and_mdistillers_reductions_are_this_one() -> None:
    given, wanted = output(0), output(1, channels=4)
    ofd = made(given, wanted)
    author = mdistiller = 0.0
    for share, stage, connector in zip((0.5, 1.0), STAGES, ofd.connectors, strict=True):
        s, t, m = connected(given.preactivations[stage], connector), wanted.preactivations[stage], connector.margin
        lifted = torch.where(t > m, t, m)
        author += share * ((s - lifted) ** 2 * ((s > lifted) | (lifted > 0))).sum() / 3 / 1000
        cases = (s - m) ** 2 * ((s > m) & (t <= m)) + (s - t) ** 2 * ((t > 0) | ((s > t) & (t > m) & (t <= 0)))
        mdistiller += 0.001 * share * cases.mean(dim=0).sum()
    loss = ofd(given, wanted, BATCH)["ofd"]
    torch.testing.assert_close(loss, author, rtol=1e-10, atol=0)
    torch.testing.assert_close(loss, mdistiller, rtol=1e-10, atol=0)


def set_up(guess: float, target: float) -> tuple[float, float, float]:
    """The loss, its gradient and the margin of one channel whose connector hands the student on as it is."""
    ofd = made(output(0, channels=1), output(1, channels=1)).eval()
    for connector in ofd.connectors:
        torch.nn.init.ones_(connector.connector[0].weight)
    margin = float(ofd.connectors[1].margin)
    # The last stage alone; elsewhere both lie below every margin.
    maps = {"stage1": torch.full((1, 1, 2, 2), -9.0), "stage2": torch.full((1, 1, 1, 1), guess)}
    student = Classified(Tensor(), {}, {name: map_.double().requires_grad_() for name, map_ in maps.items()}, Tensor())
    maps["stage2"] = torch.full((1, 1, 1, 1), target)
    teacher = Classified(Tensor(), {}, {name: map_.double() for name, map_ in maps.items()}, Tensor())
    loss = ofd(student, teacher, BATCH)["ofd"] * 1000
    (gradient,) = torch.autograd.grad(loss, student.preactivations["stage2"])
    return float(loss.detach()), float(gradient), margin


def test_a_student_below_the_margin_of_a_silent_teacher_pays_nothing() -> None:
    for guess, target in [(-5.0, -4.0), (-4.0, -5.0), (-3.0, -0.01)]:
        loss, gradient, margin = set_up(guess, target)
        assert guess < margin < 0 and (loss, gradient) == (0.0, 0.0)


def test_a_student_above_a_silent_teachers_margin_is_pulled_to_it() -> None:
    loss, gradient, margin = set_up(0.5, -5.0)
    assert loss == pytest.approx((0.5 - margin) ** 2, rel=1e-4) and gradient > 0


def test_a_firing_teacher_is_met_from_both_sides() -> None:
    assert set_up(3.0, 2.0)[0] == pytest.approx(1.0, rel=1e-4)
    loss, gradient, _ = set_up(-3.0, 2.0)
    assert loss == pytest.approx(25.0, rel=1e-4) and gradient < 0


def test_a_student_that_meets_its_target_pays_nothing() -> None:
    given = output(0)
    ofd = made(given, output(1, channels=4))
    lifted = {
        stage: torch.maximum(connector.connector(given.preactivations[stage]), connector.margin).detach()
        for stage, connector in zip(STAGES, ofd.connectors, strict=True)
    }
    # Lifted where it is below the margin, and there a student below its target pays nothing.
    assert float(ofd(given, Classified(Tensor(), {}, lifted, Tensor()), BATCH)["ofd"].detach()) == 0.0


@pytest.mark.parametrize(("weight", "bias"), [(1.0, 0.0), (0.5, 0.3), (-0.5, 0.3), (2.0, -1.5), (0.1, -3.0)])
def test_a_margin_is_the_expected_negative_value_of_a_normal(weight: float, bias: float) -> None:
    density = stats.norm(bias, abs(weight)).pdf
    low = bias - 40 * abs(weight)
    mass = integrate.quad(density, low, 0, points=[bias] if bias < 0 else None, limit=200)[0]
    mean = integrate.quad(lambda x: x * density(x), low, 0, points=[bias] if bias < 0 else None, limit=200)[0] / mass
    found = expected_negatives(BatchNormStatistics(torch.tensor([weight]).double(), torch.tensor([bias]).double()))
    assert found.tolist() == pytest.approx([mean], rel=1e-7)


def test_channels_that_are_hardly_ever_negative_get_three_deviations() -> None:
    # A share of .001 below zero is a mean of 3.0902 deviations.
    bias = torch.tensor([3.08, 3.10, 50.0], dtype=torch.float64) * 0.5
    found = expected_negatives(BatchNormStatistics(torch.full((3,), -0.5, dtype=torch.float64), bias)).tolist()
    assert found[1:] == [-1.5, -1.5] and -0.3 < found[0] < 0


def test_a_channel_without_deviation_has_a_finite_margin() -> None:
    bias = torch.tensor([-0.7, 0.0, 0.7])
    found = expected_negatives(BatchNormStatistics(torch.zeros(3), bias))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([-0.7, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("resnet14", ["layer1.1.bn2", "layer2.1.bn2", "layer3.1.bn2"]),
        ("wrn_16_1", ["block2.layer.0.bn1", "block3.layer.0.bn1", "bn1"]),
    ],
)
def test_margins_are_those_of_the_batch_norms_that_the_authors_take(name: str, norms: list[str]) -> None:
    torch.manual_seed(0)
    teacher = networks.build(name, 3)
    for norm in norms:
        torch.nn.init.normal_(teacher.get_submodule(norm).bias)
    shapes = teacher.probe(3, 8)
    ofd = distillers.build("ofd", Probe(shapes, shapes, 3, torch.zeros(3), teacher.stage_norms()))
    for connector, path in zip(ofd.connectors, norms, strict=True):
        biases = teacher.get_submodule(path).bias.tolist()
        expected = [b - stats.norm.pdf(b) / stats.norm.cdf(-b) if stats.norm.cdf(-b) > 1e-3 else -3.0 for b in biases]
        assert connector.margin.flatten().tolist() == pytest.approx(expected, rel=1e-5)
    assert [key for key in ofd.state_dict() if key.endswith("margin")] == [f"connectors.{n}.margin" for n in range(3)]


def test_the_teachers_map_is_brought_to_the_students_size() -> None:
    small, large = output(0, (4, 2, 2)), output(0, (4, 4, 2))
    ofd = made(small, large)
    pooled = torch.nn.functional.avg_pool2d(large.preactivations["stage1"], 2)
    repeated = small.preactivations["stage1"].repeat_interleave(2, 2).repeat_interleave(2, 3)
    for student, teacher, same in [(small, large, pooled), (large, small, repeated)]:
        twin = Classified(Tensor(), {}, {**teacher.preactivations, "stage1": same}, Tensor())
        found, expected = ofd(student, teacher, BATCH)["ofd"], ofd(student, twin, BATCH)["ofd"]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_first_connectors_are_normal_as_the_authors_draw_them() -> None:
    ofd = made(output(0, channels=64), output(1, channels=100))
    for connector in ofd.connectors:
        assert float(connector.connector[0].weight.detach().std()) == pytest.approx(math.sqrt(2 / 100), rel=0.05)


def test_the_defaults_are_the_authors() -> None:
    ofd = made(output(0), output(1))
    assert (ofd.weight, ofd.task_weight) == (0.001, 1.0)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_network_without_preactivations_is_refused(who: str) -> None:
    whole = output(0)
    poor = Classified(whole.logits, whole.features, {"stage1": whole.preactivations["stage1"]}, whole.embedding)
    shapes = [Shapes.of(poor if who == name else whole) for name in ("student", "teacher")]
    norms = dict.fromkeys(STAGES, statistics(2))
    said = (
        f"'ofd' reads the {who}'s stages before their activation, but there is no such map of 'stage2' .known: stage1"
    )
    with pytest.raises(InputError, match=said):
        distillers.build("ofd", Probe(*shapes, 2, torch.zeros(3), norms))


def test_a_stage_without_a_batch_norm_is_refused() -> None:
    shapes = Shapes.of(output(0))
    said = "margins from the teacher's batch norms, but 'stage2' has none before its pre-activation .known: stage1"
    with pytest.raises(InputError, match=said):
        distillers.build("ofd", Probe(shapes, shapes, 2, torch.zeros(3), {"stage1": statistics(2)}))
