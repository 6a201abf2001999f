"""Which trainings of a run count after its file was edited by hand: in the status, the list of runs, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factories import RANDOM, a_row, a_search
from tskd_tune.cli.reading.edited_design import trained
from tskd_tune.cli.reading.inventory import inventory
from tskd_tune.cli.reading.run_status import run_status
from tskd_tune.cli.reading.status import lines
from tskd_tune.cli.training.finishing import ended, is_finished
from tskd_tune.records.entries.conclusion import Conclusion, conclude
from tskd_tune.records.entries.design import Design, write_design
from tskd_tune.records.protocols.protocol import keep
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import json_line
from tskd_tune.reports.findings.summary import summary
from tskd_tune.sweeps.declared.design import design_in, design_of
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.stored import sweep_of
from tskd_tune.sweeps.evidence.protocol import terms_of
from tskd_tune.sweeps.stages import left, missing


def a_run_of(sweep: Sweep, root: Path, name: str = "run") -> RunFolder:
    folder = RunFolder.create(root, name, "sweep", sweep.plain(), expected=len(sweep.points()) * len(sweep.all_seeds()))
    write_design(folder.store, design_in(folder, sweep))
    return folder


@pytest.fixture
def three_arms(tiny_document: dict[str, Any]) -> dict[str, Any]:
    arms = {"a": {"review": None}, "b": {"distiller": "kd", "review": None}, "c": {"distiller": "at", "review": None}}
    return {"experiment": {**tiny_document, "choice": arms}, "seeds": [1, 2], "search": {"name": "grid"}}


def without(document: dict[str, Any], arm: str) -> dict[str, Any]:
    arms = {label: of for label, of in document["experiment"]["choice"].items() if label != arm}
    return {**document, "experiment": {**document["experiment"], "choice": arms}}


def train(sweep: Sweep, folder: RunFolder, *arms: str, top1: float = 70.0) -> None:
    for config in missing(sweep, folder, sweep.all_seeds()):
        if config.arm in arms:
            facts = {"identity": config.identity, "experiment": config.experiment, "metrics": {"test_top1": top1}}
            folder.add_row(a_row(config.run, config.seeds[0], config.arm, **facts))


def a_finished_search(root: Path, tiny_document: dict[str, Any], trials: int = 3) -> RunFolder:
    experiment = {**tiny_document, "review": None, "training": {"epochs": 4, "lr": {"uniform": [0.01, 0.1]}}}
    folder = a_search(root, [50.0, 60.0, 55.0], {**RANDOM, "trials": 3}, experiment=experiment)
    write_design(folder.store, design_of(Sweep.read(folder.document())))
    raise_trials(folder, trials)
    return folder


def raise_trials(folder: RunFolder, trials: int) -> None:
    document = folder.document()
    folder.replace_document({**document, "search": {**document["search"], "trials": trials}})


def test_a_search_whose_trials_were_raised_lacks_these_trials(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    """It read as finished, and `resume` said that nothing was left to train."""
    folder = a_finished_search(tmp_path, tiny_document)
    assert is_finished(folder) and run_status(folder).finished and summary(folder).runs.all_finished
    raise_trials(folder, 5)
    status, found = run_status(folder), summary(folder)
    assert not is_finished(folder) and not status.finished
    assert (status.expected, status.counts()["waiting"], found.runs.of_expected) == (5, 2, "6 of 10 runs")
    said = f"search.trials was raised in {folder.path}/sweep.yaml: 2 more trials are not trained; train on with: "
    assert [*status.edited] == [*found.concluded] == [f"{said}tskd-tune resume {folder.path}."]
    assert status.edited[0] in lines(folder, status) and status.plain()["edited"] == status.edited
    (entry,), _ = inventory(tmp_path)
    assert (entry.trials, entry.state) == (5, "interrupted")


def test_trials_that_a_resume_would_not_train_are_not_missing(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    for folder in (
        a_finished_search(tmp_path / "lower", tiny_document, 2),
        a_finished_search(tmp_path / "target", {**tiny_document}, 5),
    ):
        if folder.path.parent.name == "target":
            conclude(folder.store, Conclusion("trial 00001 reached the target", {"at": 60.0, "metric": None}))
            folder.replace_document({**folder.document(), "stop": {"at": 60.0, "metric": None}})
        assert run_status(folder).finished and is_finished(folder) and summary(folder).runs.all_finished
    older = a_finished_search(tmp_path / "older", tiny_document, 5)
    older.store.write("design.json", json_line({"seeds": 2, "searched": True}).encode())
    assert run_status(older).finished and not run_status(older).edited


def test_the_rows_of_an_arm_that_was_taken_out_do_not_count(tmp_path: Path, three_arms: dict[str, Any]) -> None:
    """Rows of `b` stood for those of `c`, so a grid of which `c` was not trained read as finished."""
    whole, less = (Sweep.read(document).resolved() for document in (three_arms, without(three_arms, "b")))
    folder = a_run_of(whole, tmp_path)
    train(whole, folder, "a", "b")
    assert summary(folder).runs.of_expected == "4 of 6 runs" and ended(folder) == 4
    folder.replace_document(less.plain())
    folder.expect(4)
    write_design(folder.store, design_of(less))  # as a resume writes it
    status, found = run_status(folder), summary(folder)
    assert (found.runs.of_expected, found.runs.not_begun, ended(folder)) == ("2 of 4 runs", 2, 2)
    assert not status.finished and (status.counts()["done"], status.counts()["waiting"]) == (2, 2)
    said = "2 trainings do not count, because the sweep's file no longer names the arm or the seed: of 'b'."
    assert [*status.edited] == [*found.concluded] == [said] and {arm.arm for arm in found.arms} == {"a", "b"}
    train(less, folder, "c")
    assert run_status(folder).finished and summary(folder).runs.of_expected == "4 of 4 runs" and is_finished(folder)


def test_a_seed_that_was_taken_out_does_not_count_and_a_new_label_does(
    tmp_path: Path, three_arms: dict[str, Any]
) -> None:
    whole = Sweep.read(three_arms).resolved()
    folder = a_run_of(whole, tmp_path)
    train(whole, folder, "a", "b", "c")
    arms = three_arms["experiment"]["choice"]
    renamed = {"first": arms["a"], "b": arms["b"], "c": arms["c"]}
    less = Sweep.read({**three_arms, "experiment": {**three_arms["experiment"], "choice": renamed}, "seeds": [2]})
    write_design(folder.store, design_of(less.resolved()))
    assert ended(folder) == 3 and "of 'a', 'b', 'c'" in run_status(folder).edited[0]


def test_where_the_arms_are_not_known_all_rows_count(tmp_path: Path, three_arms: dict[str, Any]) -> None:
    whole = Sweep.read(three_arms).resolved()
    folder = a_run_of(whole, tmp_path)
    train(whole, folder, "a", "b", "c")
    write_design(folder.store, Design(epochs=4))
    folder.replace_document(Sweep.read(without(three_arms, "b")).resolved().plain())
    assert ended(folder) == 6 and not run_status(folder).edited
    (folder.path / "design.json").unlink()
    assert run_status(folder).finished and not run_status(folder).edited


def edited_to(folder: RunFolder, **experiment: Any) -> None:
    """Edit the file of a run by hand: other keys of its experiment."""
    document = folder.document()
    folder.replace_document({**document, "experiment": {**document["experiment"], **experiment}})


def read_by_a_resume(folder: RunFolder) -> Sweep:
    """Write into a run what a resume writes before it trains."""
    sweep = sweep_of(folder)
    with folder.alone():
        keep(folder, "resume", terms_of(sweep))
    folder.expect(len(sweep.points()) * len(sweep.all_seeds()))
    write_design(folder.store, design_in(folder, sweep))
    return sweep


@pytest.fixture
def finished(tmp_path: Path, three_arms: dict[str, Any]) -> RunFolder:
    sweep = Sweep.read(three_arms).resolved()
    folder = a_run_of(sweep, tmp_path)
    with folder.alone():
        keep(folder, "start", terms_of(sweep))
    train(sweep, folder, "a", "b", "c")
    return folder


def test_arms_and_seeds_that_were_written_into_the_file_are_missing(finished: RunFolder) -> None:
    """The run read as ended, although a resume would train them."""
    assert run_status(finished).finished and not run_status(finished).edited and not summary(finished).concluded
    arms = finished.document()["experiment"]["choice"]
    edited_to(finished, choice={"d": {"distiller": "sp", "review": None}, **arms})
    finished.replace_document({**finished.document(), "seeds": [1, 2, 3]})
    status = run_status(finished)
    said = (
        f"{finished.path}/sweep.yaml was edited after a process read it last: of the 12 trainings that the file names"
    )
    said += f" now, 6 have not been trained; train them with: tskd-tune resume {finished.path}."
    assert [*status.edited] == [said] and not status.finished and not is_finished(finished)
    assert (status.expected, status.counts()["waiting"], status.counts()["done"]) == (12, 6, 6)
    assert status.edited[0] in lines(finished, status)
    assert [entry.state for entry in inventory(finished.path.parent)[0]] == ["interrupted"]
    (told,) = summary(finished).concluded
    assert f"`tskd-tune status {finished.path}` says what is missing" in told
    sweep = read_by_a_resume(finished)
    assert trained(finished, sweep) == (6, 0)
    train(sweep, finished, "a", "b", "c", "d")
    assert run_status(finished).finished and not run_status(finished).edited and not summary(finished).concluded


def test_after_an_analysis_that_stopped_the_sweep_an_added_arm_lacks_its_seeds_alone(
    tmp_path: Path, three_arms: dict[str, Any]
) -> None:
    document = {**three_arms, "seeds": "1-8", "compare": {"interim": [5, 8]}}
    sweep = Sweep.read(document).resolved()
    folder = a_run_of(sweep, tmp_path)
    train(sweep.model_copy(update={"seeds": [1, 2, 3, 4, 5]}), folder, "a", "b", "c")
    folder.store.write("interim.jsonl", json_line({"at": 5, "stop": True, "sentence": "All verdicts."}).encode())
    folder.expect(15)
    assert is_finished(folder) and run_status(folder).finished and left(sweep, folder) == []
    arms = three_arms["experiment"]["choice"]
    edited_to(folder, choice={"d": {"distiller": "sp", "review": None}, **arms})
    assert not is_finished(folder) and run_status(folder).expected == 20
    assert "of the 20 trainings that the file names now, 5 have not been trained" in run_status(folder).edited[0]


def test_an_edit_that_trains_nothing_else_is_none(finished: RunFolder) -> None:
    document = finished.document()
    finished.replace_document({**document, "compare": {"margin": 0.5}, "max_failures": 1})
    assert run_status(finished).finished and not run_status(finished).edited
    edited_to(finished, distiller="none")  # which is its default
    assert run_status(finished).finished and not run_status(finished).edited


def test_a_mistake_in_an_edited_file_is_said(finished: RunFolder) -> None:
    edited_to(finished, distiller="nothing")
    (said,) = run_status(finished).damage
    assert "sweep.yaml" in said and "'nothing' is not among the distillers" in said


def test_rows_count_for_the_experiment_that_they_trained_and_not_for_its_label(finished: RunFolder) -> None:
    """Rows of an arm from before its experiment was changed were averaged with those from after the change."""
    arms = finished.document()["experiment"]["choice"]
    edited_to(finished, choice={**arms, "b": {"distiller": "sp", "review": None}})
    said = (
        "2 trainings do not count, because their arm was changed in the sweep's file after they were trained: of 'b'."
    )
    assert run_status(finished).edited[1] == said and run_status(finished).counts()["waiting"] == 2
    sweep = read_by_a_resume(finished)
    assert [*run_status(finished).edited] == [said] and said in summary(finished).concluded
    train(sweep, finished, "b", top1=50.0)
    found = summary(finished)
    assert {arm.arm: (arm.headline.n, arm.headline.mean) for arm in found.arms} == {
        "a": (2, 70.0),
        "b": (2, 50.0),
        "c": (2, 70.0),
        "b, before its change": (2, 70.0),
    }
    assert found.runs.of_expected == "6 of 6 runs" and run_status(finished).finished and said in found.concluded
    assert found.family is not None
    pairs = [(one.contrast.arm, one.contrast.baseline) for one in found.family.family.findings]
    assert sorted(pairs) == [("b", "a"), ("c", "a")]
    changed = [line for line in found.frozen if line.endswith("the experiment of 'b'.")]
    assert changed[0].startswith("Changed after there were results, when 6 trainings had ended (resume of")


def test_a_change_of_all_arms_leaves_no_old_row_in_a_mean(finished: RunFolder) -> None:
    edited_to(finished, training={**finished.document()["experiment"]["training"], "epochs": 3})
    sweep = read_by_a_resume(finished)
    assert ended(finished) == 0 and trained(finished, sweep) == (0, 0)
    train(sweep, finished, "a", "b", "c", top1=50.0)
    found = summary(finished)
    assert [arm.headline.mean for arm in found.arms if "change" not in arm.arm] == [50.0] * 3
    assert found.baselines[0].arm == "a" and found.runs.of_expected == "6 of 6 runs"
    assert any("the experiments of 'a', 'b', 'c'" in line for line in found.frozen)
