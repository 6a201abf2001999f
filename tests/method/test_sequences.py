from __future__ import annotations

import pytest
import torch

from tskd_tune.errors import InputError
from tskd_tune.method.sequences import KnowledgeSequence, Target


def maps(count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(count)]


M0, M1, M2, NOW = maps()


@pytest.mark.parametrize(
    ("kind", "element"),
    [
        ("abs", lambda a, b: torch.where(b > a, b - a, a - b)),
        ("signed", lambda a, b: b - a),
        ("squared", lambda a, b: a * a - 2 * a * b + b * b),
    ],
)
def test_increments(kind, element):
    found = KnowledgeSequence(increment_kind=kind)([M0, M1, M2], NOW)
    assert found.shape == (3, 2, 1, 3, 4)
    expected = torch.stack([element(M0, M1), element(M1, M2), element(M2, NOW)]).unsqueeze(2)
    torch.testing.assert_close(found, expected)


def test_feature_maps():
    whole = KnowledgeSequence(sequence="feature_map")([M0, M1, M2], NOW)
    assert torch.equal(whole, torch.stack([M0, M1, M2, NOW]).unsqueeze(2))
    past = KnowledgeSequence(sequence="feature_map", include_current=False)([M0, M1, M2], NOW)
    assert torch.equal(past, torch.stack([M0, M1, M2]).unsqueeze(2))


@pytest.mark.parametrize(
    ("options", "steps"),
    [({}, 3), ({"sequence": "feature_map"}, 4), ({"sequence": "feature_map", "include_current": False}, 3)],
)
def test_steps(options, steps):
    sequence = KnowledgeSequence(**options)
    assert sequence.steps(3) == steps == len(sequence([M0, M1, M2], NOW))


@pytest.mark.parametrize("kind", ["increment", "feature_map"])
def test_orders(kind):
    def made(order, generator=None):
        return KnowledgeSequence(sequence=kind, sequence_order=order)([M0, M1, M2], NOW, generator)

    forward = made("forward")
    assert torch.equal(made("reversed"), forward.flip(0))
    assert torch.equal(made("repeat_last"), forward[-1:].expand_as(forward))
    assert torch.equal(made("zeros"), torch.zeros_like(forward))
    assert torch.equal(made("random_memory"), forward)


def test_shuffling_follows_the_generator():
    sequence = KnowledgeSequence(sequence_order="shuffled")
    forward = KnowledgeSequence()([M0, M1, M2], NOW)

    def orders(seed):
        generator = torch.Generator().manual_seed(seed)
        return [order(sequence([M0, M1, M2], NOW, generator)) for _ in range(40)]

    def order(found):
        return tuple(next(i for i in range(3) if torch.equal(forward[i], element)) for element in found)

    found = orders(1)
    assert len(set(found)) == 6, "every order of three occurs"
    assert all(sorted(one) == [0, 1, 2] for one in found)
    assert orders(1) == found
    assert orders(2) != found
    with pytest.raises(InputError, match="shuffled needs a random generator"):
        sequence([M0, M1, M2], NOW)


def test_equal_snapshots_change_only_last():
    found = KnowledgeSequence()([M0, M0, M0], NOW)
    assert torch.equal(found[:2], torch.zeros_like(found[:2]))
    torch.testing.assert_close(found[2, :, 0], (NOW - M0).abs())


@pytest.mark.parametrize("kind", ["increment", "feature_map"])
def test_the_gradient_of_the_sequence(kind):
    now = NOW.clone().requires_grad_()
    attached = KnowledgeSequence(sequence=kind)([M0, M1], now)
    (gradient,) = torch.autograd.grad(attached.sum(), now)
    expected = torch.sign(NOW - M1) if kind == "increment" else torch.ones_like(NOW)
    assert torch.equal(gradient, expected)
    detached = KnowledgeSequence(sequence=kind, sequence_gradient="detach")([M0, M1], now)
    assert not detached.requires_grad
    assert torch.equal(attached, detached)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sequence": "feature_map", "increment_kind": "signed"},
            "review.increment_kind: does not apply to sequence: feature_map",
        ),
        ({"include_current": False}, "review.include_current: does not apply to sequence: increment"),
        (
            {"sequence": "feature_map", "include_current": False, "sequence_gradient": "detach"},
            "review.sequence_gradient: does not apply without today's map",
        ),
        (
            {"sequence_order": "zeros", "increment_kind": "squared"},
            "review.increment_kind: does not apply to sequence_order: zeros, got squared",
        ),
        (
            {"sequence_order": "zeros", "sequence_gradient": "detach"},
            "review.sequence_gradient: does not apply to sequence_order: zeros, got detach",
        ),
    ],
)
def test_options_that_do_not_apply_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        KnowledgeSequence(**options)


@pytest.mark.parametrize("order", ["reversed", "shuffled", "repeat_last"])
def test_a_single_element_has_no_order(order):
    sequence = KnowledgeSequence(sequence_order=order)
    assert sequence.steps(2) == 2
    with pytest.raises(InputError, match=f"{order} needs at least 2 elements, but with k = 1"):
        sequence.steps(1)


def test_the_absolute_increment():
    student, teacher = NOW.clone().requires_grad_(), M0.clone().requires_grad_()
    found = Target()(student, teacher)
    torch.testing.assert_close(found, torch.where(M0 > NOW, M0 - NOW, NOW - M0))
    found.sum().backward()
    assert torch.equal(student.grad, torch.sign(NOW - M0))
    assert teacher.grad is None
    detached = Target(gradient="detach")(student, teacher)
    assert torch.equal(detached, found)
    assert not detached.requires_grad


def test_the_teachers_map():
    student, teacher = NOW.clone().requires_grad_(), M0.clone().requires_grad_()
    found = Target(kind="teacher_map")(student, teacher)
    assert torch.equal(found, M0)
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient": "detach"}, "review.target.gradient: does not apply to kind: teacher_map"),
        ({"prediction_scale": 0.0}, "review.target.prediction_scale: 0 with kind: teacher_map"),
    ],
)
def test_what_does_not_apply_to_teacher_maps(options, message):
    with pytest.raises(InputError, match=message):
        Target(kind="teacher_map", **options)
