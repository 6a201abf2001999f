"""What may be added to a sweep that was run, and how its seeds are portioned where it looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tskd_tune.errors import InputError
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.sweep import interim
from tskd_tune.sweep.checking import check
from tskd_tune.sweep.extension import Addition, extended
from tskd_tune.sweep.interim import stages
from tskd_tune.sweep.schema import Sweep


def sweep(tiny: dict[str, Any], **over: Any) -> Sweep:
    return Sweep.read({"experiment": tiny, "seeds": [1, 2], "search": {"name": "grid"}, **over})


def test_seeds_and_controls_are_added_after_what_is_there(tiny_document: dict[str, Any]) -> None:
    found = extended(sweep(tiny_document), Addition([4, 3], ["zeros"]))
    assert found.seeds == [1, 2, 4, 3] and list(found.arms) == ["control_zeros"] and found.controls is None
    assert found.compare.added == [[4, 3]] and extended(found, Addition([9])).compare.added == [[4, 3], [9]]
    assert extended(found, Addition(controls=["detach"])).compare.added == [[4, 3]]
    alone = Sweep.read({"experiment": {**tiny_document, "seed": 7}, "search": {"name": "grid"}})
    assert extended(alone, Addition([8])).seeds == [7, 8]


@pytest.mark.parametrize(
    ("over", "seeds", "sentence"),
    [
        ({}, [2, 1], r"--seeds: 2, 1 are in the sweep already \(it has 1, 2\)"),
        ({}, [3, 3], "--seeds: must be different numbers, got 3, 3"),
        ({}, [], "nothing new was asked for"),
        ({"search": {"name": "random", "trials": 1}}, [3], "the search 'random' chose its points.*tskd-tune confirm"),
        ({"scheduler": {"name": "asha"}}, [3], "the scheduler 'asha' stopped trials"),
        ({"seeds": [1, 2, 3, 4, 5], "compare": {"looks": [5]}}, [6], "declared looks at 5 seeds before it ran"),
    ],
)
def test_what_would_not_stay_what_it_is_is_refused(
    over: dict[str, Any], seeds: list[int], sentence: str, tiny_document: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=sentence):
        extended(sweep(tiny_document, **over), Addition(seeds))


def choosing(tiny: dict[str, Any], *labels: str, **over: Any) -> Sweep:
    arms = {"plain": {"review": None}, "k2": {"review": {"k": 2}}, "k1": {"review": {"k": 1}}}
    return sweep({**tiny, "choice": {label: arms[label] for label in labels}}, **over)


def test_points_of_another_sweep_are_added_as_far_as_they_are_new(tiny_document: dict[str, Any]) -> None:
    ran = choosing(tiny_document, "plain", "k2")
    more = choosing(tiny_document, "k1", "plain", seeds=[9], resources={"cpu": 2})
    found = extended(ran, Addition(points=more))
    assert (found.seeds, list(found.arms), found.resources.cpu) == ([1, 2], ["k1"], 1)
    points = {point.label: found.experiment_at(point) for point in found.space().grid()}
    assert list(points) == ["plain", "k2", "k1"] and points["k1"].review.k == 1
    assert points["k1"] == more.experiment_at(more.space().grid()[0]).model_copy(
        update={"seed": 1, "training": points["k1"].training}
    )
    # What was added can be extended in its turn.
    assert extended(found, Addition([3], points=more)).arms == found.arms


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"choice": {"plain": {"review": None}}}, "nothing new was asked for"),
        ({"choice": {"plain": {"review": {"k": 1}}}}, "--points: 'plain' is another experiment than the arm"),
        ({"choice": {"bad": {"review": {"k": 99}}}}, "--points: .*first review"),
    ],
)
def test_points_that_cannot_be_added_are_refused(
    change: dict[str, Any], sentence: str, tiny_document: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=sentence):
        extended(choosing(tiny_document, "plain", "k2"), Addition(points=sweep({**tiny_document, **change})))


def test_only_a_grids_points_can_be_added(tiny_document: dict[str, Any]) -> None:
    drawn = choosing(tiny_document, "k1", search={"name": "random", "trials": 1})
    with pytest.raises(InputError, match="--points: a grid's points can be added, but the search there is 'random'"):
        extended(choosing(tiny_document, "plain"), Addition(points=drawn))


def test_a_run_that_another_process_trains_is_left_alone(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run", "sweep", {})
    taken = pytest.raises(InputError, match="another process trains this run")
    with FileLock(folder.path / "run.lock"), taken, folder.alone():
        pass
    with folder.alone():
        pass


def test_expectations_and_documents_are_replaced(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run", "sweep", {"seeds": [1]}, expected=1, confirms="search")
    folder.expect(3)
    folder.replace_document({"seeds": [1, 2]})
    again = RunFolder.open(folder.path)
    assert (again.state.expected, again.state.confirms, again.document()) == (3, "search", {"seeds": [1, 2]})


def test_seeds_are_trained_look_by_look(tiny_document: dict[str, Any]) -> None:
    assert stages(sweep(tiny_document)) == [[1, 2]]
    seeds = list(range(10, 19))
    assert stages(sweep(tiny_document, seeds=seeds, compare={"looks": [5, 9]})) == [seeds[:5], seeds[5:]]


def test_looks_that_cannot_be_taken_are_found_by_check(tiny_document: dict[str, Any]) -> None:
    looking = sweep(tiny_document, seeds=list(range(6)), compare={"looks": [5]})
    assert check(looking) == [
        "compare.looks: the sweep ends with its last look, at 5 seeds, but 6 are declared; add a look or drop seeds"
    ]
    judged = sweep(tiny_document, seeds=list(range(5)), compare={"looks": [5]}, scheduler={"name": "asha"})
    assert check(judged)[0].startswith("compare.looks: the scheduler 'asha' judges all seeds of a trial at once")
    assert check(sweep(tiny_document, seeds=list(range(6)), compare={"looks": [5, 6]})) == []


def test_a_look_is_judged_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create(tmp_path, "run", "sweep", {})
    look = {"at": 5, "number": 1, "declared": [5, 10], "stop": True, "sentence": "Look 1 of 2", "complete": 5}
    found = {"family": {"look": look, "findings": [{"sentence": "a is above b"}]}, "family_reason": ""}
    monkeypatch.setattr(interim, "summary", lambda run: found)
    first = interim.take(folder, 5)
    assert (first["stop"], first["verdicts"], first["sentence"]) == (True, ["a is above b"], "Look 1 of 2")
    found["family"] = None  # what was decided stands, whatever the rows say by now
    assert interim.take(folder, 5) == first == interim.taken(RunFolder.open(folder.path))[5]
    found["family_reason"] = "One arm: there is nothing to compare it with."
    assert not interim.take(folder, 10)["stop"]
    assert "nothing to compare it with. Going on." in interim.taken(folder)[10]["sentence"]
