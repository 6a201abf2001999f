"""``sweep --replicates`` and the reports of groups; what trains is a stand-in, so that nothing needs Ray."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import factories
from factories import a_group, a_search
from tskd_tune import documents
from tskd_tune.cli import app
from tskd_tune.errors import RunError
from tskd_tune.paths import Address
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.page.report import write_report
from tskd_tune.sweeps.declared.schema import Sweep

SEARCH: dict[str, Any] = {
    "experiment": {
        "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 8, "validation": 4, "test": 4},
        "student": {"name": "resnet8"},
        "review": None,
        "training": {"epochs": 1, "lr": {"loguniform": [1e-3, 1e-1]}, "device": "cpu", "threads": 1},
    },
    "seeds": [1],
    "search": {"name": "random", "trials": 2},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command in an empty folder with the file of a search; it must end with the given code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search.yaml").write_text(documents.dump(SEARCH))

    def invoke(*words: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a stand-in in the place of `tskd_tune.sweeps.run`: each start trains two trials, or what ``fails`` says."""
    found: dict[str, Any] = {"calls": [], "fails": {}}

    def rows(folder: RunFolder, sweep: Sweep, trials: int) -> RunFolder:
        value, facts = float(sweep.search.options()["seed"]), {"measures": [factories.TOP1]}
        made = [
            factories.a_row(f"{i:05d}", sweep.all_seeds()[0], f"lr={i}", metrics={"val_top1": value + i}, **facts)
            for i in range(trials)
        ]
        how = found["fails"].pop(folder.name, None)
        if how == "diverged":
            made[-1] = made[-1].model_copy(update={"status": "failed", "reason": "the loss is not finite"})
        with folder.alone():
            factories.write_rows(folder, {"broke": made[:1], "nothing": []}.get(how or "", made))
            write_report(folder)
        if how == "interrupted":
            raise KeyboardInterrupt
        if how is not None:
            raise RunError(f"{folder.place}: 1 failed")
        return folder

    def start(sweep: Sweep, name: str, storage: Any, listener: Any, *, track: bool, origin: Any) -> RunFolder:
        found["calls"].append(("start", name))
        sweep = sweep.resolved()
        folder = RunFolder.create(storage.absolute(), name, "sweep", sweep.plain(), expected=2, origin=origin)
        return rows(folder, sweep, 1 if found["fails"].get(name) == "interrupted" else 2)

    def resume(folder: RunFolder, listener: Any, *, track: bool, hours: float | None) -> RunFolder:
        found["calls"].append(("resume", folder.name))
        return rows(folder, Sweep.read(folder.document()), 2)

    monkeypatch.setitem(sys.modules, "tskd_tune.sweeps.run", SimpleNamespace(start=start, resume=resume))
    return found


SWEEP = ("sweep", "search.yaml", "--name", "s", "--replicates", "3", "--no-wandb")


def test_replicates_are_searched_one_after_the_other_and_never_twice(run: Any, trained: dict[str, Any]) -> None:
    said = run(*SWEEP).stdout
    assert trained["calls"] == [("start", "s-1"), ("start", "s-2"), ("start", "s-3")]
    assert (
        "s: 3 replicates of a search, s-1 to s-3, one after the other; sampler seeds 0 to 2, training seeds 1" in said
    )
    assert "Expected best of n trials, mean over 3 replicates, val_top1: n = 1: 1.50 % (" in said
    found = [RunFolder.open(f"s-{number}", Path("runs")) for number in (1, 2, 3)]
    assert [(one.document()["search"]["seed"], one.document()["seeds"]) for one in found] == [
        (0, [1]),
        (1, [2]),
        (2, [3]),
    ]
    assert [one.state.file for one in found] == ["search.yaml"] * 3
    assert [one.state.replicate.declared for one in found if one.state.replicate] == [3] * 3
    (found[0].path / "report.html").unlink()  # as if a process was killed after the last training
    again = run(*SWEEP).stdout
    assert (found[0].path / "report.html").exists()
    assert len(trained["calls"]) == 3 and again.count("has ended, nothing is left to train") == 3
    run("sweep", "search.yaml", "--name", "s", "--replicates", "4", "--no-wandb")
    assert trained["calls"][3:] == [("start", "s-4")]


