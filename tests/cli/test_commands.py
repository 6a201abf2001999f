"""The command line: what each command says, writes and ends with."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

import factories
from tskd_tune import documents, local, single
from tskd_tune.cli import app
from tskd_tune.errors import RunError
from tskd_tune.experiment import Experiment
from tskd_tune.networks.weights import read_state
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.row import Row
from tskd_tune.records.protocols.confirmations import enter
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.estimating import estimate, stopwatch
from tskd_tune.sweeps.evidence.extension import Addition
from tskd_tune.training.teachers import CACHE_VARIABLE

SHORT: dict[str, Any] = {
    "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 8, "validation": 4, "test": 4},
    "teacher": {"name": "resnet8", "training": {"epochs": 1, "lr": 0.01}},
    "student": {"name": "resnet8"},
    "review": {"k": 1, "delta": 1, "extractor": {"name": "linear"}},
    "training": {"epochs": 4, "lr": 0.05, "device": "cpu", "threads": 1},
}
SWEEP: dict[str, Any] = {
    "experiment": {**SHORT, "review": {"choice": {"none": None, "tskd": SHORT["review"]}}},
    "seeds": [1, 2],
    "search": {"name": "grid"},
}
OPTIONS = {
    "init": {"--json"},
    "check": {"--set", "--data", "--json"},
    "cluster": set(),  # its command is tested in tests/clusters
    "plan": {"--epochs", "--k", "--delta", "--set", "--json"},
    "train": {"--name", "--storage", "--set", "--no-wandb"},
    "sweep": {"--name", "--storage", "--set", "--no-wandb", "--address", "--replicates"},
    "resume": {"--storage", "--wandb", "--no-wandb", "--address", "--hours"},
    "extend": {"--seeds", "--controls", "--points", "--storage", "--wandb", "--no-wandb", "--address"},
    "confirm": {
        *(
            "--seeds",
            "--top",
            "--against",
            "--controls",
            "--name",
            "--storage",
            "--set",
            "--wandb",
            "--no-wandb",
            "--address",
        )
    },
    "submit": {"--with"},
    "report": {"--cost", "--format", "--json", "--paper", "--set", "--storage", "--wandb", "--what", "--against"},
    "sync": {"--entity", "--project", "--storage"},
    "status": {"--storage", "--json", "--watch", "--every"},
    "runs": {"--storage", "--json"},
    "export": {"--seed", "--storage"},
    "study": {"--quick", "--set", "--output", "--json"},
    "list": {"--json"},
    "schema": set(),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command in an empty folder; it must end with the given code, and with a traceback only if told so."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output and "\r" not in result.output
        return result

    return invoke


def write(path: Path, document: dict[str, Any], **over: Any) -> str:
    path.write_text(documents.dump(documents.merge(copy.deepcopy(document), over)))
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, teacher_cache: Path) -> Iterator[RunFolder]:
    storage = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(teacher_cache))
        file = write(storage / "short.yaml", SHORT)
        yield local.start(single.read(Path(file)), "done", storage, lambda trained: None, track=False)


# The frame


def test_the_flags_are_frozen_so_that_knobs_live_in_the_yaml() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {
        name: {
            flag for given in command.params for flag in (*given.opts, *given.secondary_opts) if flag.startswith("-")
        }
        for name, command in commands.items()
    }
    assert found == OPTIONS


def test_help_teaches_with_examples(run: Callable[..., Any]) -> None:
    text = run("--help").stdout
    for word in ("tskd-tune plan --epochs 240 --k 3 --delta 5", "tskd-tune sweep", "130", *OPTIONS):
        assert word in text
    for command in OPTIONS:
        assert "Example: tskd-tune" in run(command, "--help").stdout


def test_the_version_is_said(run: Callable[..., Any]) -> None:
    from tskd_tune.version import __version__

    assert run("--version").stdout == f"tskd-tune {__version__}\n"


SCRIPT = """
import sys
from typer.testing import CliRunner
from tskd_tune.cli import app

def run(*words):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output

run("--help"), run("sweep", "--help")
assert "torch" not in sys.modules, "--help waits for torch"
for words in (("plan", "--epochs", "9", "--k", "1", "--delta", "1"), ("list", "searchers"), ("schema", "sweep"),
              ("check", sys.argv[1]), ("plan", sys.argv[2])):
    run(*words)
