"""A teacher that learns beside its student: who trains whom, when it stops, and that a resume is exact."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.method.memory import Frozen
from tskd_tune.training.evaluation import evaluate
from tskd_tune.training.streams import Streams
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
ONLINE = {"teacher": {"weights": "untrained"}, "distiller": "ekd", "review": None}
REVIEWED = {"teacher": {"weights": "untrained"}, "distiller": "ekd"}


def ekd(**options: Any) -> dict[str, Any]:
    return {**ONLINE, "distiller": {"name": "ekd", **options}}


def trained(experiment: Experiment, epochs: int) -> Trainer:
    trainer = build_trainer(experiment)
    for _ in range(epochs):
        trainer.epoch()
    return trainer


def state(module: torch.nn.Module | None) -> dict[str, Tensor]:
    assert module is not None
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def whole(trainer: Trainer) -> dict[str, Any]:
    found = trainer.state_dict()
    history = [{k: v for k, v in record.items() if not k.endswith("seconds")} for record in found["history"]]
    return {**found, "history": history, "teacher": state(trainer.teacher)}


def through_a_file(given: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(given, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def first_batch(trainer: Trainer, epoch: int) -> Any:
    seed = trainer.schedule.seed
    return trainer.feed.batch(next(trainer.feed.draws(Streams(seed, epoch))))


def test_it_learns_with_its_guided_modules_and_runs_once_a_batch(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(**ONLINE))
    assert trainer.teacher is not None and not isinstance(trainer.teacher, Frozen)
    runs: list[bool] = []
    trainer.teacher.register_forward_hook(lambda module, *_: runs.append(module.training))
    before = [state(module) for module in (trainer.student, trainer.teacher, trainer.distiller)]
    trainer.epoch()
    assert runs == [True] * 3
    for old, module in zip(before, (trainer.student, trainer.teacher, trainer.distiller), strict=True):
        new = state(module)
        assert all(not torch.equal(old[key], new[key]) for key in old if key.endswith("weight"))


def test_it_begins_with_the_initialization_of_the_seed_and_the_student_with_its_own(tiny: Tiny) -> None:
    first, again, other = (build_trainer(tiny(**ONLINE, seed=seed)) for seed in (1, 1, 2))
    assert same(state(first.teacher), state(again.teacher)) and not same(state(first.teacher), state(other.teacher))
    assert same(state(first.student), state(build_trainer(tiny(review=None)).student))


@pytest.mark.parametrize(
    "over",
    [ONLINE, ekd(freeze_teacher_after=2), ekd(stop_gradient=False, guided="linear", embedding_weight=1.0), REVIEWED],
    ids=["plain", "frozen", "mutual", "reviewed"],
)
@pytest.mark.parametrize("cut", [2, 4])
def test_a_resume_is_exact_student_teacher_and_guided_modules(tiny: Tiny, over: dict[str, Any], cut: int) -> None:
    experiment = tiny(**over)
    unbroken, first, second = trained(experiment, 6), trained(experiment, cut), build_trainer(experiment)
    second.load_state_dict(through_a_file(first.state_dict()))
    while not second.finished:
        second.epoch()
    assert same(whole(unbroken), whole(second))


@pytest.mark.parametrize("stopped", [True, False])
def test_after_the_epoch_that_is_set_the_teacher_neither_learns_nor_moves(tiny: Tiny, stopped: bool) -> None:
    trainer = build_trainer(tiny(**ekd(freeze_teacher_after=2, stop_gradient=stopped)))
    free = build_trainer(tiny(**ekd(stop_gradient=stopped)))
    for epoch in range(6):
        before = state(trainer.teacher) | state(trainer.distiller.teacher_guides)
        record = trainer.epoch()
        after = state(trainer.teacher) | state(trainer.distiller.teacher_guides)
        frozen = epoch > 2
        assert same(before, after) == frozen
        assert ("loss_teacher" in record.numbers) != frozen
        assert trainer.state_dict()["teacher"] is not None
        if epoch <= 2:
            free.epoch()
            assert same(state(trainer.student), state(free.student))
    assert trainer.teacher is not None
    assert all(parameter.grad is None for parameter in trainer.teacher.parameters())
    assert not any(module.training for module in trainer.teacher.modules())


@pytest.mark.parametrize("stopped", [True, False])
def test_the_student_moves_its_teacher_only_in_mutual_learning(tiny: Tiny, stopped: bool) -> None:
    """Another student, that of other options, leaves a teacher as it is unless it pulls it."""
    plain = trained(tiny(**ekd(stop_gradient=stopped)), 2)
    other = trained(tiny(**ekd(stop_gradient=stopped, weight=5.0)), 2)
    assert not same(state(plain.student), state(other.student))
    assert same(state(plain.teacher), state(other.teacher)) == stopped


def test_a_review_beside_it_reads_the_learning_teacher_and_does_not_train_it(tiny: Tiny) -> None:
    loud, silent = (trained(tiny(**REVIEWED, **{"review": {"lambda": value}}), 3) for value in (50.0, 0.0))
    assert not same(state(loud.student), state(silent.student))
    assert same(state(loud.teacher), state(silent.teacher))

    trainer = trained(tiny(**REVIEWED), 2)
    trainer.begin()
    batch = first_batch(trainer, 2)
    assert trainer.teacher is not None and trainer.review is not None
    output, taught = trainer.student(batch.images), trainer.teacher(batch.images)
    memories = trainer.review.memory.recall(batch.images)
    loss = trainer.review.loss(output, taught, memories).loss
    assert all(taught.features[stage].requires_grad for stage in ("stage1", "stage2", "stage3"))
    given = torch.autograd.grad(loss, list(trainer.teacher.parameters()), retain_graph=True, allow_unused=True)
    assert given and all(gradient is None for gradient in given)
    pulled = torch.autograd.grad(loss, list(trainer.student.parameters()), allow_unused=True)
    assert any(gradient is not None and gradient.any() for gradient in pulled)
    other = build_trainer(tiny(**REVIEWED, seed=2)).teacher
    assert other is not None and trainer.review.loss(output, other(batch.images), memories).loss != loss


def test_its_accuracy_stands_where_the_test_part_is_read(tiny: Tiny) -> None:
    history = [record.plain() for record in trained(tiny(**ONLINE), 6).history]
    assert ["test_teacher_top1" in record for record in history] == [False] * 5 + [True]
    assert ["val_teacher_top1" in record for record in history] == [False] * 5 + [True]
    every = [record.plain() for record in trained(tiny(**ONLINE, evaluation={"test": "every_epoch"}), 2).history]
    assert all("test_teacher_top1" in record and "val_teacher_top1" in record for record in every)
    assert not any(
        "teacher_top1" in name for record in trained(tiny(distiller="kd"), 6).history for name in record.numbers
    )


def test_its_accuracy_is_its_own_in_eval_mode(tiny: Tiny) -> None:
    trainer = trained(tiny(**ONLINE, training={"epochs": 2}), 2)
    assert trainer.teacher is not None
    before = state(trainer.teacher)
    trainer.teacher.eval()
    feed = trainer.task.evaluation("test", trainer.compute.device)
    metrics = evaluate(trainer.teacher, feed, trainer.task.meter(), trainer.compute)
    last = trainer.history[-1].numbers
    assert last["test_teacher_top1"] == metrics["top1"] and last["test_teacher_loss"] == pytest.approx(metrics["loss"])
    assert last["test_teacher_loss"] != last["test_loss"]
    assert same(before, state(trainer.teacher))


@pytest.mark.parametrize("stopped", [True, False])
def test_it_learns_in_bfloat16_too(tiny: Tiny, stopped: bool) -> None:
    options = ekd(stop_gradient=stopped, embedding_weight=1.0)
    plain = trained(tiny(**options), 2).history[-1].numbers
    half = trained(tiny(**options, training={"precision": "bfloat16", "channels_last": True}), 2).history[-1].numbers
    for name in ("loss_teacher", "loss_ekd", "loss_guides", "loss_guided"):
        assert half[name] == pytest.approx(plain[name], rel=0.3, abs=0.1) and half[name] != plain[name]


def test_a_given_teacher_goes_on_learning(tiny: Tiny) -> None:
    online = {**ONLINE, "teacher": {"weights": "auto"}}
    trainer, frozen = build_trainer(tiny(**online)), build_trainer(tiny(review=None, distiller="kd"))
    assert isinstance(frozen.teacher, Frozen)
    begun = state(trainer.teacher)
    assert same(begun, state(frozen.teacher.network))
    trainer.epoch()
    assert not same(begun, state(trainer.teacher))
