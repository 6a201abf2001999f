"""The components of an outsider, broken: each fault is a sentence before training, or the reason in the row."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ray.tune.error import TuneError

from tskd_tune import local, outside
from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.experiment.verification import verify
from tskd_tune.records.entries.events import Event
from tskd_tune.registry import Registry
from tskd_tune.reports.findings.own_code import edited_code
from tskd_tune.sweeps import tuning
from tskd_tune.training.observers import Observer, Observers
from tskd_tune.training.record import Record

from ..factories import a_row

if TYPE_CHECKING:
    from tskd_tune.training.trainer import Trainer

HERE = Path(__file__).parent
Tiny = Callable[..., Experiment]
Write = Callable[..., str]
TEACHER = {"name": "resnet8", "training": {"epochs": 1}}
QUICK = {"name": "synthetic", "batch_size": 8, "size": 8, "train": 8, "validation": 8, "test": 8}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Copy a toy with parts of its text replaced into a folder, and return the name of its module."""
    monkeypatch.setattr(outside, "_FOLDERS", type(outside._FOLDERS)())
    path = list(sys.path)

    def made(toy: str, *changes: tuple[str, str]) -> str:
        text = (HERE / f"{toy}.py").read_text()
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        (tmp_path / f"own_{toy}.py").write_text(text)
        return f"{tmp_path}/own_{toy}"

    yield made
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("own_toy_")]:
        del sys.modules[name]


LOSS = 'return {"gaps": self.weight * (student.logits - teacher.logits).square().mean()}'


def distilled(tiny: Tiny, name: str, **options: Any) -> Trainer:
    made: Trainer = build_trainer(
        tiny(task=QUICK, teacher=TEACHER, review=None, distiller={"name": name, **options}, training={"epochs": 1})
    )
    return made


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        ("return self.weight * (student.logits - teacher.logits).square().mean()", "its losses must be a mapping"),
        ('return {"gaps": (student.logits - teacher.logits).square()}', r"of the shape \[8, 4\].*return its mean"),
        ('return {"gaps": 1.0}', "the loss 'gaps' as a value of the type float"),
        ('return {"gaps": student.logits.detach().mean()}', "losses without a gradient .'gaps'., so it would train"),
        ('return {"review": student.logits.mean()}', "'review' has the name of a loss of the task or the review"),
    ],
)
def test_a_distillers_losses(tiny: Tiny, write: Write, loss: str, sentence: str) -> None:
    trainer = distilled(tiny, f"{write('toy_distiller', (LOSS, loss))}:Gaps")
    with pytest.raises(RunError, match=f"distiller.*{sentence}"):
        trainer.epoch()


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("super().__init__()", "pass", r"the constructor of '.*:Gaps' does not call super\(\).__init__\(\)"),
        ("super().__init__()", "raise SystemExit(3)", "cannot be built with these options .SystemExit: 3"),
        ("super().__init__()", "raise KeyError('x')", "cannot be built with these options .KeyError: 'x'"),
        ("self, probe: Probe, *", "self, *", r"is called with positional values \(Probe\).*too many positional"),
        (
            "frozenset({Need.LOGITS})",
            "'logits'",
            "has needs = 'logits', but they must be a set out of logits",
        ),
        ("frozenset({Need.LOGITS})", "{'logitz'}", "has needs = {'logitz'}, but they must be a set"),
        ("frozenset({Need.LOGITS})", "frozenset()", "needs nothing, so it would never be called"),
        ("weight: NonNegativeFloat = 1.0", "weight=1.0", "the option 'weight' has no annotation"),
    ],
)
def test_a_distillers_class(tiny: Tiny, write: Write, before: str, after: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        distilled(tiny, f"{write('toy_distiller', (before, after))}:Gaps")


MADE = "def made(probe: Probe, *, weight: float = 1.0) -> {kind}:\n    return Gaps(probe, weight=weight)\n\n\n"


def test_a_function_needs_what_the_class_needs_that_it_returns(tiny: Tiny, write: Write) -> None:
    """It trained without a teacher, and ended with an error of Python."""
    name = write("toy_distiller", ("class Gaps", MADE.format(kind="Gaps") + "class Gaps"))
    experiment = tiny(teacher=TEACHER, review=None, distiller={"name": f"{name}:made", "weight": 2.0})
    assert experiment.needs_teacher
    assert distilled(tiny, f"{name}:made").epoch().numbers["loss_gaps"] > 0


def test_a_function_that_hides_the_class_is_refused(tiny: Tiny, write: Write) -> None:
    name = write("toy_distiller", ("class Gaps", MADE.format(kind="Distiller") + "class Gaps"))
    with pytest.raises(InputError, match="needs logits, but does not say so before it is built; a function says so by"):
        distilled(tiny, f"{name}:made")


def test_a_networks_classifier_has_the_tasks_classes(tiny: Tiny, write: Write) -> None:
    name = write("toy_network", ("nn.Linear(2 * width, classes)", "nn.Linear(2 * width, 3)"))
    with pytest.raises(InputError, match=r"student: '.*' gives logits of the shape \[3\] for an image.* has 4 outputs"):
        verify(tiny(task=QUICK, student={"name": f"{name}:ThreeConvolutions"}, teacher=TEACHER))


@pytest.mark.parametrize(
    ("toy", "key", "result", "wrong", "sentence"),
    [
        (
            "toy_extractor:Fading",
            "extractor",
            "return self.scale",
            "return None and self.scale",
            "into a NoneType, but a",
        ),
        (
            "toy_extractor:Fading",
            "extractor",
            "return self.scale",
            "return 1 / 0 * self.scale",
            "fails on a sequence .*Zero",
        ),
        (
            "toy_transform:Energy",
            "transform",
            "return energy",
            "return None and energy",
            "gave a NoneType",
        ),
        (
            "toy_transform:Energy",
            "transform",
            "return energy",
            "return 1 / 0 * energy",
            "fails on features",
        ),
    ],
)
def test_the_parts_of_a_review(
    tiny: Tiny, write: Write, toy: str, key: str, result: str, wrong: str, sentence: str
) -> None:
    module, _, kind = toy.partition(":")
    name = f"{write(module, (result, wrong))}:{kind}"
    with pytest.raises(InputError, match=f"review.{key}: {kind} .*{sentence}"):
        verify(tiny(task=QUICK, teacher=TEACHER, review={key: {"name": name}}))


SCORED = "return {BRIER.name: torch.cat(self._scores).mean().item()}"
BATCH = 'return {"task": scores(output, batch).mean()}'


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("return (BRIER,)", "return BRIER", "Brier.metrics gave Metric.*, but must give a tuple of Metric"),
        ('"min", digits', '"minimum", digits', "Brier.metrics: the mode of 'brier' must be max or min, got 'minimum'"),
        ("return (BRIER,)", "return (BRIER, BRIER)", "Brier.metrics gave two metrics of one name"),
        ('return {"loss": "brier"}', "return None", "Brier.identity gave null, but must give a mapping"),
        ('return {"loss": "brier"}', "return {1: object()}", "what names the data is no plain data"),
        (SCORED, "return None", "the meter Scores gave nothing"),
        (SCORED, "return {'other': 1.0}", "declares the metric 'brier', but its meter measured other"),
        (SCORED, "return {BRIER.name: self._scores[0].mean()}", "the meter Scores gave 'brier' as a tensor"),
        (BATCH, "return {}", "the objective Brier gave no loss"),
        (BATCH, 'return {"review": scores(output, batch).mean()}', "a loss with the name 'review', which the review"),
        (BATCH, 'return {"task": scores(output, batch)}', r"the objective Brier gave the loss 'task'.*\[8\]"),
    ],
)
def test_an_objective(tiny: Tiny, write: Write, before: str, after: str, sentence: str) -> None:
    name = write("toy_metric", (before, after))
    task = {"name": f"{name}:scored"}
    with pytest.raises((InputError, RunError), match=f"task: .*{sentence}"):
        trainer: Trainer = build_trainer(tiny(task=task, review=None, training={"epochs": 1}))
        trainer.task.fingerprint()
        trainer.epoch()


