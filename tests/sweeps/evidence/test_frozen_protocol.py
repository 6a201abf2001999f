"""What a sweep freezes at its start, keeps when it goes on, and refuses; nothing is trained here."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from factories import a_row
from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.records.entries.events import Event
from tskd_tune.records.protocols.confirmations import ledger
from tskd_tune.records.protocols.protocol import Kept, kept
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.sweeps import run as running
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.evidence.extension import Addition
from tskd_tune.sweeps.evidence.protocol import terms_of
from tskd_tune.sweeps.run import extend, resume, start

SEEDS = [1, 2, 3, 4, 5]


def silent(event: Event) -> None:
    pass


@pytest.fixture
def grid(tiny_document: dict[str, Any]) -> dict[str, Any]:
    experiment = {**tiny_document, "choice": {"plain": {"review": None}, "tskd": {}}}
    return {"experiment": experiment, "seeds": SEEDS, "search": {"name": "grid"}}


def write_all(sweep: Sweep, folder: RunFolder) -> None:
    """Write a row for every training of a sweep."""
    for place, point in enumerate(sweep.space().grid()):
        experiment = sweep.experiment_at(point).plain()
        for seed in sweep.all_seeds():
            metrics = {"test_top1": 70.0 + place + 0.1 * (seed * 7 % 5) * (1 + place), "test_loss": 1.0}
            folder.add_row(a_row(f"{place}-{seed}", seed, point.label, metrics=metrics, experiment=experiment))


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Replace the training: while the list is not empty, a run gets a row for each training at once."""
    wanted = [True]

    def trained(sweep: Sweep, folder: RunFolder, listener: Any, **facts: Any) -> bool:
        if wanted:
            write_all(sweep, folder)
        return True

    for name, stand_in in {
        "named_cluster": lambda: None,
        "session": lambda place: nullcontext(),
        "bases": lambda: [],
        "end_leftovers": lambda *given: None,
        "needed": lambda sweep: {},
        "refuse_unfit": lambda *given: None,
        "look_at_nodes": lambda *given: None,
        "_trained": trained,
        "_reported": lambda folder, listener, *, whole: folder,
    }.items():
        monkeypatch.setattr(running, name, stand_in)
    return wanted


def of(folder: RunFolder) -> Kept:
    found = kept(RunFolder.open(folder.path))
    assert found is not None and not found.damage
    return found


def edit(folder: RunFolder, **over: Any) -> None:
    folder.replace_document(documents.merge(folder.document(), over))


def test_the_protocol_of_a_grid_and_of_a_search(grid: dict[str, Any], tiny_document: dict[str, Any]) -> None:
    controls = Sweep.read({**grid, "controls": ["zeros"], "compare": {"margin": 0.5}}).resolved()
    found = terms_of(controls)
    assert found.family == [["tskd", "plain"], ["tskd", "control_zeros"]]
    assert (found.metric, found.margin, found.sequential, found.seeds) == ("test_top1", 0.5, "split", SEEDS)
    assert found.controls == {"control_zeros": "tskd"} and found.mode is None
    grid["experiment"]["evaluation"] = {"test": "never"}
    assert terms_of(Sweep.read(grid).resolved()).metric == "val_top1"
    drawn = {"experiment": tiny_document, "search": {"name": "random", "trials": 1, "metric": "val_loss"}, "seeds": [3]}
    drawn["experiment"] = {**tiny_document, "training": {"epochs": 6, "lr": {"uniform": [0.01, 0.1]}}}
    searched = terms_of(Sweep.read(drawn).resolved())
    assert (searched.family, searched.metric, searched.mode, searched.seeds) == ([], "val_loss", "min", [3])


