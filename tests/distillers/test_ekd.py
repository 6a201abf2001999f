"""The EKD-style distiller: its losses written out, and whose gradient goes where."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tskd_tune import distillers, networks
from tskd_tune.contracts import Batch, Classified, Probe, Shapes
from tskd_tune.distillers import Distiller
from tskd_tune.errors import InputError

CLASSES, BATCH, T = 5, 6, 3.0
STUDENT = {"stem": (4, 8, 8), "stage1": (3, 8, 8), "stage2": (4, 4, 4)}
TEACHER = {"stem": (4, 9, 9), "stage1": (5, 9, 9), "stage2": (2, 3, 3)}
STAGES = ("stage1", "stage2")
EPSILON = 1e-5


def shapes(features: dict[str, tuple[int, ...]]) -> Shapes:
    return Shapes((CLASSES,), features, features, (7,))


def output(features: dict[str, tuple[int, ...]], seed: int) -> Classified:
    stream = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, generator=stream, dtype=torch.float64).requires_grad_()

    maps = {stage: leaf(*shape) for stage, shape in features.items()}
    return Classified(leaf(CLASSES), maps, maps, leaf(7))


def setting(**options: Any) -> tuple[Distiller, Classified, Classified, Batch]:
    torch.manual_seed(0)
    targets = torch.tensor([0, 1, 2, 3, 4, 0])
    probe = Probe(shapes(STUDENT), shapes(TEACHER), CLASSES, targets)
    distiller = distillers.build("ekd", probe, **{"width": 3, "temperature": T, **options}).double()
    distiller.begin_epoch(0, torch.Generator())
    batch = Batch(torch.zeros(BATCH, 3, 8, 8, dtype=torch.float64), targets, torch.arange(BATCH))
    return distiller, output(STUDENT, 1), output(TEACHER, 2), batch


def log_softmax(logits: Tensor) -> Tensor:
    return logits - logits.exp().sum(1, keepdim=True).log()


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    given, wanted = log_softmax(student / T), log_softmax(teacher / T)
    return T * T * (wanted.exp() * (wanted - given)).sum() / BATCH


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return -torch.stack([row[target] for row, target in zip(log_softmax(logits), targets, strict=True)]).mean()


def guided(parts: dict[str, Tensor], features: Tensor, bottleneck: bool) -> tuple[Tensor, Tensor]:
    """A guided module from its parameters: 1x1 convolution, (batch norm, ReLU), mean over the pixels, classifier."""
    mapped = torch.einsum("bchw,dc->bdhw", features, parts["reduce.0.weight"][:, :, 0, 0])
    if bottleneck:
        mean = mapped.mean((0, 2, 3), keepdim=True)
        variance = ((mapped - mean) ** 2).mean((0, 2, 3), keepdim=True)
        scale, shift = (parts[f"reduce.1.{name}"].view(1, -1, 1, 1) for name in ("weight", "bias"))
        mapped = ((mapped - mean) / (variance + EPSILON).sqrt() * scale + shift).clamp(min=0)
    else:
        mapped = mapped + parts["reduce.0.bias"].view(1, -1, 1, 1)
    embedding = mapped.sum((2, 3)) / mapped[0, 0].numel()
    return embedding, embedding @ parts["fc.weight"].T + parts["fc.bias"]


def parts_of(distiller: Distiller, who: str, stage: str) -> dict[str, Tensor]:
    module = getattr(distiller, f"{who}_guides")[stage]
    return dict(module.named_parameters())


def written_out(
    distiller: Distiller, student: Classified, teacher: Classified, batch: Batch, weights: dict[str, float], **how: bool
) -> dict[str, Tensor]:
    """The losses of method 3.2, with a, b, c and e."""

    def fixed(values: Tensor) -> Tensor:
        return values.detach() if how["stopped"] else values

    a, b, c, e = (weights[name] for name in "abce")
    found = {"teacher": cross_entropy(teacher.logits, batch.targets)}
    found["ekd"] = b * divergence(student.logits, fixed(teacher.logits))
    found["guides"] = found["guided"] = torch.zeros((), dtype=torch.float64)
    for stage in STAGES:
        bottleneck = how["bottleneck"]
        ours = guided(parts_of(distiller, "student", stage), student.features[stage], bottleneck)
        theirs = guided(parts_of(distiller, "teacher", stage), teacher.features[stage], bottleneck)
        found["teacher"] = found["teacher"] + a * cross_entropy(theirs[1], batch.targets)
        found["guides"] = found["guides"] + a * cross_entropy(ours[1], batch.targets)
        u, v = fixed(theirs[0]), ours[0]
        gap = u / (u**2).sum(1, keepdim=True).sqrt() - v / (v**2).sum(1, keepdim=True).sqrt()
        distance = (gap**2).sum() / BATCH
        found["guided"] = found["guided"] + c * (divergence(ours[1], fixed(theirs[1])) + e * distance)
    return found


def everything(distiller: Distiller, student: Classified, teacher: Classified) -> dict[str, Tensor]:
    """Every leaf that a gradient may reach."""
    leaves = {f"own {name}": parameter for name, parameter in distiller.named_parameters()}
    for who, found in (("student", student), ("teacher", teacher)):
        leaves |= {f"{who} {stage}": map_ for stage, map_ in found.features.items()}
        leaves[f"{who} logits"] = found.logits
    return leaves


def gradients(loss: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if given is None else given
        for (name, leaf), given in zip(leaves.items(), found, strict=True)
    }


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize("kind", ["linear", "bottleneck"])
def test_every_loss_and_its_gradient_are_those_of_the_formula(kind: str, stopped: bool) -> None:
    weights = {"a": 0.4, "b": 0.7, "c": 1.3, "e": 0.6}
    options = {"auxiliary_weight": 0.4, "weight": 0.7, "guided_weight": 1.3, "embedding_weight": 0.6}
    distiller, student, teacher, batch = setting(guided=kind, stop_gradient=stopped, **options)
    losses = distiller(student, teacher, batch)
    expected = written_out(
        distiller, student, teacher, batch, weights, stopped=stopped, bottleneck=kind == "bottleneck"
    )
    assert losses.keys() == expected.keys() == {"teacher", "ekd", "guides", "guided"}
    leaves = everything(distiller, student, teacher)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-10, atol=1e-12)
        found, wanted = gradients(loss, leaves), gradients(expected[name], leaves)
        for leaf in leaves:
            torch.testing.assert_close(found[leaf], wanted[leaf], rtol=1e-8, atol=1e-12, msg=f"{name}: {leaf}")


def reached(loss: Tensor, leaves: dict[str, Tensor]) -> set[str]:
    return {name for name, gradient in gradients(loss, leaves).items() if bool(gradient.any())}


@pytest.mark.parametrize("stopped", [True, False])
def test_the_student_pulls_its_teacher_only_in_mutual_learning(stopped: bool) -> None:
    distiller, student, teacher, batch = setting(stop_gradient=stopped, embedding_weight=1.0)
    losses, leaves = distiller(student, teacher, batch), everything(distiller, student, teacher)
    of_teacher = {name for name in leaves if name.startswith(("teacher", "own teacher"))}
    pulled = (reached(losses["ekd"], leaves) | reached(losses["guided"], leaves)) & of_teacher
    assert bool(pulled) != stopped
    assert stopped or {"teacher logits", "teacher stage1", "own teacher_guides.stage2.reduce.0.weight"} <= pulled
    # Whatever is stopped, the labels train each network and its modules, and no other.
    assert reached(losses["teacher"], leaves) <= of_teacher
    assert {"teacher logits", "teacher stage1", "teacher stage2"} <= reached(losses["teacher"], leaves)
    assert reached(losses["guides"], leaves).isdisjoint(of_teacher)


def test_the_stem_has_no_guided_module() -> None:
    distiller, student, teacher, batch = setting()
    total = torch.stack(list(distiller(student, teacher, batch).values())).sum()
    assert "student stem" not in reached(total, everything(distiller, student, teacher))


def test_a_frozen_teacher_takes_no_gradients_and_moves_nothing() -> None:
    distiller, student, teacher, batch = setting(freeze_teacher_after=2)
    constant = teacher.detached()
    for epoch, learns in ((2, True), (3, False), (0, True)):
        distiller.train()
        distiller.begin_epoch(epoch, torch.Generator())
        assert distiller.trains_teacher(epoch) == learns
        before = {name: value.clone() for name, value in distiller.teacher_guides.state_dict().items()}
        losses = distiller(student, teacher if learns else constant, batch)
        assert ("teacher" in losses) == learns
        distiller.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        given = [parameter.grad is not None for parameter in distiller.teacher_guides.parameters()]
        assert all(given) if learns else not any(given)
        after = distiller.teacher_guides.state_dict()
        assert any(not torch.equal(before[name], after[name]) for name in before) == learns
        assert all(parameter.grad is not None for parameter in distiller.student_guides.parameters())


def test_without_guided_modules_logits_and_the_teachers_task_remain() -> None:
    distiller, student, teacher, batch = setting(guided="none", weight=0.5, width=64)
    losses = distiller(student, teacher, batch)
    assert losses.keys() == {"ekd", "teacher"} and not list(distiller.parameters())
    torch.testing.assert_close(losses["ekd"], 0.5 * divergence(student.logits, teacher.logits.detach()))
    torch.testing.assert_close(losses["teacher"], cross_entropy(teacher.logits, batch.targets))


def test_the_width_is_that_of_the_embeddings() -> None:
    distiller = setting(width=9)[0]
    assert {module.fc.in_features for module in distiller.student_guides.values()} == {9}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"guided": "none", "guided_weight": 2.0, "width": 64},
            "distiller.guided_weight: 'ekd' does not use guided",
        ),
        ({"guided": "none", "auxiliary_weight": 0.0, "width": 64}, "distiller.auxiliary_weight: .*guided: bottleneck"),
        ({"guided": "none", "embedding_weight": 1.0, "width": 64}, "distiller.embedding_weight"),
        ({"guided": "none", "width": 8}, "distiller.width"),
        ({"guided_weight": 0.0, "embedding_weight": 1.0}, "distiller.embedding_weight: .*while guided_weight is 0"),
        ({"auxiliary_weight": 0.0}, "0 leaves the guided modules of the 'ekd' teacher untrained"),
    ],
)
def test_options_that_do_not_apply_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        setting(**options)
    assert setting(auxiliary_weight=0.0, stop_gradient=False)


def test_a_teacher_that_lacks_a_stage_is_refused() -> None:
    probe = Probe(shapes(STUDENT), shapes({"stem": (4, 8, 8), "stage1": (3, 8, 8)}), CLASSES, torch.zeros(4).long())
    with pytest.raises(InputError, match="'ekd' compares the student's stages .* lacks stage2"):
        distillers.build("ekd", probe)
    assert distillers.build("ekd", probe, guided="none")


def test_beside_another_distiller_only_its_own_losses_reach_the_teacher() -> None:
    torch.manual_seed(0)
    student, teacher = networks.build("resnet8", CLASSES), networks.build("resnet14", CLASSES)
    targets = torch.arange(4) % CLASSES
    probe = Probe(student.probe(3, 8), teacher.probe(3, 8), CLASSES, targets)
    parts = {"kd": {"name": "kd"}, "ekd": {"name": "ekd", "freeze_teacher_after": 1}}
    combined = distillers.build("combined", probe, parts=parts)
    combined.begin_epoch(0, torch.Generator())
    batch = Batch(torch.randn(4, 3, 8, 8), targets, torch.arange(4))
    taught = teacher(batch.images)
    losses = combined(student(batch.images), taught, batch)
    assert torch.autograd.grad(losses["kd"], [taught.logits], retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(losses["ekd_teacher"], [taught.logits])[0].any()
    assert [combined.trains_teacher(epoch) for epoch in (0, 1, 2)] == [True, True, False]
    assert not distillers.build("combined", probe, parts={"kd": "kd"}).trains_teacher(0)