class Silent(Observer):
    def ended(self, training: Any, record: Record) -> Mapping[str, float]:
        found: Any = None
        return found


def test_an_observer_that_returns_nothing_is_named() -> None:
    record = Record(seed=1, epoch=0, phase="general", lr=0.1, numbers={}, seconds=1.0, eval_seconds=0.0)
    untouched: Any = None
    with pytest.raises(RunError, match=r"observe: Silent.ended gave nothing \(None\), but must give a mapping"):
        Observers([Silent()]).ended(untouched, record)


def test_a_name_with_a_dot_shows_the_form_of_a_name() -> None:
    parts: Registry[object] = Registry("parts")
    with pytest.raises(InputError, match="a component of your own is written module:Class, here mine.parts:Hint"):
        parts.entry("mine.parts.Hint")


def test_an_error_of_a_scheduler_is_said_with_its_place(tmp_path: Path) -> None:
    """The sentence was the beginning of a traceback of Ray Tune."""
    folder = local.RunFolder.create(tmp_path, "run", "sweep", {}, expected=1)

    def fit() -> None:
        try:
            _ = 1 // 0
        except ZeroDivisionError as error:
            raise TuneError(traceback.format_exc()) from error

    with pytest.raises(
        RunError, match=r"broke off \(ZeroDivisionError: .* by zero, test_broken_components.py:\d+\); remove the cause"
    ):
        tuning._uninterrupted(fit, folder)


def test_code_that_is_edited_within_a_training_is_noticed(tiny: Tiny, write: Write, tmp_path: Path) -> None:
    """The resume goes on, and the row says from which epoch on the code is another."""
    name = write("toy_distiller")
    document = tiny(
        task=QUICK, teacher=TEACHER, review=None, distiller={"name": f"{name}:Gaps"}, training={"epochs": 3}
    ).plain()
    document["training"]["checkpoint"] = {"seconds": 0}

    def stop(event: Event) -> None:
        if event.what == "epoch" and event.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.start(Experiment.read(document), "run", tmp_path / "runs", stop, track=False)
    before = outside.code_digest(f"{name}:Gaps")
    write("toy_distiller", (".square()", ".abs()"))
    outside.renew()
    (row,) = local.resume(local.RunFolder.open("run", tmp_path / "runs"), lambda event: None).rows()
    assert [line for line in row.warnings if "edited" in line] == [
        "code: 'own_toy_distiller:Gaps' was edited after epoch 2; the epochs before and after are of different code"
    ]
    assert row.code == {"own_toy_distiller:Gaps": outside.code_digest(f"{name}:Gaps")}
    assert row.code["own_toy_distiller:Gaps"] != before


@pytest.mark.parametrize(("codes", "said"), [(["a", "a"], 0), (["a", "b", "b"], 1)])
def test_code_that_is_edited_between_trainings_is_said(codes: Sequence[str], said: int) -> None:
    rows = [a_row(seed=seed, code={"mine:Hint": code}) for seed, code in enumerate(codes)]
    rows += [a_row(seed=8), a_row(seed=9, code={"mine:Hint": "broken"}, broke=True, status="failed")]
    found = edited_code(rows)
    assert len(found) == said
    assert all("The code of 'mine:Hint' was edited during the run: 1 and 2 trainings" in line for line in found)