@pytest.mark.parametrize("began", [True, False])
def test_a_run_goes_on_with_the_tracking_with_which_it_began(
    began: bool, trains: list[bool], grid: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = start(Sweep.read(grid), "run", tmp_path, silent, track=began)
    told: list[bool] = []

    def trained(sweep: Sweep, folder: RunFolder, listener: Any, *, track: bool, **facts: Any) -> bool:
        told.append(track)
        return True

    monkeypatch.setattr(running, "_trained", trained)
    resume(RunFolder.open(folder.path), silent)
    resume(RunFolder.open(folder.path), silent, track=not began)
    extend(RunFolder.open(folder.path), Addition([9]), silent)
    assert told == [began, not began, began]


def test_a_run_is_frozen_at_its_start_and_an_edit_is_seen_when_it_goes_on(
    trains: list[bool], grid: dict[str, Any], tmp_path: Path
) -> None:
    folder = start(Sweep.read(grid), "run", tmp_path, silent, track=False)
    assert [(line.on, line.results) for line in of(folder).lines] == [("start", 0)]
    assert summary(RunFolder.open(folder.path)).frozen == ()
    resume(RunFolder.open(folder.path), silent, track=False)
    assert len(of(folder).lines) == 1, "nothing differs"
    edit(folder, compare={"margin": 2.0})
    resume(RunFolder.open(folder.path), silent, track=False)
    assert [(line.on, line.results, line.terms.margin) for line in of(folder).lines] == [
        ("start", 0, None),
        ("resume", 10, 2.0),
    ]
    (said,) = summary(RunFolder.open(folder.path)).frozen
    assert said.startswith("Changed after there were results, when 10 trainings had ended (resume of ")
    assert said.endswith("compare.margin from null to 2.0.")


def test_an_edit_before_the_first_result_is_the_protocol(
    trains: list[bool], grid: dict[str, Any], tmp_path: Path
) -> None:
    trains.clear()
    folder = start(Sweep.read(grid), "run", tmp_path, silent, track=False)
    edit(folder, compare={"margin": 2.0})
    trains.append(True)
    resume(RunFolder.open(folder.path), silent, track=False)
    found = summary(RunFolder.open(folder.path))
    assert found.frozen[0].startswith("Changed before there were results (resume of ")
    assert found.family is not None and found.family.family.exploratory == ""


def test_an_extension_by_seeds_is_no_edit_and_by_controls_is_marked(
    trains: list[bool], grid: dict[str, Any], tmp_path: Path
) -> None:
    folder = start(Sweep.read(grid), "run", tmp_path, silent, track=False)
    extend(RunFolder.open(folder.path), Addition([6]), silent, track=False)
    found = summary(RunFolder.open(folder.path))
    assert found.frozen == () and found.family is not None and found.family.family.exploratory == ""
    assert [line.terms.added for line in of(folder).lines] == [[], [[6]]]
    extend(RunFolder.open(folder.path), Addition(controls=["zeros"]), silent, track=False)
    found = summary(RunFolder.open(folder.path))
    assert found.family is not None
    marked = [(one.contrast.baseline, one.exploratory) for one in found.family.family.findings]
    assert marked == [("plain", False), ("control_zeros", True)]
    assert found.frozen[0].startswith("Added after there were results, when 12 trainings had ended (extension of ")


def test_an_edit_is_kept_before_an_extension_writes_over_it(
    trains: list[bool], grid: dict[str, Any], tmp_path: Path
) -> None:
    folder = start(Sweep.read(grid), "run", tmp_path, silent, track=False)
    edit(folder, compare={"rule": "margin"})
    extend(RunFolder.open(folder.path), Addition([6]), silent, track=False)
    assert [(line.on, line.terms.rule) for line in of(folder).lines] == [
        ("start", "difference"),
        ("resume", "margin"),
        ("extension", "margin"),
    ]
    (said,) = summary(RunFolder.open(folder.path)).frozen
    assert said.endswith("compare.rule from 'difference' to 'margin'.")


def test_an_extension_that_was_cut_off_is_sent_to_a_resume(
    trains: list[bool], grid: dict[str, Any], tmp_path: Path
) -> None:
    folder = start(Sweep.read(grid), "run", tmp_path, silent, track=False)
    folder.expect(10)
    with pytest.raises(InputError) as ended:
        extend(RunFolder.open(folder.path), Addition([5]), silent, track=False)
    assert "resume" not in str(ended.value), "all trainings have ended, so another seed is what the user wants"
    trains.clear()
    extend(RunFolder.open(folder.path), Addition([6]), silent, track=False)
    left = f"{folder.path}: 2 of 12 trainings have not ended, .* resume {folder.path}"
    with pytest.raises(InputError, match=rf"--seeds: 6 is in the sweep already .*\n{left}"):
        extend(RunFolder.open(folder.path), Addition([6]), silent, track=False)
    extend(RunFolder.open(folder.path), Addition(controls=["zeros"]), silent, track=False)
    with pytest.raises(InputError, match="there is nothing to add; .*\n.*have not ended"):
        extend(RunFolder.open(folder.path), Addition(controls=["zeros"]), silent, track=False)


@pytest.fixture
def search(trains: list[bool], tiny_document: dict[str, Any], tmp_path: Path) -> RunFolder:
    trains.clear()
    experiment = {**tiny_document, "training": {"epochs": 6, "lr": {"uniform": [0.01, 0.1]}}}
    drawn = {"experiment": experiment, "search": {"name": "random", "trials": 1}, "seeds": [1, 2]}
    return start(Sweep.read(drawn), "search", tmp_path, silent, track=False)


def test_confirmations_enter_the_ledger_of_their_search(
    search: RunFolder, grid: dict[str, Any], tmp_path: Path
) -> None:
    fresh = [101, 102]
    for name in ("first", "second"):
        given = Sweep.read({**grid, "seeds": fresh})
        folder = start(given, name, tmp_path, silent, track=False, confirms=search)
    assert [(one.run, one.seeds) for one in ledger(search).confirmations] == [("first", fresh), ("second", fresh)]
    assert of(folder).lines[0].confirms is not None and of(folder).lines[0].confirms.seeds == [1, 2]
    (said,) = summary(RunFolder.open(folder.path)).frozen
    assert said.startswith("This is one of 2 confirmations of the search 'search'; the other one is 'first' (seeds 101")


def test_a_confirmation_that_was_killed_before_it_was_frozen_is_frozen_by_its_resume(
    search: RunFolder, grid: dict[str, Any], tmp_path: Path
) -> None:
    given = Sweep.read({**grid, "seeds": [101, 102]}).resolved()
    folder = RunFolder.create(tmp_path, "first", "sweep", given.plain(), expected=4, confirms="search")
    assert ledger(search).confirmations == ()
    resume(RunFolder.open(folder.path), silent, track=False)
    assert [(one.run, one.seeds) for one in ledger(search).confirmations] == [("first", [101, 102])]
    (line,) = of(folder).lines
    assert (line.on, line.results) == ("start", 0)
    assert line.confirms is not None and (line.confirms.name, line.confirms.seeds) == ("search", [1, 2])


def test_a_confirmation_is_not_extended_by_the_seeds_of_its_search(
    search: RunFolder, grid: dict[str, Any], tmp_path: Path
) -> None:
    folder = start(Sweep.read({**grid, "seeds": [101]}), "first", tmp_path, silent, track=False, confirms=search)
    refused = (
        r"--seeds: the search 'search' chose its winners with seed 2, so it is not fresh in the run that confirms it;"
        " the search used 1, 2; give other seeds"
    )
    with pytest.raises(InputError, match=refused):
        extend(RunFolder.open(folder.path), Addition([102, 2]), silent, track=False)
    assert RunFolder.open(folder.path).document()["seeds"] == [101]
    extend(RunFolder.open(folder.path), Addition([102]), silent, track=False)
    old = RunFolder.create(tmp_path, "old", "sweep", folder.document(), confirms="search")
    old.add_row(a_row())
    with pytest.raises(InputError, match="chose its winners with seeds 1, 2, so they are not fresh"):
        extend(old, Addition([1, 2]), silent, track=False)


def test_a_confirmation_that_was_refused_before_training_leaves_the_ledger(
    search: RunFolder, grid: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: Any, **facts: Any) -> bool:
        raise InputError("the teacher is missing")

    monkeypatch.setattr(running, "_trained", refused)
    with pytest.raises(InputError, match="the teacher is missing"):
        start(Sweep.read({**grid, "seeds": [101]}), "first", tmp_path, silent, track=False, confirms=search)
    assert ledger(search).confirmations == () and not (tmp_path / "first").exists()


def test_a_search_whose_ledger_cannot_be_written_is_not_confirmed(
    search: RunFolder, grid: dict[str, Any], tmp_path: Path
) -> None:
    (search.path / "confirmations").write_text("a file in the place of the folder")
    with pytest.raises(InputError, match="the ledger of the confirmations of this search cannot be written"):
        start(Sweep.read({**grid, "seeds": [101]}), "first", tmp_path, silent, track=False, confirms=search)
    assert not (tmp_path / "first").exists()
