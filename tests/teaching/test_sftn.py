"""SFTN: branches of a student behind the teacher's stages, and what they ask of the teacher."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tskd_tune import networks
from tskd_tune.contracts import Batch, Shapes
from tskd_tune.errors import InputError
from tskd_tune.teaching import TEACHER_METHODS, Setting, TeacherMethod
from tskd_tune.teaching.sftn import Branch

CLASSES, BATCH = 5, 6


def setting(teacher: networks.Network, student: str = "resnet8", size: int = 8) -> Setting:
    return Setting(
        teacher,
        teacher.probe(3, 8),
        networks.build(student, CLASSES).probe(3, size),
        lambda stage: networks.build(student, CLASSES).tail(stage),
        CLASSES,
        20,
        3,
    )


def made(teacher: str = "resnet8", student: str = "resnet8", **options: Any) -> tuple[TeacherMethod, networks.Network]:
    torch.manual_seed(0)
    network = networks.build(teacher, CLASSES).double()
    return TEACHER_METHODS.build("sftn", setting(network, student), **options).double(), network


def batch() -> Batch:
    stream = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, 3, 8, 8, generator=stream, dtype=torch.float64)
    return Batch(images, torch.arange(BATCH) % CLASSES, torch.arange(BATCH))


def log_softmax(logits: Tensor) -> Tensor:
    return logits - logits.exp().sum(1, keepdim=True).log()


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_losses_are_those_of_the_formula_and_reach_teacher_and_branches(temperature: float) -> None:
    method, teacher = made(kl_weight=2.0, branch_weight=0.7, task_weight=0.4, temperature=temperature)
    assert method.task_weight == 0.4
    given = batch()
    found = teacher(given.images)
    losses = method(found, None, given)

    guesses = []
    for stage in ("stage1", "stage2"):  # behind the last stage nothing of the student is left but its classifier
        branch = method.branches[stage]
        guesses.append(branch.tail(branch.transform(found.features[stage])))
    assert list(method.branches) == ["stage1", "stage2"]
    wanted = log_softmax(found.logits / temperature)
    gaps = [(wanted.exp() * (wanted - log_softmax(guess / temperature))).sum() / BATCH for guess in guesses]
    right = [log_softmax(guess)[torch.arange(BATCH), given.targets].mean() for guess in guesses]
    expected = {"branches_kl": 2.0 * temperature**2 * sum(gaps) / 2, "branches": -0.7 * sum(right) / 2}
    assert losses.keys() == expected.keys()
    leaves = [*teacher.parameters(), *method.parameters()]
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-10, atol=1e-12)
        ours, theirs = (
            torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True) for value in (loss, expected[name])
        )
        for first, second in zip(ours, theirs, strict=True):
            assert (first is None) == (second is None)
            if first is not None:
                torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-12)
    kl = torch.autograd.grad(losses["branches_kl"], [found.logits, found.features["stage1"]], retain_graph=True)
    assert all(bool(gradient.any()) for gradient in kl)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_2"])
def test_a_teachers_own_layers_behind_an_idle_transform_say_what_it_says(name: str) -> None:
    method, teacher = made(name, name)
    teacher.eval(), method.eval()
    found = teacher(batch().images)
    for stage, branch in method.branches.items():
        assert isinstance(branch, Branch)
        branch.transform, branch.tail = nn.Identity(), teacher.tail(stage)
        torch.testing.assert_close(branch(found.features[stage]), found.logits, rtol=0, atol=0)
    losses = method(found, None, batch())
    assert float(losses["branches_kl"].detach()) == pytest.approx(0.0, abs=1e-12)


def test_branches_have_the_students_shape_whatever_the_teachers() -> None:
    torch.manual_seed(0)
    teacher = networks.build("wrn_40_2", CLASSES)
    method = TEACHER_METHODS.build("sftn", setting(teacher, "resnet8x4", size=4))
    found = teacher(torch.randn(2, 3, 8, 8))
    seen: list[tuple[int, ...]] = []
    for branch in method.branches.values():
        branch.tail.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape[1:])))
    assert all(branch(found.features[stage]).shape == (2, CLASSES) for stage, branch in method.branches.items())
    assert seen == [(64, 4, 4), (128, 2, 2)]


def test_every_branch_is_a_student_of_its_own() -> None:
    method, _ = made()
    first, second = (method.branches[stage].tail for stage in ("stage1", "stage2"))
    assert {id(p) for p in first.parameters()}.isdisjoint(id(p) for p in second.parameters())
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


def test_networks_that_do_not_go_together_are_refused() -> None:
    torch.manual_seed(0)
    teacher = networks.build("resnet8", CLASSES)
    shape = (4, 8, 8)
    shallow = Shapes((CLASSES,), {"stem": shape, "stage1": shape}, {}, (4,))
    usual = setting(teacher)
    for student, sentence in ((shallow, "the teacher has no inner one"), (usual.student, "the teacher has no stage2")):
        given = Setting(teacher, shallow, student, usual.tail, CLASSES, 20, 3)
        with pytest.raises(InputError, match=f"'sftn' puts the student's layers .*{sentence}"):
            TEACHER_METHODS.build("sftn", given)
