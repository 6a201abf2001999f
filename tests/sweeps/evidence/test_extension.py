"""What may be added to a sweep that was run, and how interim analyses portion its seeds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from tskd_tune.errors import InputError
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.evidence import interim
from tskd_tune.sweeps.evidence.extension import Addition, extended
from tskd_tune.sweeps.evidence.interim import analyses, analyze, portions


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
        ({}, [], "there is nothing to add"),
        ({"search": {"name": "random", "trials": 1}}, [3], "the search 'random' chose its points.*tskd-tune confirm"),
        ({"scheduler": {"name": "asha"}}, [3], "the scheduler 'asha' stopped trials"),
        (
            {"seeds": [1, 2, 3, 4, 5], "compare": {"interim": [5]}},
            [6],
            "declared interim analyses at 5 seeds",
        ),
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
        ({"choice": {"plain": {"review": None}}}, "there is nothing to add"),
        ({"choice": {"plain": {"review": {"k": 1}}}}, "--points: 'plain' is also the label of another"),
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


def test_seeds_are_trained_up_to_one_analysis_after_the_other(tiny_document: dict[str, Any]) -> None:
    assert portions(sweep(tiny_document)) == [[1, 2]]
    seeds = list(range(10, 19))
    assert portions(sweep(tiny_document, seeds=seeds, compare={"interim": [5, 9]})) == [seeds[:5], seeds[5:]]


def test_check_finds_analyses_that_cannot_be_made(tiny_document: dict[str, Any]) -> None:
    analyzed = sweep(tiny_document, seeds=list(range(6)), compare={"interim": [5]})
    assert check(analyzed) == [
        "compare.interim: the sweep ends with its last interim analysis, at 5 seeds, but 6 seeds are declared; add 6 to"
        " compare.interim, or drop seeds"
    ]
    judged = sweep(tiny_document, seeds=list(range(5)), compare={"interim": [5]}, scheduler={"name": "asha"})
    assert check(judged)[0].startswith("compare.interim: the scheduler 'asha' compares all seeds of a trial at once")
    assert check(sweep(tiny_document, seeds=list(range(6)), compare={"interim": [5, 6]})) == []


def test_an_analysis_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create(tmp_path, "run", "sweep", {})
    taken = SimpleNamespace(at=5, number=1, declared=(5, 10), stop=True, next_seeds=(), alpha_spent=0.01)
    taken.sentence = "Interim analysis 1 of 2"
    family = SimpleNamespace(interim=taken, family=SimpleNamespace(findings=[SimpleNamespace(sentence="a is above b")]))
    found = SimpleNamespace(family=family, family_reason="")
    monkeypatch.setattr(interim, "summary", lambda run: found)
    first = analyze(folder, 5)
    assert (first.stop, first.verdicts, first.sentence) == (True, ["a is above b"], "Interim analysis 1 of 2")
    found.family = None  # what was decided stands, whatever the rows say by now
    assert analyze(folder, 5) == first == analyses(RunFolder.open(folder.path))[5]
    found.family_reason = "One arm: there is nothing to compare it with."
    assert not analyze(folder, 10).stop
    assert "nothing to compare it with. Going on." in analyses(folder)[10].sentence


def test_the_file_and_the_key_of_earlier_versions_are_read(
    tiny_document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were called ``looks.jsonl`` and ``compare.looks``."""
    document = {"compare": {"looks": [5, 6], "margin": 0.5}, "seeds": [1, 2, 3, 4, 5, 6]}
    folder = RunFolder.create(tmp_path, "run", "sweep", document)
    assert folder.document()["compare"] == {"interim": [5, 6], "margin": 0.5}
    found = sweep(tiny_document, seeds=document["seeds"], compare=document["compare"])
    assert found.compare.interim == [5, 6] and "looks" not in found.plain()["compare"]
    with pytest.raises(InputError, match="looks: is the old name of interim"):
        sweep(tiny_document, compare={"looks": [5], "interim": [5]})
    line = {"at": 5, "number": 1, "declared": [5, 6], "stop": False, "next_seeds": [6], "alpha_spent": 0.01}
    old = folder.path / "looks.jsonl"
    old.write_text(json.dumps({**line, "sentence": "Interim analysis 1 of 2", "verdicts": [], "taken": "2026"}) + "\n")
    assert analyze(folder, 5).sentence == "Interim analysis 1 of 2", "what an earlier version decided stands"
    monkeypatch.setattr(interim, "summary", lambda run: SimpleNamespace(family=None, family_reason="One arm."))
    analyze(folder, 6)
    assert sorted(analyses(folder)) == [5, 6] and len((folder.path / "interim.jsonl").read_text().splitlines()) == 2