def test_a_group_that_has_results_was_declared_and_one_without_is_declared_anew(
    run: Any, trained: dict[str, Any]
) -> None:
    run(*SWEEP)
    more = run(*SWEEP[:-2], "5", "--no-wandb").stdout
    assert "warning: the group was begun with --replicates 3 and has results, so a verdict on more is explor" in more
    assert "'s' was begun with 3 replicates, and 2 more replicates were added when there were results (s-4, 5)" in more
    assert "so there is no verdict on fewer" in run(*SWEEP[:-2], "2", "--no-wandb").stdout
    trained["fails"] = {"t-1": "nothing"}
    begun = ("sweep", "search.yaml", "--name", "t", "--no-wandb", "--replicates")
    run(*begun, "3", code=1)
    again = run(*begun, "4").stdout
    assert "warning" not in again and "added" not in again
    found = [RunFolder.open(f"t-{number}", Path("runs")).state.replicate for number in (1, 4)]
    assert [one.declared for one in found if one] == [4, 4]


def test_an_interrupted_replicate_goes_on_with_the_same_command(run: Any, trained: dict[str, Any]) -> None:
    trained["fails"] = {"s-2": "interrupted"}
    said = run(*SWEEP, code=130).stderr
    assert "replicate 2 of 3 did not end; the same command goes on with it, with --name s and --replicates 3" in said
    resumed = run("resume", "s-2", "--no-wandb")
    assert resumed.exit_code == 0 and "s-3 is missing, of 3 replicates" in run("report", "s").stdout
    run(*SWEEP)
    assert trained["calls"] == [("start", "s-1"), ("start", "s-2"), ("resume", "s-2"), ("start", "s-3")]


def test_a_group_that_an_older_version_began_goes_on_with_its_defaults(run: Any, trained: dict[str, Any]) -> None:
    run(*SWEEP[:-2], "2", "--no-wandb")
    for number in (1, 2):
        file = Path("runs") / f"s-{number}" / "state.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    said = run(*SWEEP).stdout
    assert trained["calls"] == [("start", "s-1"), ("start", "s-2"), ("start", "s-3")]
    assert "is no replicate" not in said
    new = RunFolder.open("s-3", Path("runs"))
    assert (new.state.format, new.document()["experiment"]["training"]["channels_last"]) == (3, False)
    run(*SWEEP)  # which compares all three with the file once more
    run(*SWEEP[:-2], "4", "--no-wandb")
    assert trained["calls"][3:] == [("start", "s-4")]


def test_a_replicate_with_a_diverged_training_has_ended_and_one_that_broke_has_not(
    run: Any, trained: dict[str, Any]
) -> None:
    trained["fails"] = {"s-1": "diverged", "s-2": "broke"}
    assert "replicate 2 of 3 did not end" in run(*SWEEP, code=1).stderr
    run(*SWEEP)
    assert [name for _, name in trained["calls"]] == ["s-1", "s-2", "s-2", "s-3"]
    trained["fails"] = {"t-1": "diverged"}
    ended = run("sweep", "search.yaml", "--name", "t", "--replicates", "2", "--no-wandb", code=1)
    assert "t-1: 1 failed" in ended.stderr and "mean over 2 replicates" in ended.stdout


def test_other_runs_and_other_searches_of_these_names_are_refused(run: Any, trained: dict[str, Any]) -> None:
    run(*SWEEP)
    other = run(*SWEEP, "--set", "search.trials=1", code=2).stderr
    assert "s-1: was begun with another sweep file, other settings or other seeds" in other
    file = RunFolder.open("s-2", Path("runs")).path / "sweep.yaml"
    written = file.read_text()
    file.write_text(written.replace("trials: 2", "trials: two"))
    assert f"{file}: search.trials: must be" in run(*SWEEP, code=2).stderr
    file.write_text(written)
    run("sweep", "search.yaml", "--name", "t-1", "--no-wandb")
    taken = run("sweep", "search.yaml", "--name", "t", "--replicates", "2", code=2).stderr
    assert "t-1 exists, and is no replicate of 't'; give another --name" in taken
    run("sweep", "search.yaml", "--name", "u", "--no-wandb")
    assert "u is a run, so no group" in run("sweep", "search.yaml", "--name", "u", "--replicates", "2", code=2).stderr
    grid = ("--set", "search={name: grid}", "--set", "experiment.training.lr=0.1")
    assert "--replicates: repeats a search" in run(*SWEEP, *grid, code=2).stderr
    assert len(trained["calls"]) == 5


