"""SAD against its formula in float64, sample by sample and pair by pair of stages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Probe, Shapes
from tskd_tune.distillers import DISTILLERS, Need, needs_of
from tskd_tune.errors import InputError

BATCH = Batch(torch.zeros(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1]), torch.arange(5))
Layout = tuple[tuple[int, int], ...]
STUDENT: Layout = ((2, 8), (3, 4), (4, 4))
TEACHER: Layout = ((4, 4), (6, 4), (5, 2))


def output(seed: int, layout: Layout) -> Classified:
    """A network whose stem and stages have these channels and sizes."""
    source = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(5, *shape, generator=source, dtype=torch.float64).requires_grad_(seed == 0)

    names = ["stem", *(f"stage{number}" for number in range(1, len(layout)))]
    features = {name: drawn(count, size, size) for name, (count, size) in zip(names, layout, strict=True)}
    return Classified(drawn(3), features, {}, Tensor())


def made(student: Classified, teacher: Classified, **options: object) -> distillers.Distiller:
    torch.manual_seed(0)
    return distillers.build("sad", Probe(Shapes.of(student), Shapes.of(teacher), 3, torch.zeros(5)), **options).double()


def projected(rows: Tensor, layers: Any) -> Tensor:
    linear, norm = layers[0], layers[1]
    rows = rows @ linear.weight.t() + linear.bias
    rows = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
    return rows * norm.weight + norm.bias


def spatial(features: Tensor, side: int) -> list[Tensor]:
    """Of one sample ``[C, H, W]`` the cells of its map, each the mean of a block, of length 1."""
    energy = (features**2).mean(0)
    if side > len(energy):
        cells = list(
            energy.repeat_interleave(side // len(energy), 0).repeat_interleave(side // len(energy), 1).flatten()
        )
    else:
        step = len(energy) // side
        blocks = [(step * (n // side), step * (n % side)) for n in range(side * side)]
        cells = [energy[i : i + step, j : j + step].mean() for i, j in blocks]
    length = torch.stack([cell**2 for cell in cells]).sum().sqrt()
    return [cell / length for cell in cells]


def attention(given: list[Tensor], wanted: list[Tensor], net: Any) -> Tensor:
    """Softmax over the student's stages of (bilinear product + places) / sqrt(dimension), ``[B, T, S]``."""
    keys = [projected(map_.mean((2, 3)), layers).clamp_min(0) for map_, layers in zip(given, net.keys, strict=True)]
    queries = [projected(map_.mean((2, 3)), layers) for map_, layers in zip(wanted, net.queries, strict=True)]
    samples, dimension = keys[0].shape
    # The rows of one batch norm: all stages of all samples.
    towards = projected(torch.cat(keys), net.bilinear).view(len(keys), samples, len(queries), dimension)
    scores = torch.zeros(samples, len(queries), len(keys), dtype=torch.float64)
    for b in range(samples):
        for t, query in enumerate(queries):
            places = [float(net.teacher_places[t].detach() @ place.detach()) for place in net.student_places]
            assert all(place != 0 for place in places)
            for s in range(len(keys)):
                product = query[b] @ towards[s, b, t] + net.teacher_places[t] @ net.student_places[s]
                scores[b, t, s] = torch.exp(product / math.sqrt(dimension))
    return scores / scores.sum(2, keepdim=True)


@pytest.mark.parametrize("teacher", [TEACHER, (*TEACHER, (5, 2)), ((4, 16), (4, 16))])
def test_it_is_the_attended_gap_of_spatial_maps_in_value_and_gradient(teacher: Layout) -> None:
    student, taught = output(0, STUDENT), output(1, teacher)
    sad = made(student, taught, dimension=4, weight=3.0)
    for module in sad.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias)
    loss = sad(student, taught, BATCH)["sad"]
    given, wanted = ([o.features[name] for name in o.features if name != "stem"] for o in (student, taught))
    shares = attention(given, wanted, sad.attention)
    expected = torch.zeros((), dtype=torch.float64)
    for t, theirs in enumerate(wanted):
        side = theirs.shape[-1]
        for s, ours in enumerate(given):
            for b in range(5):
                cells = zip(spatial(ours[b], side), spatial(theirs[b], side), strict=True)
                gap = torch.stack([(a - c) ** 2 for a, c in cells]).mean()
                expected = expected + 3.0 * shares[b, t, s] * gap / 5
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    # A bias before a batch norm has no gradient, nor has what adds the same to the scores of all student stages.
    dead = ("0.bias", "bilinear.1.bias")
    sources = [*given, *(parameter for name, parameter in sad.named_parameters() if not name.endswith(dead))]
    for found, hoped in zip(torch.autograd.grad(loss, sources), torch.autograd.grad(expected, sources), strict=True):
        assert found.abs().max() > 1e-9
        torch.testing.assert_close(found, hoped, rtol=1e-8, atol=1e-12)


