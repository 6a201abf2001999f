"""The loop: who runs when, what is trained, what is shown, and that a resume ends where an unbroken run ends."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tskd_tune.contracts import Batch, Classified, Probe
from tskd_tune.distillers import DISTILLERS
from tskd_tune.distillers.base import Distiller, Need
from tskd_tune.errors import DivergedError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble, task_of, teacher_network
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.method.memory import Frozen
from tskd_tune.registry import Entry
from tskd_tune.training.steps import StepKind
from tskd_tune.training.streams import Streams
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]


def trained(experiment: Experiment, epochs: int | None = None) -> Trainer:
    trainer = build_trainer(experiment)
    for _ in range(experiment.training.epochs if epochs is None else epochs):
        trainer.epoch()
    return trainer


def lines(trainer: Trainer) -> list[dict[str, Any]]:
    return [record.plain() for record in trainer.history]


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([value.flatten().double() for value in trainer.student.state_dict().values()])


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def without_clock(state: dict[str, Any]) -> dict[str, Any]:
    history = [{k: v for k, v in record.items() if not k.endswith("seconds")} for record in state["history"]]
    return {**state, "history": history}


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def count_runs(module: nn.Module) -> list[int]:
    runs: list[int] = []
    module.register_forward_hook(lambda *_: runs.append(1))
    return runs


def test_the_phases_and_rates_of_an_epoch_follow_its_number(tiny: Tiny) -> None:
    history = lines(trained(tiny(training={"milestones": [2, 4]})))
    phases = ["memorize", "memorize", "review", "memorize", "memorize", "review"]
    assert [record["phase"] for record in history] == phases
    assert [record["epoch"] for record in history] == list(range(6))
    assert [record["lr"] for record in history] == pytest.approx([0.05, 0.05, 5e-3, 5e-3, 5e-4, 5e-4])


def test_the_test_part_is_read_once_unless_asked_for_more(tiny: Tiny) -> None:
    history = lines(trained(tiny()))
    assert ["test_top1" in record for record in history] == [False] * 5 + [True]
    assert all("val_top1" in record for record in history)
    every = lines(trained(tiny(evaluation={"test": "every_epoch"})))
    assert all("test_top1" in record for record in every)
    never = lines(trained(tiny(evaluation={"test": "never"})))
    assert all("test_top1" not in record and "val_top1" in record for record in never)


@pytest.mark.parametrize(("given", "evaluated"), [("every_epoch", range(6)), (4, [3, 5]), (9, [5]), ("last", [5])])
def test_the_validation_part_is_evaluated_as_often_as_asked_and_changes_no_weight(
    tiny: Tiny, given: str | int, evaluated: Sequence[int]
) -> None:
    always, seldom = trained(tiny()), trained(tiny(evaluation={"validation": given}))
    for wanted, found in zip(lines(always), lines(seldom), strict=True):
        absent = [] if wanted["epoch"] in evaluated else [name for name in wanted if name.startswith("val_")]
        clocks = ["seconds", "eval_seconds"]
        assert len(absent) == (0 if wanted["epoch"] in evaluated else 2)
        assert {**found, **dict.fromkeys(clocks)} == {
            **{name: number for name, number in wanted.items() if name not in absent},
            **dict.fromkeys(clocks),
        }
    assert torch.equal(weights(always), weights(seldom))


def test_evaluation_leaves_the_student_in_its_training_statistics(tiny: Tiny) -> None:
    read_once, read_always = trained(tiny(review=None)), trained(tiny(review=None, evaluation={"test": "every_epoch"}))
    assert torch.equal(weights(read_once), weights(read_always))


def test_lambda_zero_trains_bit_for_bit_as_without_a_review(tiny: Tiny) -> None:
    without, silent, heard = (trained(tiny(**over)) for over in ({"review": None}, {"review": {"lambda": 0}}, {}))
    assert torch.equal(weights(without), weights(silent))
    assert not torch.equal(weights(without), weights(heard))
    assert lines(silent)[2]["review_loss"] > 0


def test_arms_of_a_seed_share_initialization_order_and_augmentation(tiny: Tiny) -> None:
    arms = [tiny(review=None), tiny(distiller="kd"), tiny(review={"k": 3, "extractor": {"name": "conv_gru"}})]
    trainers = [build_trainer(experiment) for experiment in arms]
    for other in trainers[1:]:
        assert torch.equal(weights(trainers[0]), weights(other))
    first_batches = [trainer.feed.batch(next(trainer.feed.draws(Streams(1, 0)))) for trainer in trainers]
    assert all(torch.equal(first_batches[0].images, batch.images) for batch in first_batches)
    assert not torch.equal(weights(trainers[0]), weights(build_trainer(tiny(review=None, seed=2))))


def test_two_runs_of_a_seed_give_the_same_bits(tiny: Tiny) -> None:
    once, again, other = trained(tiny()), trained(tiny()), trained(tiny(seed=2))
    assert same(without_clock(once.state_dict()), without_clock(again.state_dict()))
    assert not torch.equal(weights(once), weights(other))


@pytest.mark.parametrize("epochs", [0, 1, 2, 3, 5])
def test_a_resume_ends_bit_for_bit_where_the_unbroken_run_ends(tiny: Tiny, epochs: int) -> None:
    experiment = tiny(distiller="kd", review={"lambda": {"auto": 0.1}})
    whole = trained(experiment)
    first = trained(experiment, epochs)
    second = build_trainer(experiment)
    second.load_state_dict(through_a_file(first.state_dict()))
    while not second.finished:
        second.epoch()
    assert same(without_clock(whole.state_dict()), without_clock(second.state_dict()))


RESUMED_OPTIONS: dict[str, dict[str, Any]] = {
    "official": {
        "preset": "official",
        "review": {"taps": "stages", "extractor": {"stem": "none", "head": "conv1x1", "hidden": 2}},
    },
    "own optimizer": {"review": {"extractor": {"training": {"optimizer": "own"}}}},
    "reset": {"review": {"extractor": {"training": {"reset": True}}}},
    "warmup": {"review": {"extractor": {"training": {"warmup_steps": 2}}}},
    "shuffled": {"review": {"sequence_order": "shuffled"}},
    "random memory": {"review": {"sequence_order": "random_memory"}},
    "early moment": {"review": {"plan": {"moment": "epoch_start"}}},
    "sliding": {"review": {"plan": {"cycle": "sliding"}}},
    "chained": {"review": {"plan": {"cycle": "chained"}}},
}


@pytest.mark.parametrize("over", RESUMED_OPTIONS.values(), ids=RESUMED_OPTIONS.keys())
def test_a_resume_is_exact_under_every_option_that_keeps_state(tiny: Tiny, over: dict[str, Any]) -> None:
    experiment = tiny(**over)
    whole, first, second = trained(experiment), trained(experiment, 4), build_trainer(experiment)
    second.load_state_dict(through_a_file(first.state_dict()))
    second.epoch()
    second.epoch()
    assert same(without_clock(whole.state_dict()), without_clock(second.state_dict()))


WITHIN: dict[str, dict[str, Any]] = {
    "plain": {"review": None},
    "own stream": {"distiller": {"name": "crd", "negatives": 4}},
    "combined": {"distiller": {"name": "combined", "parts": {"a": {"name": "crd", "negatives": 4}, "b": "kd"}}},
    "auto": {"review": {"lambda": {"auto": 0.1}, "lambda_warmup": 5}},
    "snapshot at the start": {"review": {"plan": {"moment": "epoch_start", "cycle": "sliding"}}},
    "warm-up": {"distiller": {"name": "dkd", "warmup": 5}},
    "decay": {"review": {"extractor": {"training": {"decay_when_frozen": True}}}},
    **RESUMED_OPTIONS,
}


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("over", WITHIN.values(), ids=WITHIN.keys())
def test_a_resume_within_an_epoch_is_exact(tiny: Tiny, over: dict[str, Any], epoch: int) -> None:
    """Epoch 1 memorizes, epoch 2 reviews; the training is cut off after two of their three steps."""
    experiment = tiny(**over)
    whole, first, second = trained(experiment, epoch + 1), trained(experiment, epoch), build_trainer(experiment)
    first.begin()
    steps = first.steps()
    kinds = [next(steps), next(steps)]
    second.load_state_dict(through_a_file(first.state_dict()))
    torch.manual_seed(7)
    rest = second.steps()
    kinds += list(rest)
    assert kinds == [whole.kind(epoch, step) for step in range(3)]
    second.end()
    assert same(without_clock(whole.state_dict()), without_clock(second.state_dict()))


def test_a_checkpoint_of_before_trainings_could_be_cut_off_within_an_epoch_is_read(tiny: Tiny) -> None:
    whole, first, second = trained(tiny(), 3), trained(tiny(), 2), build_trainer(tiny())
    state = through_a_file(first.state_dict())
    del state["epoch"]
    second.load_state_dict(state)
    second.epoch()
    assert same(without_clock(whole.state_dict()), without_clock(second.state_dict()))


def test_steps_and_an_end_need_a_beginning(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(review=None))
    with pytest.raises(RunError, match=r"no epoch was begun; call begin\(\)"):
        next(trainer.steps())
    with pytest.raises(RunError, match="no epoch was begun"):
        trainer.end()
    trainer.begin()
    assert len(list(trainer.steps())) == 3 and trainer.end().epoch == 0 and trainer.next_epoch == 1


def test_the_kind_of_a_step_follows_from_its_numbers(tiny: Tiny) -> None:
    decaying = {"decay_when_frozen": True, "warmup_steps": 1}
    review = {"plan": {"review_fraction": 0.7}, "extractor": {"training": decaying}}
    trainer = build_trainer(tiny(review=review))
    phase = trainer.kind(0, 0).phase
    general, decays = StepKind(phase=phase), StepKind(decays=True, phase=phase)
    first = StepKind(review=True, look=True, detached=True, phase=phase)
    later = StepKind(review=True, phase=phase)
    found = [[trainer.kind(epoch, step) for step in range(3)] for epoch in range(6)]
    assert found[0] == found[1] == [general] * 3
    assert found[2] == [first, later, general], "the first review has no review before it"
    assert found[3] == found[4] == [decays] * 3 and found[5] == [first, later, decays]
    online = {"distiller": {"name": "ekd", "freeze_teacher_after": 0}, "teacher": {"weights": "untrained"}}
    learning = build_trainer(tiny(review=None, **online))
    assert learning.kind(0, 0) != learning.kind(1, 0) == learning.kind(2, 0)


def test_networks_that_nobody_asks_for_do_not_run(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(training={"fold": False}))  # the hooks that count see nothing of a folded network
    assert trainer.teacher is not None
    teacher, student = count_runs(trainer.teacher), count_runs(trainer.student)
    teacher_runs = []
    for _ in range(6):
        before = len(teacher)
        trainer.epoch()
        teacher_runs.append(len(teacher) - before)
    steps, evaluations = 3, 1
    assert teacher_runs == [0, 0, steps, 0, 0, steps]
    # Snapshots are copies of the student, hook and all; the last epoch also reads the test part.
    memories = 2 * 2 * steps
    assert len(student) == 6 * (steps + evaluations) + evaluations + memories


def test_a_distiller_asks_the_teacher_once_a_batch_also_beside_a_review(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(distiller="kd"))
    assert trainer.teacher is not None
    runs = count_runs(trainer.teacher)
    trainer.epoch(), trainer.epoch(), trainer.epoch()
    assert len(runs) == 9


def test_part_of_a_review_epoch_may_review(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(review={"plan": {"review_fraction": 0.3}}))
    assert trainer.teacher is not None
    runs = count_runs(trainer.teacher)
    for _ in range(3):
        trainer.epoch()
    assert len(runs) == 1


def test_teacher_and_memories_never_change_nor_take_gradients(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(distiller="at"))
    assert trainer.teacher is not None and trainer.review is not None
    before = {key: value.clone() for key, value in trainer.teacher.state_dict().items()}
    for _ in range(2):
        trainer.epoch()
    remembered = [dict(state) for state in through_a_file(trainer.review.memory.snapshot_state())["snapshots"]]
    trainer.epoch()
    assert same(before, dict(trainer.teacher.state_dict()))
    assert same(remembered, trainer.review.memory.snapshot_state()["snapshots"])
    frozen = [*trainer.teacher.parameters(), *trainer.review.memory.parameters()]
    assert frozen and all(p.grad is None and not p.requires_grad for p in frozen)
    trainer.teacher.train(), trainer.review.memory.train()
    modules = [m for m in [*trainer.teacher.modules(), *trainer.review.memory.modules()] if "batchnorm" in str(type(m))]
    assert len(modules) > 20 and not any(module.training for module in modules)


def test_a_teacher_that_stays_as_its_file_has_it_is_not_saved_with_every_epoch(tiny: Tiny) -> None:
    assert trained(tiny(), 1).state_dict()["teacher"] is None
    assert trained(tiny(teacher={"batch_norm": "train"}), 1).state_dict()["teacher"] is not None


def test_under_official_moving_statistics_move_and_are_part_of_the_checkpoint(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(teacher={"batch_norm": "train"}, review={"memory": {"batch_norm": "train"}}))
    assert trainer.teacher is not None and trainer.review is not None
    trainer.epoch(), trainer.epoch()
    before = through_a_file(trainer.state_dict())
    trainer.epoch()
    after = through_a_file(trainer.state_dict())
    key = "network.bn1.running_mean"
    assert not torch.equal(before["teacher"][key], after["teacher"][key])
    old, new = before["review"]["memory"]["snapshots"][0], after["review"]["memory"]["snapshots"][0]
    assert not torch.equal(old["bn1.running_mean"], new["bn1.running_mean"])
    assert torch.equal(old["conv1.weight"], new["conv1.weight"])


def test_a_snapshot_is_taken_at_the_end_or_the_start_of_its_epoch(tiny: Tiny) -> None:
    late, early = build_trainer(tiny()), build_trainer(tiny(review={"plan": {"moment": "epoch_start"}}))
    initial = late.student.state_dict()["conv1.weight"].clone()
    late.epoch(), early.epoch()
    assert late.review is not None and early.review is not None
    at_end = late.review.memory.snapshot_state()["snapshots"][0]["conv1.weight"]
    at_start = early.review.memory.snapshot_state()["snapshots"][0]["conv1.weight"]
    assert torch.equal(at_start, initial)
    assert torch.equal(at_end, late.student.state_dict()["conv1.weight"])
    assert not torch.equal(at_end, initial)


def first_review_batch(trainer: Trainer) -> Batch:
    epoch = trainer.next_epoch
    seed = trainer.schedule.seed
    return trainer.feed.batch(next(trainer.feed.draws(Streams(seed, epoch))))


def test_a_review_shows_what_its_first_batch_says_of_each_loss(tiny: Tiny) -> None:
    experiment = tiny(distiller="kd", review={"lambda": 3.0})
    trainer, twin = trained(experiment, 2), trained(experiment, 2)
    record = trainer.epoch().plain()

    batch = first_review_batch(twin)
    twin.student.train()
    assert twin.teacher is not None and twin.review is not None
    output, taught = twin.student(batch.images), twin.teacher(batch.images)
    terms = twin.review.loss(output, taught, twin.review.memory.recall(batch.images))
    losses = {
        "task": 0.1 * torch.nn.functional.cross_entropy(output.logits, batch.targets),
        "kd": twin.distiller(output, taught, batch)["kd"],
        "review": 3.0 * terms.loss,
    }
    gradients = {}
    for name, loss in losses.items():
        twin.student.zero_grad()
        loss.backward(retain_graph=True)
        given = [p.grad if p.grad is not None else torch.zeros_like(p) for p in twin.student.parameters()]
        gradients[name] = torch.cat([gradient.flatten() for gradient in given]).clone()
    assert record["review_loss"] == pytest.approx(float(terms.loss.detach()), rel=1e-5)
    assert record["teacher_gap"] == pytest.approx(float(terms.teacher_gap), rel=1e-5)
    assert record["lambda"] == 3.0
    for name, gradient in gradients.items():
        assert record[f"grad_norm_{name}"] == pytest.approx(float(gradient.norm()), rel=1e-4)
    for name in ("kd", "review"):
        product = float(gradients[name] @ gradients["task"])
        cosine = product / float(gradients[name].norm() * gradients["task"].norm())
        assert record[f"grad_cosine_{name}"] == pytest.approx(cosine, abs=1e-4)
    assert "review_loss" not in lines(trainer)[0]


@pytest.mark.parametrize("share", [0.1, 2.0])
@pytest.mark.parametrize("distiller", ["none", "kd", "ka"])
def test_auto_lambda_gives_the_review_its_share_of_the_other_losses_gradient_once(
    tiny: Tiny, share: float, distiller: str
) -> None:
    history = lines(trained(tiny(review={"lambda": {"auto": share}}, distiller=distiller)))
    first, second = history[2], history[5]
    assert first["grad_norm_review"] == pytest.approx(share * first["grad_norm_others"], rel=1e-4)
    assert first["lambda"] == second["lambda"] > 0
    if distiller == "none":
        assert first["grad_norm_others"] == first["grad_norm_task"]


def test_the_other_losses_gradient_is_that_of_their_sum(tiny: Tiny) -> None:
    first = lines(trained(tiny(distiller="kd")))[2]
    task, kd, cosine = (first[name] for name in ("grad_norm_task", "grad_norm_kd", "grad_cosine_kd"))
    assert first["grad_norm_others"] ** 2 == pytest.approx(task**2 + kd**2 + 2 * cosine * task * kd, rel=1e-3)


def test_auto_lambda_refuses_a_review_without_a_gradient_on_the_student(tiny: Tiny) -> None:
    deaf = {"sequence_gradient": "detach", "target": {"gradient": "detach"}, "lambda": {"auto": 0.1}}
    trainer = trained(tiny(review=deaf), 2)
    with pytest.raises(RunError, match="auto cannot be settled, the review loss has no gradient"):
        trainer.epoch()


def test_lambda_rises_over_its_warmup(tiny: Tiny) -> None:
    history = lines(trained(tiny(review={"lambda": 2.0, "lambda_warmup": 4})))
    assert history[2]["lambda"] == pytest.approx(2.0 * 3 / 4)
    assert history[5]["lambda"] == 2.0


def extractors(trainer: Trainer) -> dict[str, Tensor]:
    assert trainer.review is not None
    return {key: value.clone() for key, value in trainer.review.loss.state_dict().items()}


def test_extractors_learn_in_reviews_and_rest_between_them(tiny: Tiny) -> None:
    trainer = build_trainer(tiny())
    states = [extractors(trainer)]
    for _ in range(6):
        trainer.epoch()
        states.append(extractors(trainer))
    changed = [not same(states[epoch], states[epoch + 1]) for epoch in range(6)]
    assert changed == [False, False, True, False, False, True]


def test_extractors_may_decay_between_reviews(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(review={"extractor": {"training": {"decay_when_frozen": True}}}))
    states = [extractors(trainer)]
    for _ in range(4):
        trainer.epoch()
        states.append(extractors(trainer))
    assert same(states[0], states[2]) and not same(states[3], states[4])


@pytest.mark.parametrize("decay", [True, False])
def test_in_a_review_epoch_the_steps_without_a_review_change_the_extractors_as_between_reviews(
    tiny: Tiny, decay: bool
) -> None:
    """Two of three steps of a review epoch review; in epoch 5 the third is the first after a review that decays."""
    review = {"plan": {"review_fraction": 0.7}, "extractor": {"training": {"decay_when_frozen": decay}}}
    trainer = trained(tiny(review=review), 5)
    trainer.begin()
    states = [extractors(trainer)]
    for _ in trainer.steps():
        states.append(extractors(trainer))
    trainer.end()
    assert not same(states[0], states[1]) and not same(states[1], states[2]), "these two review"
    assert same(states[2], states[3]) is not decay


def test_extractors_may_have_an_optimizer_of_their_own(tiny: Tiny) -> None:
    own = {"optimizer": "own", "lr": 0.01, "weight_decay": 0.0}
    trainer = trained(tiny(review={"extractor": {"training": own}}), 2)
    before = extractors(trainer)
    batch = first_review_batch(trainer)
    trainer.begin()
    trainer.engine.update(batch, trainer.kind(2, 0))
    after = extractors(trainer)
    # Adam's first step moves every weight that has a gradient by the learning rate, whatever the gradient.
    moved = torch.cat([(after[key] - before[key]).abs().flatten() for key in before])
    moved = moved[moved > 0]
    assert len(moved) > 0 and torch.allclose(moved.median(), torch.tensor(0.01), rtol=1e-2)


def test_extractors_may_start_anew_at_each_review(tiny: Tiny) -> None:
    trainer = trained(tiny(review={"extractor": {"training": {"reset": True}}}), 5)
    before = extractors(trainer)
    trainer.begin()
    assert not same(before, extractors(trainer))
    assert trainer.review is not None
    for parameter in trainer.review.parameters():
        assert not trainer.optimizers[0].state[parameter]["momentum_buffer"].any()


def test_warmup_steps_train_the_extractor_alone(tiny: Tiny) -> None:
    experiment = tiny(review={"lambda": 100.0, "extractor": {"training": {"warmup_steps": 1}}})
    plain = tiny(review={"lambda": 0.0})
    warm, silent = trained(experiment, 2), trained(plain, 2)
    batch = first_review_batch(warm)
    before = extractors(warm)
    for trainer in (warm, silent):
        trainer.begin()
        trainer.engine.update(batch, trainer.kind(2, 0))
    assert torch.equal(weights(warm), weights(silent))
    assert not same(before, extractors(warm))
    for trainer in (warm, silent):
        trainer.engine.update(batch, trainer.kind(2, 1))
    assert not torch.equal(weights(warm), weights(silent))


def test_a_loss_that_is_not_finite_ends_the_training_with_a_sentence(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(review=None, training={"lr": 1e20}))
    with pytest.raises(DivergedError, match=r"epoch \d: the loss is not finite .*lower training.lr"):
        while not trainer.finished:
            trainer.epoch()
    assert not trainer.finished


class Everything(Distiller):
    """A double that asks for everything that a distiller may ask for."""

    needs = frozenset(Need) - {Need.BOXES}

    def __init__(self, probe: Probe, *, task_weight: float = 0.5, weight: float = 1.0) -> None:
        super().__init__()
        self.probe = probe
        self.task_weight = task_weight
        self.weight = weight
        (width,), (wanted,) = probe.student.embedding, probe.teacher.embedding
        self.regressor = nn.Linear(width, wanted)
        self.register_buffer("seen", torch.zeros(probe.samples, dtype=torch.long))
        self.epochs: list[int] = []

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        self.epochs.append(epoch)

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        self.seen[batch.indices] += 1
        assert torch.equal(self.probe.targets[batch.indices], batch.targets)
        self.teacher_gradient = teacher.logits.requires_grad
        gap = (self.regressor(student.embedding) - teacher.embedding).square().mean()
        return {"gap": self.weight * gap, "zero": 0.0 * student.logits.sum()}


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DISTILLERS._entries, "everything", Entry("everything", Everything, "a double"))


@pytest.mark.usefixtures("everything")
class TestTheDistillersInterface:
    def trainer(self, tiny: Tiny, **options: Any) -> Trainer:
        return build_trainer(tiny(distiller={"name": "everything", **options}, review=None))

    def test_it_is_built_from_what_the_dry_forward_found(self, tiny: Tiny) -> None:
        probe = self.trainer(tiny).distiller.probe
        assert probe.student.features["stage3"] == (64, 2, 2)
        assert probe.teacher.logits == (4,) and probe.classes == 4
        assert probe.samples == 24 == len(probe.targets)
        assert probe.teacher_norms["stage3"].weight.shape == (64,)

    def test_it_sees_every_index_once_an_epoch_and_hears_the_epochs(self, tiny: Tiny) -> None:
        trainer = self.trainer(tiny)
        trainer.epoch(), trainer.epoch()
        assert torch.equal(trainer.distiller.seen, torch.full((24,), 2))
        assert trainer.distiller.epochs == [0, 1]

    def test_its_losses_are_named_and_its_task_weight_counts(self, tiny: Tiny) -> None:
        full = lines(trained(tiny(review=None), 1))[0]["loss_task"]
        record = self.trainer(tiny, task_weight=0.0, weight=0.0).epoch().plain()
        assert record["loss_task"] == 0.0 and record["loss"] == record["loss_gap"] == 0.0 and full > 0
        half = self.trainer(tiny, weight=0.0)
        batch = first_review_batch(half)
        losses = half.engine.update(batch, half.kind(0, 0))
        twin = trained(tiny(review=None), 0)
        whole = twin.engine.update(batch, twin.kind(0, 0))
        assert float(losses["loss_task"]) == pytest.approx(0.5 * float(whole["loss_task"]))

    def test_its_parameters_train_and_are_saved_with_its_state(self, tiny: Tiny) -> None:
        trainer = self.trainer(tiny)
        before = trainer.distiller.regressor.weight.detach().clone()
        trainer.epoch()
        assert not torch.equal(before, trainer.distiller.regressor.weight)
        again = self.trainer(tiny)
        again.load_state_dict(through_a_file(trainer.state_dict()))
        assert torch.equal(again.distiller.seen, trainer.distiller.seen)
        again.epoch(), trainer.epoch()
        assert same(without_clock(again.state_dict()), without_clock(trainer.state_dict()))

    def test_a_trainable_teacher_learns_and_is_part_of_the_checkpoint(self, tiny: Tiny) -> None:
        trainer = self.trainer(tiny)
        assert trainer.teacher is not None and not isinstance(trainer.teacher, Frozen)
        before = trainer.teacher.state_dict()["conv1.weight"].clone()
        trainer.epoch()
        assert trainer.distiller.teacher_gradient
        assert not torch.equal(before, trainer.teacher.state_dict()["conv1.weight"])
        saved = trainer.state_dict()["teacher"]["conv1.weight"]
        assert torch.equal(saved, trainer.teacher.state_dict()["conv1.weight"])


def test_channels_last_changes_rounding_only_and_bfloat16_still_learns(tiny: Tiny) -> None:
    plain = trained(tiny(), 3)
    other = trained(tiny(training={"channels_last": True}), 3)
    half = trained(tiny(training={"precision": "bfloat16"}), 3)
    assert torch.allclose(weights(plain), weights(other), rtol=1e-2, atol=1e-3)
    rounded, exact = lines(half)[-1]["loss"], lines(plain)[-1]["loss"]
    assert rounded == pytest.approx(exact, rel=0.2) and rounded != exact


def test_every_option_of_the_trainer_reaches_it_without_data(tiny: Tiny) -> None:
    experiment = tiny(review=None)
    task = task_of(experiment)
    trainer = assemble(
        experiment, task, teacher_network(experiment, task.facts()), task.training(torch.device("cpu")).targets
    )
    assert trainer.schedule.epochs == 6 and trainer.recipe.lr == 0.05
    assert math.isclose(trainer.optimizers[0].param_groups[0]["weight_decay"], 5e-4)