def test_replicates_on_an_object_storage(run: Any, trained: dict[str, Any], memory: Address) -> None:
    run(*SWEEP, "--storage", str(memory))
    said = run(*SWEEP, "--storage", str(memory)).stdout
    assert len(trained["calls"]) == 3 and "mean over 3 replicates" in said
    assert "mean over 3 replicates" in run("report", f"{memory}/s").stdout
    assert "is a group of 3 replicates" in run("status", "s", "--storage", str(memory), code=2).stderr


BETTER = [[71.0, 72.0], [73.0, 70.0], [71.0, 70.0], [70.0, 74.0], [70.0, 69.0]]
WORSE = [[70.5, 70.0], [70.0, 71.0], [69.0, 70.0], [71.5, 68.0], [69.5, 69.0]]


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    a_group(root, "ours", BETTER)
    a_group(root, "kd", WORSE)
    a_search(root, [70.0, 71.0], name="single")
    return root


def test_a_group_and_its_comparison_are_reported_in_every_form(run: Any, groups: Path) -> None:
    assert "Replicates: ours-1, ours-2, ours-3, ours-4, ours-5." in run("report", "ours").stdout
    assert json.loads(run("report", "ours", "--json").stdout)["curve"]["searches"] == 5
    assert run("report", "ours", "--format", "csv", "--what", "search").stdout.startswith("n,best,low,high,metric")
    assert run("report", "ours", "--format", "md").stdout.startswith("# ours\n\n- Replicates")
    shown = run("report", "ours", "--against", "kd").stdout
    assert "best val_top1 of n trials" in shown and "Resolved: 'ours' is better at this budget." in shown
    told = json.loads(run("report", "ours", "--against", str(groups / "kd"), "--json").stdout)
    assert (told["decision"], told["trials"], len(told["points"]), len(told["curves"])) == ("resolved", 2, 2, 2)
    assert run("report", "ours", "--against", "kd", "--format", "md").stdout.startswith("# ours against kd\n")
    assert run("report", "ours", "--against", "kd", "--format", "csv").stdout.startswith("n,difference,low,high,paired")
    assert "No verdict" in run("report", "single", "--against", "kd-1").stdout


def test_what_a_group_has_not_is_refused_with_a_sentence(run: Any, groups: Path) -> None:
    for command in ("status", "export", "sync", "resume"):
        words = [command, "ours", *(["arm", "x.pth"] if command == "export" else [])]
        assert "is a group of 5 replicates of a search (ours-1, ours-2" in run(*words, code=2).stderr
    assert "is a group of 5 replicates" in run("confirm", "ours", "--seeds", "101", code=2).stderr
    for words, said in (
        (("ours", "--paper", "table1"), "--paper table1: 'ours' is a group of replicates of a search"),
        (("ours", "--format", "csv", "--what", "runs"), "--what runs: 'ours' is a group of replicates of a search"),
        (("ours", "--wandb"), "--wandb: 'ours' is a group of replicates of a search, which has only the curve"),
        (("ours", "--format", "latex"), "--format latex: has no table of searches; give md, csv or json"),
        (("ours", "--against", "kd", "--paper", "table1"), "--against: compares two searches, and has one table"),
        (("ours", "--against", "kd", "--wandb"), "--against: compares two searches, and has one table"),
        (("ours", "--against", "nothing"), "there is no run 'nothing'"),
        (("ours", "--against", "ours-1"), "--against: 'ours-1' has a run in common with 'ours'"),
    ):
        assert said in run("report", *words, code=2).stderr