def test_shares_sum_to_one_over_the_students_stages() -> None:
    student, teacher = output(0, STUDENT), output(1, (*TEACHER, (5, 2)))
    sad = made(student, teacher)
    shares = sad.attention(*([o.features[n] for n in o.features if n != "stem"] for o in (student, teacher)))
    assert shares.shape == (5, 3, 2) and (shares > 0).all() and shares.std() > 1e-3
    torch.testing.assert_close(shares.sum(2), torch.ones(5, 3, dtype=torch.float64))


def test_maps_of_the_same_form_leave_no_loss_whatever_their_channels_and_scale() -> None:
    base = output(1, ((1, 4), (1, 4))).features["stage1"]
    student = Classified(Tensor(), {"stage1": base.repeat(1, 2, 1, 1), "stage2": -3 * base}, {}, Tensor())
    teacher = Classified(Tensor(), {"stage1": 0.1 * base.repeat(1, 5, 1, 1)}, {}, Tensor())
    assert float(made(student, teacher, kd_weight=0.0)(student, teacher, BATCH)["sad"].detach()) < 1e-25


def test_softened_logits_stand_beside_the_maps() -> None:
    student, teacher = output(0, STUDENT), output(1, TEACHER)
    sad = made(student, teacher, kd_weight=0.7, temperature=2.0)
    expected = 0.0
    for b in range(5):
        p, q = ([math.exp(z / 2.0) for z in o.logits[b].tolist()] for o in (teacher, student))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        expected += 0.7 * 4.0 * sum(a * math.log(a / c) for a, c in zip(p, q, strict=True)) / 5
    losses = sad(student, teacher, BATCH)
    assert list(losses) == ["sad", "kd"]
    assert float(losses["kd"].detach()) == pytest.approx(expected, rel=1e-12)
    assert losses["sad"].equal(made(student, teacher)(student, teacher, BATCH)["sad"])


def test_without_a_weight_of_logits_there_is_no_such_loss_and_no_such_need() -> None:
    student, teacher = output(0, STUDENT), output(1, TEACHER)
    blind = [Classified(Tensor(), o.features, {}, Tensor()) for o in (student, teacher)]
    sad = made(student, teacher, kd_weight=0.0)
    assert list(sad(*blind, BATCH)) == ["sad"] and sad.needs == {Need.FEATURES}
    slot = DISTILLERS.slot()
    assert needs_of(slot.parse({"name": "sad", "kd_weight": 0.0})) == {Need.FEATURES}
    assert needs_of(slot.parse("sad")) == {Need.FEATURES, Need.LOGITS} == made(student, teacher).needs


def test_the_defaults_are_the_authors_and_every_one_is_an_option() -> None:
    student, teacher = output(0, STUDENT), output(1, TEACHER)
    sad = made(student, teacher)
    assert (sad.weight, sad.kd_weight, sad.temperature, sad.task_weight) == (200.0, 0.9, 4.0, 1.0)
    assert sad.attention.student_places.shape == (2, 128)
    other = made(student, teacher, task_weight=0.1, dimension=8)
    assert other.task_weight == 0.1 and other.attention.student_places.shape == (2, 8)
    doubled = made(student, teacher, weight=400.0)(student, teacher, BATCH)["sad"]
    torch.testing.assert_close(doubled, 2 * sad(student, teacher, BATCH)["sad"])


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_network_with_a_stem_alone_is_refused(who: str) -> None:
    whole, poor = output(0, STUDENT), output(0, STUDENT[:1])
    outputs = (poor, whole) if who == "student" else (whole, poor)
    with pytest.raises(
        InputError, match=f"'sad' compares stages, but the {who} has none behind its stem; choose another"
    ):
        made(*outputs)
