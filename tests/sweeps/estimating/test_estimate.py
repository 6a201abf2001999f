"""The estimate adds up what the plan says, from a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tskd_tune import documents, local
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of, teacher_network
from tskd_tune.method.memory import Frozen
from tskd_tune.networks.weights import write_state
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.estimating import estimate
from tskd_tune.sweeps.estimating.disk import OF_PAGE, Sizes, of_checkpoints, of_teacher, of_training
from tskd_tune.tasks.base import Draw, Feed
from tskd_tune.training.engine import EagerEngine
from tskd_tune.training.steps import StepKind
from tskd_tune.training.teachers import CACHE_VARIABLE
from tskd_tune.training.trainer import Trainer

Read = Callable[..., Experiment]
STEPS = 3  # of an epoch of the tiny experiment
GENERAL, REVIEW, IMAGE = 2.0, 7.0, 0.25
PLENTY = 1e6


class Clock:
    """Seconds that pass only where the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a machine with GPUs be counted as one without."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let a step cost `GENERAL` or `REVIEW` seconds, and evaluating an image `IMAGE`."""
    clock = Clock()
    real_begin, real_step = EagerEngine.begin, EagerEngine.step
    taken: dict[EagerEngine, int] = {}

    def begin(self: EagerEngine) -> None:
        taken[self] = 0
        real_begin(self)

    def step(self: EagerEngine, feed: Feed, draw: Draw, kind: StepKind) -> None:
        before = clock.now
        real_step(self, feed, draw, kind)
        clock.now = before + (REVIEW if kind.review else GENERAL) * (1 if taken[self] else 10)
        taken[self] += 1

    def look(module: Any, images: tuple[Tensor]) -> None:
        if not module.training:
            clock.now += IMAGE * len(images[0])

    def watched(assemble: Callable[..., Trainer]) -> Callable[..., Trainer]:
        def watch(*parts: Any) -> Trainer:
            trainer = assemble(*parts)
            for network in (trainer.student, trainer.teacher):
                if network is not None and not isinstance(network, Frozen):
                    network.register_forward_pre_hook(look)
            return trainer

        return watch

    monkeypatch.setattr(EagerEngine, "begin", begin)
    monkeypatch.setattr(EagerEngine, "step", step)
    for name in ("assemble", "assemble_teacher"):
        monkeypatch.setattr(estimate, name, watched(getattr(estimate, name)))
    return clock


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every teacher be there already."""
    monkeypatch.setattr(estimate, "is_ready", lambda experiment, cache: True)


def sweep(document: dict[str, Any], **over: Any) -> Sweep:
    return Sweep.read(documents.merge({"experiment": document, "search": {"name": "grid"}}, over))


@pytest.mark.usefixtures("cached")
def test_hours_are_general_and_review_steps_and_evaluation(tiny: Read, clock: Clock) -> None:
    # Epochs 2 and 5 of 6 review; 8 validation images an epoch, 8 test images at the end.
    expected = 4 * STEPS * GENERAL + 2 * STEPS * REVIEW + (6 * 8 + 8) * IMAGE
    found = estimate.of_experiment(tiny(), clock=clock)
    assert found.hours * 3600 == pytest.approx(expected)
    assert (found.runs, found.epochs, found.concurrent, found.teachers) == (1, 6, 1, 0)


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    ("over", "seconds"),
    [
        ({"review": None}, 6 * STEPS * GENERAL + 56 * IMAGE),
        ({"evaluation": {"test": "never"}}, 4 * STEPS * GENERAL + 2 * STEPS * REVIEW + 48 * IMAGE),
        ({"evaluation": {"test": "every_epoch"}}, 4 * STEPS * GENERAL + 2 * STEPS * REVIEW + 96 * IMAGE),
        ({"task": {"validation": 0}}, 4 * STEPS * GENERAL + 2 * STEPS * REVIEW + 8 * IMAGE),
        ({"review": {"plan": {"review_fraction": 0.3}}}, (6 * STEPS - 2) * GENERAL + 2 * REVIEW + 56 * IMAGE),
        ({"review": {"lambda": {"auto": 0.1}}}, 4 * STEPS * GENERAL + 2 * STEPS * REVIEW + 56 * IMAGE),
    ],
)
def test_what_the_experiment_says_counts(over: dict[str, Any], seconds: float, tiny: Read, clock: Clock) -> None:
    assert estimate.of_experiment(tiny(**over), clock=clock).hours * 3600 == pytest.approx(seconds)


@pytest.mark.usefixtures("cached")
def test_losses_that_are_not_finite_do_not_matter(tiny: Read, clock: Clock) -> None:
    wild = tiny(training={"lr": 1e18}, review=None)
    assert estimate.of_experiment(wild, clock=clock).hours * 3600 == pytest.approx(6 * STEPS * GENERAL + 56 * IMAGE)


def keep_a_teacher(experiment: Experiment) -> None:
    network = teacher_network(experiment, task_of(experiment).facts())
    write_state(estimate.TeacherCache().path(estimate.teacher_key(experiment)), network, facts={})


def test_a_teacher_that_is_missing_is_counted(
    tiny: Read, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    experiment = tiny(teacher={"training": {"epochs": 5}})
    missing = estimate.of_experiment(experiment, clock=clock)
    assert (missing.teachers, missing.teacher_hours * 3600) == (1, pytest.approx(5 * STEPS * GENERAL + 48 * IMAGE))
    keep_a_teacher(experiment)
    ready = estimate.of_experiment(experiment, clock=clock)
    assert ready.teachers == 0 and ready.hours == pytest.approx(missing.hours - missing.teacher_hours)


@pytest.mark.parametrize("over", [{"replay": 2}, *({"training": {"method": name}} for name in ("sftn", "soteacher"))])
def test_a_teacher_of_another_kind_is_a_training_too(
    over: dict[str, Any], tiny: Read, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    plain = {"training": {"epochs": 5}}
    keep_a_teacher(tiny(teacher=plain))
    found = estimate.of_experiment(tiny(teacher=documents.merge(plain, over)), clock=clock)
    assert (found.teachers, found.teacher_hours * 3600) == (1, pytest.approx(5 * STEPS * GENERAL + 48 * IMAGE))


def test_an_untrained_teacher_costs_nothing_beforehand_and_its_evaluation_at_the_end(
    tiny: Read, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    online = tiny(teacher={"weights": "untrained"}, distiller="ekd", review=None)
    found = estimate.of_experiment(online, clock=clock)
    assert (found.teachers, found.teacher_hours) == (0, 0)
    assert found.hours * 3600 == pytest.approx(6 * STEPS * GENERAL + (56 + 16) * IMAGE)
    assert not any(tmp_path.rglob("*.pth"))


@pytest.mark.usefixtures("cached")
def test_a_sweep_is_points_by_seeds_over_what_runs_at_once(
    tiny_document: dict[str, Any], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate.os, "cpu_count", lambda: 2)
    review = tiny_document["review"]
    document = {**tiny_document, "review": {"choice": {"none": None, "tskd": review}}}
    general, reviewed = 6 * STEPS * GENERAL + 56 * IMAGE, 4 * STEPS * GENERAL + 2 * STEPS * REVIEW + 56 * IMAGE
    found = estimate.of_sweep(sweep(document, seeds=[1, 2, 3]), budget=PLENTY, clock=clock)
    assert (found.runs, found.epochs, found.concurrent) == (6, 36, 2)
    assert found.hours * 3600 == pytest.approx(3 * (general + reviewed) / 2)
    monkeypatch.setattr(estimate.os, "cpu_count", lambda: 16)
    alone = estimate.of_sweep(sweep(document, seeds=[1]), budget=PLENTY, clock=clock)
    assert alone.concurrent == 2 and alone.hours * 3600 == pytest.approx(reviewed), "no sooner than its longest run"
    shared = sweep(document, seeds=[1], resources={"together": 6})
    found = estimate.of_sweep(shared, budget=PLENTY, clock=clock)
    assert (found.concurrent, found.hours) == (2, alone.hours), "every core has a bundle"
    assert "share a process are counted one after the other" in found.how and "share a process" not in alone.how


def test_the_teachers_of_points_that_are_not_timed_count_too(
    tiny_document: dict[str, Any], clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    arms = {f"seed{seed}": {"teacher": {"training": {"seed": seed}}} for seed in range(estimate.MOST_POINTS + 3)}
    found = estimate.of_sweep(sweep({**tiny_document, "choice": arms}, seeds=[1]), clock=clock)
    assert found.teachers == found.runs == estimate.MOST_POINTS + 3
    assert len(found.timed) == 1 and "arm=seed0" not in found.how, "arms that only their teachers tell apart cost alike"


@pytest.mark.usefixtures("cached")
def test_a_search_is_as_many_points_as_trials(tiny_document: dict[str, Any], clock: Clock) -> None:
    document = documents.merge(tiny_document, {"review": {"lambda": {"loguniform": [0.1, 10]}}})
    search = {"name": "optuna", "trials": 7}
    found = estimate.of_sweep(sweep(document, seeds=[1, 2], search=search, scheduler={"name": "asha"}), clock=clock)
    assert (found.runs, found.epochs) == (14, 84)
    assert "'asha' stops runs early" in found.how


KINDS = {
    "plain": {"review": None},
    "kd": {"review": None, "distiller": {"name": "kd"}},
    "short": {"training": {"epochs": 4}},
    "long": {},
}


@pytest.mark.usefixtures("cached")
def test_arms_of_every_kind_are_timed_while_the_budget_lasts_and_are_named(
    tiny_document: dict[str, Any], clock: Clock
) -> None:
    document = {**tiny_document, "choice": KINDS}
    found = estimate.of_sweep(sweep(document), budget=PLENTY, clock=clock)
    assert found.timed == ["plain", "kd", "short"], "the last two differ in their numbers of epochs alone"
    assert found.taken_from == {"long": "short"}
    assert "3 of 4 arms (plain; kd; short)" in found.how and "(long as short)" in found.how
    # The warm-up of the first arm takes 20 s and its images 4 s; so one arm uses up a small budget.
    poor = estimate.of_sweep(sweep(document), budget=0.0, clock=clock)
    assert (poor.timed, set(poor.taken_from.values())) == (["plain"], {"plain"})
    assert "1 of 4 arms (plain)" in poor.how and "(kd as plain; short as plain; long as plain)" in poor.how


@pytest.mark.usefixtures("cached")
def test_every_arm_counts_with_its_own_steps_at_the_pace_of_the_arm_most_like_it(
    tiny_document: dict[str, Any], clock: Clock
) -> None:
    found = estimate.of_sweep(sweep({**tiny_document, "choice": KINDS}), budget=PLENTY, clock=clock)
    general, reviewed = 6 * STEPS * GENERAL + 56 * IMAGE, 4 * STEPS * GENERAL + 2 * STEPS * REVIEW + 56 * IMAGE
    short = 3 * STEPS * GENERAL + STEPS * REVIEW + (4 * 8 + 8) * IMAGE
    costs = [general, general, short, reviewed]
    assert found.hours * 3600 == pytest.approx(max(*costs, sum(costs) / found.concurrent))


@pytest.mark.usefixtures("cached")
def test_the_arm_most_like_another_has_its_networks_its_method_and_nearly_its_k(tiny: Read) -> None:
    timed = {
        "plain": tiny(review=None),
        "kd": tiny(review=None, distiller="kd"),
        "k2": tiny(),
        "k6": tiny(review={"k": 6}, training={"epochs": 30}),
        "large": tiny(student={"name": "resnet14"}),
    }
    wanted = {
        "k2": tiny(training={"lr": 0.5}),
        "k6": tiny(review={"k": 5}, training={"epochs": 30}),
        "kd": tiny(review=None, distiller={"name": "kd", "temperature": 9.0}),
        "large": tiny(student={"name": "resnet14"}, review={"k": 3}),
    }
    assert {name: estimate.most_like(experiment, timed) for name, experiment in wanted.items()} == {
        name: name for name in wanted
    }


@pytest.mark.usefixtures("cached")
def test_an_arm_that_reviews_costs_more_than_the_plain_one_whose_pace_it_was_given(
    tiny_document: dict[str, Any], clock: Clock
) -> None:
    document = {**tiny_document, "choice": {"plain": {"review": None}, "tskd": {}}}
    found = estimate.of_sweep(sweep(document, seeds=[1, 2, 3, 4]), budget=0.0, clock=clock)
    assert found.taken_from == {"tskd": "plain"}
    plain = 6 * STEPS * GENERAL + 56 * IMAGE
    assert found.hours * 3600 * found.concurrent > 8 * plain * 1.05


@pytest.mark.parametrize(
    ("cpu", "gpu", "concurrent", "expected"),
    [(1, 0.0, None, 8), (3, 0.0, None, 2), (1, 0.0, 5, 5), (16, 0.0, None, 1), (1, 0.5, None, 4), (1, 0.25, 3, 3)],
)
def test_how_many_run_at_once(
    cpu: int,
    gpu: float,
    concurrent: int | None,
    expected: int,
    tiny_document: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimate.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    given = sweep(tiny_document, resources={"cpu": cpu, "gpu": gpu, "concurrent": concurrent})
    assert estimate.concurrency(given) == expected


def test_arms_are_chosen_evenly_with_both_ends() -> None:
    arms = [str(number) for number in range(30)]
    chosen = estimate.evenly(arms, 12)
    assert (len(set(chosen)), chosen[0], chosen[-1]) == (12, "0", "29")
    assert {int(after) - int(before) for before, after in pairwise(chosen)} <= {2, 3}
    assert estimate.evenly(arms, 30) == arms


ARMS_ON_DISK: list[dict[str, Any]] = [
    {"review": None, "student": {"name": "wrn_16_2"}},
    {"student": {"name": "wrn_16_2"}},
    {
        "student": {"name": "wrn_16_2"},
        "review": {"extractor": {"name": "conv_lstm", "training": {"optimizer": "own"}}},
    },
    {"student": {"name": "wrn_16_2"}, "distiller": "crd", "review": None},
    {"student": {"name": "wrn_16_2"}, "distiller": "ekd", "teacher": {"weights": "untrained"}, "review": None},
    {"student": {"name": "wrn_16_2"}, "training": {"momentum": 0.0}, "review": None},
]


@pytest.mark.parametrize("over", ARMS_ON_DISK, ids=range(len(ARMS_ON_DISK)))
def test_the_bytes_of_an_arm_are_those_of_its_files(over: dict[str, Any], tiny: Read, tmp_path: Path) -> None:
    """No part is forgotten: momentum, snapshots, extractors with their Adam, memory banks, a teacher that learns."""
    experiment = tiny(**over)
    folder = local.start(experiment, "run", tmp_path, lambda event: None, track=False)
    kept = estimate._sizes([experiment])[estimate.kind(experiment)]
    assert kept.state == pytest.approx(folder.checkpoint_path("0", experiment.seed).stat().st_size, rel=0.1)
    assert kept.student == pytest.approx(folder.student_path("0", experiment.seed).stat().st_size, rel=0.1)


def test_a_training_of_a_sweep_keeps_its_student_and_a_single_one_its_checkpoint_too() -> None:
    sizes = Sizes(state=10**9, student=10**8)
    assert 0 < of_training(sizes, 5) - 10**8 < 10**6
    assert of_training(sizes, 5, single=True) - of_training(sizes, 5) == 10**9
    assert of_checkpoints([sizes, Sizes(1, 1)], 3) == 6 * 10**9


def test_the_estimate_has_the_bytes_of_a_sweep_that_was_run() -> None:
    """Measured on a sweep of digits: 3 arms, 2 seeds, 4 epochs, resnet8, with W&B offline, without its teacher.

    All files of its folder had 7,234,832 bytes, of which the students had 1,981,794.
    """
    found = 6 * of_training(Sizes(state=0, student=1_981_794 // 6), 4) + OF_PAGE
    assert found == pytest.approx(7_234_832, rel=0.05)


def test_the_bytes_of_all_arms_are_counted_and_those_of_the_teacher(
    tiny_document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    arms = {"small": {}, "large": {"student": {"name": "wrn_40_2"}}}
    both = sweep({**tiny_document, "review": None, "distiller": {"name": "kd"}, "choice": arms}, seeds=[1])
    found = estimate.of_sweep(both, budget=0.0)
    each = [estimate._sizes([both.experiment_at(point)]).popitem()[1] for point in both.space().grid()]
    trained = [of_training(one, 6) for one in each]
    teacher = of_teacher(both.experiment_at(both.space().grid()[0]), synthetic(tiny_document))
    assert found.disk_bytes == pytest.approx(sum(trained) + teacher + OF_PAGE, abs=2)
    assert trained[1] > 5 * trained[0]


def synthetic(document: dict[str, Any]) -> Any:
    return task_of(Experiment.read(document))


def test_nothing_is_left_changed(tiny: Read) -> None:
    torch.set_num_threads(2)
    state = torch.random.get_rng_state()
    found = estimate.of_experiment(tiny(training={"threads": 1, "epochs": 3}), budget=0.0)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found.hours > 0 and "random images" in found.how