found = {"ray", "optuna", "wandb"} & set(sys.modules)
assert not found, found
"""


def test_help_needs_no_torch_and_what_does_not_run_needs_no_ray(tmp_path: Path) -> None:
    files = [write(tmp_path / "e.yaml", SHORT), write(tmp_path / "s.yaml", SWEEP)]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_wrong_usage_ends_with_2(run: Callable[..., Any]) -> None:
    for words in (("train",), ("chek",), ("list", "distilers"), ("schema", "sweeps"), ("plan", "--epochs", "x")):
        run(*words, code=2)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("extend", "run", "--seeds", "6-8", "--seeds", "9"), "--seeds"),
        (("plan", "--epochs", "9", "--k=1", "--delta", "1", "--k=2"), "--k"),
        (("cluster", "init", "--region", "a", "--region=b"), "--region"),
    ],
)
def test_an_option_that_takes_one_value_is_given_once(run: Callable[..., Any], words: Any, name: str) -> None:
    assert run(*words, code=2).stderr == f"error: {name}: is given 2 times, but takes one value; give it once\n"


def test_settings_and_flags_may_be_repeated(run: Callable[..., Any]) -> None:
    settings = ("--set", "review.plan.cycle=sliding", "--set", "review.plan.cycle=disjoint", "--json", "--json")
    run("plan", "--epochs", "9", "--k", "1", "--delta", "1", *settings)


def test_a_bug_shows_its_traceback_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tskd_tune.cli.preparing.course.timeline", lambda *given: 1 / 0)
    result = CliRunner().invoke(app, ["plan", "--epochs", "9", "--k", "1", "--delta", "1"])
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stderr and "error: this is a bug in tskd-tune" in result.stderr


def test_an_interrupt_before_anything_ends_with_130(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(single, "read_checked", interrupt)
    assert "nothing was started" in run("train", write(tmp_path / "e.yaml", SHORT), code=130).stderr


# plan


def test_the_plan_of_the_paper_as_json(run: Callable[..., Any]) -> None:
    plan = json.loads(run("plan", "--epochs", "240", "--k", "3", "--delta", "5", "--json").stdout)
    assert plan["memorize"] == [epoch for epoch in range(0, 240, 5) if epoch % 20 != 15]
    assert plan["review"] == list(range(15, 240, 20))
    assert plan["milestones"] == [150, 180, 210]
    assert plan["warnings"] == []


def test_the_plan_is_drawn_and_warned_of(run: Callable[..., Any]) -> None:
    text = run("plan", "--epochs", "12", "--k", "2", "--delta", "4").stdout
    assert "    0  m...m...r..." in text
    assert "review: only 1 review in 12 epochs" in text
    late = run("plan", "--epochs", "20", "--k", "3", "--delta", "5").stdout
    assert "the first review is epoch 15, but the learning rate drops at epoch 12" in late


def test_a_plan_takes_settings_and_files(run: Callable[..., Any], tmp_path: Path) -> None:
    sliding = ("--set", "review.plan.cycle=sliding")
    numbers = json.loads(run("plan", "--epochs", "9", "--k", "2", "--delta", "2", "--json", *sliding).stdout)
    assert numbers["review"] == [4, 6, 8]
    one = json.loads(run("plan", write(tmp_path / "e.yaml", SHORT), "--json", "--set", "review.k=2").stdout)
    assert one["memorize"] == [0, 1, 3] and one["review"] == [2]
    arms = json.loads(run("plan", write(tmp_path / "s.yaml", SWEEP), "--json").stdout)["arms"]
    assert [(arm["arm"], arm["review"]) for arm in arms] == [("review=none", []), ("review=tskd", [1, 3])]
    drawn = run("plan", str(tmp_path / "s.yaml")).stdout
    assert "review=none: 4 epochs without a review" in drawn and "    0  mrmr" in drawn


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["plan"], "error: plan: --epochs, --k, --delta are missing"),
        (["plan", "--k", "3"], "error: plan: --epochs, --delta are missing"),
        (["plan", "some.yaml", "--k", "3"], "error: plan: was given FILE and --k"),
        (["plan", "--epochs", "9", "--k", "3", "--delta", "5"], "error: review: the first review is epoch 15"),
        (["plan", "--epochs", "9", "--k", "0", "--delta", "5"], "error: --k: must be at least 1, got 0"),
        (["plan", "missing.yaml"], "error: missing.yaml: cannot be read"),
    ],
)
def test_a_wrong_plan_is_a_sentence(words: list[str], sentence: str, run: Callable[..., Any]) -> None:
    result = run(*words, code=2)
    assert sentence in result.stderr and result.stdout == ""


# check


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the estimate take no time, and the scheduler, which is Ray's, not be made."""
    monkeypatch.setattr(Sweep, "scheduler_for", lambda self, space: None)
    monkeypatch.setattr(stopwatch, "MOST_STEPS", 1)
    monkeypatch.setattr(estimate, "MOST_POINTS", 2)


