"""``teacher: {seeds: [0, 1]}`` trains each arm that needs a teacher under each of several teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from factories import a_row
from tskd_tune import documents
from tskd_tune.checks import check_sweep
from tskd_tune.cli.preparing.planning import plan
from tskd_tune.cli.preparing.schemas import json_schema
from tskd_tune.cli.training import running
from tskd_tune.cli.training.progress import Progress
from tskd_tune.experiment.identity import identity
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.teacher_names import under
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.wandb.tracking import WandbTracker
from tskd_tune.sweeps.declared import checking
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.configs import Describe
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.estimating import estimate
from tskd_tune.sweeps.run import _teachers
from tskd_tune.sweeps.space.teacher_seeds import teachers_of, under_text
from tskd_tune.sweeps.stages import expected_rows, missing

GRID = {"name": "grid"}


def document(tiny: dict[str, Any], teacher: dict[str, Any] | None = None, **over: Any) -> dict[str, Any]:
    """Return a sweep of a baseline without a teacher and two arms with one."""
    arms = {"ce": {"review": None}, "kd": {"review": None, "distiller": "kd"}, "tskd": {}}
    experiment = documents.merge(
        {**tiny, "choice": arms}, {"teacher": {"seeds": [0, 1]} if teacher is None else teacher}
    )
    return documents.merge({"experiment": experiment, "seeds": [1, 2], "search": GRID}, over)


def test_each_arm_with_a_teacher_is_a_point_under_each_teacher(tiny_document: dict[str, Any]) -> None:
    sweep = Sweep.read(document(tiny_document))
    points = sweep.points()
    assert [(point.label, point.values.get("teacher.seed")) for point in points] == [
        ("ce", None),
        ("kd", 0),
        ("tskd", 0),
        ("kd", 1),
        ("tskd", 1),
    ]
    seeds = [sweep.experiment_at(point).teacher.training.seed for point in points[1:]]  # type: ignore[union-attr]
    assert seeds == [0, 0, 1, 1]
    assert expected_rows(sweep) == 10
    assert (teachers_of(points), under_text(points)) == ([0, 1], ", 2 teachers (seeds 0, 1)")
    assert [point.label for point in sweep.space().grid()] == ["ce", "kd", "tskd"]


def test_one_teacher_is_trained_for_each_seed_and_shared_by_the_arms(
    tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    sweep = Sweep.read(document(tiny_document))
    folder = RunFolder.create(tmp_path, "run", "sweep", sweep.plain())
    assert [one.teacher.training.seed for one in _teachers(sweep, folder).values() if one.teacher] == [0, 1]
    configs = [Describe(sweep, [1, 2])(point) for point in sweep.points()]
    keys = {config.point.get("teacher.seed"): config.teacher for config in configs}
    assert len({*keys.values()}) == 3
    assert keys[None] is None
    assert configs[1].teacher == configs[2].teacher
    assert len({config.identity for config in configs}) == 5


def test_a_resume_trains_only_the_teachers_of_what_is_missing(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    sweep = Sweep.read(document(tiny_document))
    folder = RunFolder.create(tmp_path, "run", "sweep", sweep.plain())

    def needed() -> list[object]:
        return [one.teacher.training.seed for one in _teachers(sweep, folder).values() if one.teacher]

    left = missing(sweep, folder, [1, 2])
    for config in sorted(left, key=lambda config: config.point.get("teacher.seed", 2)):
        assert needed() == {0: [0, 1], 1: [1], 2: []}[config.point.get("teacher.seed", 2)]
        facts = {"identity": config.identity, "experiment": config.experiment}
        folder.add_row(a_row(config.run, config.seeds[0], config.arm, **facts))
    assert needed() == [] and not missing(sweep, folder, [1, 2])


def test_the_first_teacher_and_the_baseline_keep_the_identity_of_a_sweep_with_one_teacher(
    tiny_document: dict[str, Any],
) -> None:
    several, one = Sweep.read(document(tiny_document)), Sweep.read(document(tiny_document, {}))
    found = [identity(several.experiment_at(point)) for point in several.points()]
    assert found[:3] == [identity(one.experiment_at(point)) for point in one.points()]
    assert [point.values for point in one.points()] == [{"arm": "ce"}, {"arm": "kd"}, {"arm": "tskd"}]


def test_controls_are_trained_under_the_same_teachers(tiny_document: dict[str, Any]) -> None:
    sweep = Sweep.read(document(tiny_document, controls=["at_review"])).resolved()
    assert check(sweep) == []
    found = [point.values.get("teacher.seed") for point in sweep.points() if point.label == "control_at_review"]
    assert found == [0, 1]
    assert Sweep.read(sweep.plain()).points() == sweep.points()


@pytest.mark.parametrize("given", ["0-1", [0, 1], ["0-1"]])
def test_seeds_are_written_as_those_of_the_sweep(tiny_document: dict[str, Any], given: object) -> None:
    assert teachers_of(Sweep.read(document(tiny_document, {"seeds": given})).points()) == [0, 1]


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({"seeds": [3]}, "two or more different numbers"),
        ({"seeds": [1, 1]}, "two or more different numbers"),
        ({"seeds": 3}, "must be a list"),
        ({"seeds": [0, -1]}, "must be a list"),
        ({"seeds": [0, 1], "training": {"seed": 4}}, "not both"),
    ],
)
def test_a_wrong_value_is_refused(tiny_document: dict[str, Any], teacher: dict[str, Any], said: str) -> None:
    problems = check(Sweep.read(document(tiny_document, teacher)))
    assert len(problems) == 1
    assert "teacher.seeds" in problems[0]
    assert said in problems[0]


def test_given_weights_are_refused(tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "check_weights", lambda experiment: None)
    problems = check(Sweep.read(document(tiny_document, {"seeds": [0, 1], "weights": "/a/teacher.pth"})))
    assert len(problems) == 1
    assert problems[0].startswith("teacher.seeds: 'kd' has a teacher with weights: /a/teacher.pth, and only a teacher")


@pytest.mark.parametrize(
    ("over", "who"),
    [
        ({"search": {"name": "optuna", "trials": 2}}, "the search 'optuna'"),
        ({"scheduler": {"name": "asha"}, "seeds": [1, 2]}, "the scheduler 'asha'"),
    ],
)
def test_a_search_is_refused(tiny_document: dict[str, Any], over: dict[str, Any], who: str) -> None:
    given = document(tiny_document, **over)
    given["experiment"].pop("choice")
    given["experiment"]["training"]["lr"] = {"choice": [0.05, 0.1]}
    problems = check(Sweep.read(given))
    assert len(problems) == 1
    assert problems[0].startswith(f"teacher.seeds: {who} compares trials")


def test_arms_with_other_teachers_are_refused(tiny_document: dict[str, Any]) -> None:
    given = document(tiny_document)
    given["experiment"]["choice"]["kd"]["teacher"] = {"seeds": [0, 2]}
    problems = check(Sweep.read(given))
    assert len(problems) == 1
    assert "'kd' has [0, 2]; 'tskd' has [0, 1]" in problems[0]


def test_check_and_estimate_count_teachers_and_runs(
    tiny_document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path))
    sweep = Sweep.read(document(tiny_document))
    found = check_sweep(sweep)
    assert (found.points, found.teachers, found.cost.runs, found.cost.teachers) == (5, [0, 1], 10, 2)
    assert list(found.arms) == ["ce", "kd", "tskd"]
    assert estimate.candidates(sweep)[1] == 5


def test_an_editor_knows_the_key_in_a_sweep_only() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    plain = {"task": "digits", "student": "resnet8"}
    right, wrong = ({"teacher": {"name": "resnet14", "seeds": seeds}} for seeds in ([0, 1], "x"))
    sweep = jsonschema.Draft202012Validator(json_schema("sweep"))
    assert sweep.is_valid({"experiment": {**plain, **right}, "search": {"name": "grid"}})
    assert not sweep.is_valid({"experiment": {**plain, **wrong}, "search": {"name": "grid"}})
    assert not jsonschema.Draft202012Validator(json_schema("experiment")).is_valid({**plain, **right})


def test_plan_says_the_teachers_and_the_runs(
    tiny_document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, teacher in (("several", None), ("one", {})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document(tiny_document, teacher)))
        plan(tmp_path / f"{name}.yaml", epochs=None, k=None, delta=None, settings=[], as_json=name == "one")
    drawn, plain = capsys.readouterr().out.split("{", 1)
    assert "2 teachers (seeds 0, 1): 5 points x 2 seeds = 10 runs" in drawn
    assert "teachers" not in plain


def test_the_teacher_of_a_training_is_named_where_arms_have_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = {"arm": "kd", "teacher.seed": 1}
    tracker = WandbTracker(tmp_path, sweep="s", run="1", seed=2, arm="kd", under=under(point), key="k")
    assert (tracker.identity["name"], tracker.identity["group"]) == ("kd, teacher 1, seed 2", "kd")
    with Progress(2, 8) as shown:
        for row in (a_row("1", 2, "kd", point=point), a_row("0", 2, "ce", point={"arm": "ce"})):
            running._hear(shown, Event("finished", row.arm, run=row.run, seed=row.seed, epoch=3, epochs=4, row=row))
    lines = capsys.readouterr().out
    assert "kd, teacher 1, seed 2: finished" in lines and "ce, seed 2: finished" in lines