@pytest.mark.usefixtures("quick")
def test_check_tells_of_arms_warnings_and_cost(run: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / "s.yaml", SWEEP)
    found = json.loads(run("check", file, "--json").stdout)
    assert (found["ok"], found["kind"], found["points"], found["seeds"]) == (True, "sweep", 2, [1, 2])
    assert [(arm["arm"], arm["review"]) for arm in found["arms"]] == [("review=none", []), ("review=tskd", [1, 3])]
    assert "review.k: 1 (preset: 3)" in found["arms"][1]["deviations"]
    assert found["warnings"][0]["arms"] == ["review=tskd"]
    assert (found["estimate"]["runs"], found["estimate"]["epochs"]) == (4, 16)
    text = run("check", file).stdout
    assert "2 points x 2 seeds = 4 runs" in text
    assert "review=tskd: 4 epochs, 2 reviews, the first at epoch 1" in text
    assert "warning: review: only 2 reviews in 4 epochs" in text
    assert text.count("training.epochs: 4 (preset: 240)") == 1, "what all arms share is said once"


@pytest.mark.usefixtures("quick")
def test_check_knows_an_experiment_by_its_form(run: Callable[..., Any], tmp_path: Path) -> None:
    found = json.loads(run("check", write(tmp_path / "e.yaml", SHORT), "--json", "--set", "seed=4").stdout)
    assert (found["kind"], found["points"], found["seeds"]) == ("experiment", 1, [4])
    assert found["arms"][0]["review"] == [1, 3]


def test_check_ends_with_2_and_all_problems(run: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / "e.yaml", SHORT, sed=1, training={"epochs": 0})
    assert "e.yaml:11: unknown key 'sed'" in run("check", file, code=2).stderr
    bad = write(tmp_path / "s.yaml", SWEEP, experiment={"review": {"choice": {"late": {"k": 9}, "long": {"delta": 9}}}})
    result = run("check", bad, "--json", code=2)
    problems = json.loads(result.stdout)["problems"]
    assert len(problems) == 2 and all("lower k or delta" in problem for problem in problems)
    assert [line.removeprefix("error: ") for line in result.stderr.splitlines()] == problems


def test_a_key_of_the_experiment_is_shown_where_it_belongs(run: Callable[..., Any], tmp_path: Path) -> None:
    sweep, single = write(tmp_path / "s.yaml", SWEEP), write(tmp_path / "e.yaml", SHORT)
    wrong = "error: --set training.epochs=4: unknown key 'training'; it is a key of the experiment: write experiment."
    assert wrong + "training" in run("check", sweep, "--set", "training.epochs=4", code=2).stderr
    wrong = "unknown key 'experiment'; the file is a single experiment, whose keys have no 'experiment' before them"
    assert wrong in run("check", single, "--set", "experiment.training.epochs=4", code=2).stderr
    assert "did you mean 'k'?" in run("check", single, "--set", "review.K=4", code=2).stderr


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("experiment.training.epochs=0", "point 'review=none' (and 1 more): training.epochs: must be greater than or"),
        ("experiment.student.name=resnet9", "point 'review=none' (and 1 more): student: 'resnet9' is not among the"),
        ("experiment.trainig.epochs=2", "point 'review=none' (and 1 more): unknown key 'trainig'; did you mean"),
    ],
)
def test_a_sweep_says_the_place_of_a_mistake_as_a_check_does(
    run: Callable[..., Any], tmp_path: Path, setting: str, sentence: str
) -> None:
    file = write(tmp_path / "s.yaml", SWEEP)
    said = run("sweep", file, "--set", setting, code=2).stderr
    assert said.startswith(f"error: --set {setting}: {sentence}")
    assert said == run("check", file, "--set", setting, code=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


@pytest.mark.parametrize("name", ["-x", "", "a\nb", "n" * 260, "a/b"])
@pytest.mark.parametrize("command", ["sweep", "train"])
def test_names_that_no_run_can_have(run: Callable[..., Any], tmp_path: Path, command: str, name: str) -> None:
    file = write(tmp_path / "s.yaml", SWEEP if command == "sweep" else SHORT)
    assert "error: --name: must be a plain name" in run(command, file, f"--name={name}", code=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def test_a_file_whose_name_no_run_can_have(run: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / f"{'n' * 150}.yaml", SHORT)
    assert "give another --name" in run("train", file, code=2).stderr


def test_two_arms_that_are_one_experiment_are_said(run: Callable[..., Any], tmp_path: Path) -> None:
    arms = {"none": None, "plain": None, "tskd": SHORT["review"], "again": {**SHORT["review"], "delta": 1}}
    file = write(tmp_path / "s.yaml", {**SWEEP, "experiment": {**SHORT, "review": {"choice": arms}}})
    same = "these arms train the same experiment"
    found = json.loads(run("check", file, "--json").stdout)["warnings"]
    (twins,) = [warning["arms"] for warning in found if same in warning["sentence"]]
    assert twins == ["review=none = review=plain", "review=tskd = review=again"]
    assert same not in run("check", write(tmp_path / "other.yaml", SWEEP)).stdout


def test_what_a_distiller_raises_in_a_step_is_a_sentence(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from tskd_tune.distillers.base import Distiller\n\nclass Broken(Distiller):\n"
    source += "    needs = frozenset({'logits'})\n    def __init__(self, probe):\n        super().__init__()\n"
    source += "    def forward(self, student, teacher, batch):\n        return {'x': student.nothing}\n"
    (tmp_path / "own_broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    file = write(tmp_path / "e.yaml", SHORT, distiller="own_broken:Broken")
    told = run("check", file, code=2).stderr
    assert "a step of training with the distiller" in told and "fails (AttributeError" in told
    assert "own_broken.py:8" in told


def test_seeds_as_a_range(run: Callable[..., Any], tmp_path: Path) -> None:
    found = run("check", write(tmp_path / "s.yaml", SWEEP, seeds="1-3,7"), "--json").stdout
    assert json.loads(found)["seeds"] == [1, 2, 3, 7]


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "tskd_tune", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tskd-tune ")


# train, resume, report, status, export


def test_a_training_from_file_to_exported_student(run: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / "short.yaml", SHORT)
    text = run("train", file, "--name", "one", "--no-wandb", "--set", "seed=3").stdout
    assert "one: resnet8, review, seed 3, 4 epochs, 2 reviews" in text
    assert "training: 2 of 4 epochs" in text and "finished, test top-1 (%)" in text
    assert "1 of 1 run finished" in text and "report.html" in text
    assert "tskd-tune sync" not in text
    part = RunFolder.open("one").path / ".report.html.abc.part"
    part.write_text("a process was killed here")
    assert "is finished, nothing is left to train" in run("resume", "one").stdout and not part.exists()
    assert "1 training: 1 done, 4 of 4 epochs trained" in run("status", "one").stdout
    run("export", "one", "resnet8, review", "student.pth")
    kept = RunFolder.open("one").student_path("0", 3)
    assert (tmp_path / "student.pth").read_bytes() == kept.read_bytes()


def test_a_run_without_a_name_is_called_by_file_and_time(run: Callable[..., Any], tmp_path: Path) -> None:
    run("train", write(tmp_path / "short.yaml", SHORT), "--no-wandb", "--set", "review=null", "--storage", "elsewhere")
    (folder,) = (tmp_path / "elsewhere").iterdir()
    assert folder.name.startswith("short-2") and len(folder.name) == len("short-20260101-120000")


def test_an_interrupt_says_how_to_go_on(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "short.yaml", SHORT)
    real = RunFolder.append_history

    def interrupt(self: RunFolder, trial: str, lines: list[dict[str, Any]]) -> None:
        real(self, trial, lines)
        if lines[0]["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_history", interrupt)
        result = run("train", file, "--name", "cut", "--no-wandb", code=130)
    assert f"tskd-tune resume {tmp_path / 'runs' / 'cut'}" in result.stderr
    told = run("status", "cut").stdout
    assert "1 training: 1 begun, 3 of 4 epochs trained" in told
    assert "0: resnet8, review, seed 1 begun, 3 of 4 epochs" in told
    assert re.search(r"left; interrupted: stopped by SIGINT at [-0-9: ]+ UTC; continue with: tskd-tune resume", told)
    assert "1 of 1 run finished" in run("resume", "cut", "--no-wandb").stdout


def test_a_failed_training_ends_with_1_and_shows_its_row(run: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / "wild.yaml", SHORT, review=None, training={"lr": 1e18}, task={"noise": 1e6})
    result = run("train", file, "--name", "wild", "--no-wandb", code=1)
    assert "the loss is not finite" in result.stderr and "1 failed" in result.stdout
    assert "failed" in run("status", "wild").stdout
    run("export", "wild", "resnet8", "x.pth", code=2)


def test_a_sweep_is_not_trained_and_a_training_not_swept(run: Callable[..., Any], tmp_path: Path) -> None:
    assert "tskd-tune sweep" in run("train", write(tmp_path / "s.yaml", SWEEP), code=2).stderr
    assert "tskd-tune train" in run("sweep", write(tmp_path / "e.yaml", SHORT), code=2).stderr


def test_the_report_is_an_object_or_pages(finished: RunFolder, run: Callable[..., Any]) -> None:
    path = str(finished.path)
    (finished.path / "report.html").unlink()
    found = json.loads(run("report", path, "--json").stdout)
    assert found["runs"]["done"] == 1 and found["arms"][0]["arm"] == "resnet8, review"
    assert not (finished.path / "report.html").exists()
    assert "resnet8, review" in run("report", path).stdout
    assert (finished.path / "report.html").exists()


def test_a_report_in_another_form_is_printed_and_nothing_is_written(
    finished: RunFolder, run: Callable[..., Any]
) -> None:
    path = str(finished.path)
    (finished.path / "report.html").unlink()
    assert run("report", path, "--format", "md").stdout.startswith(f"# {finished.name}\n")
    assert r"\begin{tabular}" in run("report", path, "--format", "latex").stdout
    assert run("report", path, "--format", "csv").stdout.startswith("arm,trials,")
    assert run("report", path, "--format", "csv", "--what", "runs").stdout.startswith("trial,arm,seed,status,")
    assert json.loads(run("report", path, "--format", "json").stdout)["family"] is None
    assert "delta 15" in run("report", path, "--paper", "table6").stdout
    assert json.loads(run("report", path, "--paper", "table6", "--json").stdout)["table"] == "table6_interval"
    assert not (finished.path / "report.html").exists()


def test_wishes_that_contradict_each_other_are_sentences(finished: RunFolder, run: Callable[..., Any]) -> None:
    path = str(finished.path)
    assert "--what: applies only to --format csv" in run("report", path, "--what", "runs", code=2).stderr
    assert (
        "--json: cannot be combined with --format csv"
        in run("report", path, "--json", "--format", "csv", code=2).stderr
    )
    assert (
        "--what search: 'done' is no search"
        in run("report", path, "--format", "csv", "--what", "search", code=2).stderr
    )
    assert "there is no table 'table9'" in run("report", path, "--paper", "table9", code=2).stderr
    margin = ("--set", "compare.margin=2")
    for other in (("--paper", "table1"), ("--wandb",)):
        said = run("report", path, *margin, *other, code=2).stderr
        assert "--set: shows exploratory verdicts on this terminal, so it does not go with" in said
    assert (
        "a report takes one of compare.margin, compare.rule" in run("report", path, "--set", "seeds=[1]", code=2).stderr
    )


def test_a_report_with_another_margin_writes_no_file(finished: RunFolder, run: Callable[..., Any]) -> None:
    before = {path: path.read_bytes() for path in finished.path.glob("report.*")}
    found = run("report", str(finished.path), "--set", "compare.margin=2").stdout
    assert "no file was written: the report in the run's folder is that of the run's own file" in found
    assert {path: path.read_bytes() for path in finished.path.glob("report.*")} == before


def test_a_report_that_cannot_be_written_is_a_sentence(
    finished: RunFolder, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **named: Any) -> None:
        raise RunError("report.md: could not be written (Read-only file system)")

    monkeypatch.setattr("tskd_tune.records.storing.store.LocalStore.write", refuse)
    assert "error: report.md: could not be written" in run("report", str(finished.path), code=1).stderr


def test_a_run_that_is_not_there_is_a_sentence(run: Callable[..., Any]) -> None:
    for command in ("report", "status", "resume"):
        assert "error: there is no run 'nowhere'" in run(command, "nowhere", code=2).stderr


def test_export_copies_whole_and_never_overwrites(finished: RunFolder, run: Callable[..., Any], tmp_path: Path) -> None:
    path, target = str(finished.path), tmp_path / "student.pth"
    run("export", path, "0", str(target), "--seed", "1")
    assert read_state(target).state.keys() == read_state(finished.student_path("0", 1)).state.keys()
    target.write_bytes(b"mine")
    assert "exists and is not overwritten" in run("export", path, "0", str(target), code=2).stderr
    assert target.read_bytes() == b"mine"
    for words, sentence in (
        (("kd", "x.pth"), "no training of 'kd' is finished"),
        (("0", "x.pth", "--seed", "9"), "has no finished seed 9"),
        (("0", "no/such/folder/x.pth"), "cannot be written"),
    ):
        assert sentence in run("export", path, *words, code=2).stderr
    assert not (tmp_path / "x.pth").exists()


# sweep: what runs it is a stand-in, so that nothing needs Ray


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Put a run of one row in the place of `tskd_tune.sweeps.run`; note what it was given."""
    given: list[Any] = []

    def work(folder: RunFolder, listener: Callable[[Any], None]) -> RunFolder:
        listener(Event("teacher", "resnet8", epoch=0, epochs=1))
        listener(Event("ready", "resnet8", metrics={"parameters": 77652, "test_top1": 50.0}, reason="a.pth"))
        for epoch in range(4):
            listener(Event("epoch", "review=none", "00000", 1, epoch, 4))
        listener(Event("finished", "review=none", "00000", 1, 3, 4, {"test_top1": 75.0}))
        listener(Event("failed", "review=tskd", "00001", 4, -1, 2, reason="a worker was lost"))
        return folder

    def start(
        sweep: Sweep,
        name: str,
        storage: Path,
        listener: Any,
        *,
        track: bool,
        confirms: RunFolder | None = None,
        origin: Any = None,
    ) -> RunFolder:
        given.append((sweep, name, storage, track, *([confirms.name] if confirms else [])))
        return work(RunFolder.create(storage.absolute(), name, "sweep", sweep.plain(), expected=4), listener)

    def resume(folder: RunFolder, listener: Any, *, track: bool | None, hours: float | None) -> RunFolder:
        given.append((folder.name, track, hours))
        raise KeyboardInterrupt

    def extend(folder: RunFolder, addition: Addition, listener: Any, *, track: bool | None) -> RunFolder:
        given.append((folder.name, addition.seeds, addition.controls, addition.points, track))
        listener(Event("interim", "", reason="Interim analysis 1 of 2: go on"))
        return work(folder, listener)

    stand_in = SimpleNamespace(start=start, resume=resume, extend=extend)
    monkeypatch.setitem(sys.modules, "tskd_tune.sweeps.run", stand_in)
    return given


def test_a_sweep_is_started_followed_and_shown(swept: list[Any], run: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / "s.yaml", SWEEP)
    text = run("sweep", file, "--name", "first", "--no-wandb", "--set", "seeds=[4, 5]").stdout
    ((sweep, name, storage, track),) = swept
    assert (sweep.seeds, name, storage, track) == ([4, 5], "first", Path("runs"), False)
    assert "2 points x 2 seeds = 4 runs, grid" in text
    assert "teacher resnet8: 1 of 1 epochs" in text
    assert "teacher resnet8: 77,652 parameters, test top-1 50.00 % (a.pth)" in text
    assert "training: 4 of 16 epochs" in text
    assert "review=none, seed 1: finished, test top-1 (%) 75.00 (1 of 4)" in text
    assert "review=tskd, seed 4: broke: a worker was lost" in text
    assert "0 of 4 runs finished" in text


def test_a_sweep_is_resumed_and_interrupted(swept: list[Any], run: Callable[..., Any], tmp_path: Path) -> None:
    run("sweep", write(tmp_path / "s.yaml", SWEEP), "--name", "first")
    (tmp_path / "runs/first/wandb/offline-run-1").mkdir(parents=True)
    result = run("resume", "first", "--hours", "2", code=130)
    assert swept[0][3] is True and swept[1] == ("first", None, 2.0), "tracked as it began"
    assert "going on after 0 of 4 trainings" in result.stdout
    assert f"tskd-tune resume {Path('runs/first')}" in result.stderr
    assert "tskd-tune sync" in run("report", "first").stdout


def test_a_sweep_is_extended_and_an_analysis_is_told(swept: list[Any], run: Callable[..., Any], tmp_path: Path) -> None:
    run("sweep", write(tmp_path / "s.yaml", SWEEP), "--name", "first")
    text = run("extend", "first", "--seeds", "3-4", "--controls", "detach,zeros", "--no-wandb").stdout
    assert swept[1] == ("first", [3, 4], ["detach", "zeros"], None, False)
    assert "first: 4 points x 4 seeds = 16 runs, 0 are finished" in text and "Interim analysis 1 of 2: go on" in text
    choice = {"none": None, "detached": {**SHORT["review"], "target": {"gradient": "detach"}}}
    more = write(tmp_path / "more.yaml", {**SWEEP, "experiment": {**SHORT, "review": {"choice": choice}}})
    assert "3 points x 2 seeds = 6 runs" in run("extend", "first", "--points", more).stdout
    assert "detached" in swept.pop()[3].experiment["review"]["choice"]
    for words, sentence in (
        (("first", "--seeds", "2-4"), "--seeds: 2 is in the sweep already"),
        (("first", "--seeds", "4-2"), "--seeds: the range 4-2 descends; write 2-4"),
        (("first",), "there is nothing to add"),
        (("first", "--controls", "zero"), "--controls: 'zero' is no control; did you mean 'zeros'? known: at_every"),
        (("first", "--controls", ""), "--controls: '' is no control; known: at_every"),
        (("nowhere", "--seeds", "9"), "there is no run 'nowhere'"),
    ):
        assert sentence in run("extend", *words, code=2).stderr
    assert len(swept) == 2, "what is refused starts nothing"


def test_a_torn_line_is_warned_of_once_and_a_run_without_rows_says_so(
    finished: RunFolder, run: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copytree(finished.path, tmp_path / "torn")
    rows = tmp_path / "torn" / "rows.jsonl"
    whole = rows.read_text()
    rows.write_text(whole + whole[:50])
    assert run("report", str(tmp_path / "torn")).stderr.count("the last line is incomplete") == 1
    rows.write_text("")
    text = run("report", str(tmp_path / "torn")).stdout
    assert "nothing to compare" in text and "0 of 1 run finished" in text


def test_a_single_training_is_neither_extended_nor_confirmed(finished: RunFolder, run: Callable[..., Any]) -> None:
    assert "to which no seeds and arms can be added" in run("extend", str(finished.path), "--seeds", "9", code=2).stderr
    assert "which has no winners" in run("confirm", str(finished.path), "--seeds", "9", code=2).stderr


def test_the_winner_of_a_search_is_confirmed(swept: list[Any], run: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / "s.yaml", {**SWEEP, "search": {"name": "random", "trials": 2}})
    run("sweep", file, "--name", "search")
    assert "no point has finished all seeds" in run("confirm", "search", "--seeds", "9", code=2).stderr
    folder = RunFolder.open("search")
    for seed in (1, 2):
        folder.add_row(a_row(Experiment.read({**SHORT, "seed": seed}), seed))
    text = run("confirm", "search", "--seeds", "8,9", "--name", "sure", "--set", "resources.cpu=2").stdout
    sweep, name, storage, track, confirms = swept[1]
    assert (name, storage, track, confirms) == ("sure", Path("runs"), True, "search")
    assert (sweep.seeds, sweep.resources.cpu) == ([8, 9], 2)
    assert "sure: confirms search: review=tskd; baseline; 2 seeds, 4 runs" in text
    assert "the paper's setting is left out" in text
    assert "was confirmed before" not in text
    enter(folder, RunFolder.open("sure"), [8, 9])
    again = run("confirm", "search", "--seeds", "8,9", "--name", "controlled", "--controls", "detach, zeros").stdout
    assert "warning: search was confirmed before, by sure; the report says so, report all of them" in again
    controlled = swept.pop()[0].resolved()
    assert controlled.compare.controls == {"control_detach": "review=tskd", "control_zeros": "review=tskd"}
    assert "warning: search has 2 of its 4 runs: its winner may still change" in text
    sly = ("confirm", "search", "--seeds", "9", "--set", "seeds=[1]")
    assert "give the seeds of a confirmation with --seeds" in run(*sly, code=2).stderr
    used = run("confirm", "search", "--seeds", "2-3", code=2).stderr
    assert "the search chose its winners with the seed 2, so it is not fresh" in used


def a_row(experiment: Experiment, seed: int) -> Row:
    return factories.a_row("00000", seed, "review=tskd", metrics={"val_top1": 50.0}, experiment=experiment.plain())


@pytest.mark.usefixtures("quick")
def test_check_and_plan_show_controls(run: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / "s.yaml", {**SWEEP, "controls": ["ce", "zeros"]})
    found = json.loads(run("check", file, "--json").stdout)
    assert [arm["arm"] for arm in found["arms"]] == ["review=none", "review=tskd", "control_zeros"]
    assert found["left_out"] == ["controls.ce: is the arm 'review=none', which is not trained twice"]
    text = run("check", file).stdout
    assert "3 points x 2 seeds = 6 runs" in text and found["left_out"][0] in text
    assert "control_zeros: 4 epochs" in run("plan", file).stdout


def test_a_search_is_counted_by_its_trials(swept: list[Any], run: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / "s.yaml", {**SWEEP, "search": {"name": "random", "trials": 2}})
    assert "2 points x 2 seeds = 4 runs, random" in run("sweep", file, "--name", "search").stdout


# list


def test_list_names_all_kinds(run: Callable[..., Any]) -> None:
    names = json.loads(run("list", "--json").stdout)
    assert "kd" in names["distillers"] and "conv_lstm" in names["extractors"] and "optuna" in names["searchers"]
    assert names.keys() == {
        "distillers", "networks", "tasks", "teacher_methods", "transforms", "extractors", "observers", "searchers",
        "schedulers", "callbacks", "optimizers", "rate_schedules", "studies",
    }  # fmt: skip
    assert all(json.loads(run("list", kind, "--json").stdout) for kind in names)
    assert "distillers: " in run("list").stdout


def test_list_describes_a_kind(run: Callable[..., Any]) -> None:
    described = json.loads(run("list", "distillers", "--json").stdout)
    assert all(entry.keys() == {"name", "source", "options", "needs"} for entry in described)
    kd = next(entry for entry in described if entry["name"] == "kd")
    assert kd["options"]["temperature"]["default"] == 4.0 and kd["needs"] == ["logits"]
    text = run("list", "distillers").stdout
    assert "temperature: 4.0" in text and "needs logits" in text
    assert "trials (required)" in run("list", "searchers").stdout


def test_threads_are_left_alone_by_looking(run: Callable[..., Any], tmp_path: Path) -> None:
    before = torch.get_num_threads()
    run("plan", write(tmp_path / "e.yaml", SHORT, training={"threads": before + 1}))
    assert torch.get_num_threads() == before
