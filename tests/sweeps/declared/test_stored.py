"""The sweep of a run that an older version began is resumed with the defaults of then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tskd_tune.errors import InputError
from tskd_tune.experiment.identity import identity
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.entries.upgrade import LATER
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.stored import sweep_of
from tskd_tune.sweeps.evidence.extension import Addition, extended_run

TRAINING: list[dict[str, Any] | None] = [None, {}, {"epochs": 6}, {"epochs": 6, "channels_last": True}]


def a_sweep(tiny_document: dict[str, Any], training: dict[str, Any] | None) -> dict[str, Any]:
    """Return a grid of two arms, one of which says how images lie in memory."""
    shared = {name: value for name, value in tiny_document.items() if name not in ("review", "seed", "training")}
    own = {} if training is None else {"training": training}
    arms = {"plain": {"review": None}, "says": {"review": None, "training": {"channels_last": False, "lr": 0.02}}}
    return {"experiment": {**shared, **own, "choice": arms}, "seeds": [1, 2], "search": {"name": "grid"}}


def began(tmp_path: Path, document: dict[str, Any], form: int) -> RunFolder:
    """Return the folder of a run that a version with this format began."""
    folder = RunFolder.create(tmp_path, f"format{form}", "sweep", document)
    (folder.path / "state.json").write_text(json.dumps(folder.state.plain() | {"format": form}))
    return RunFolder.open(folder.path)


def trained(sweep: Sweep) -> dict[str, tuple[bool, str]]:
    """Return, for each arm, how images lie in memory, and the digest that names its runs."""
    points = [(point.label, sweep.experiment_at(point)) for point in sweep.points()]
    return {label: (experiment.training.channels_last, identity(experiment)) for label, experiment in points}


@pytest.mark.parametrize("training", TRAINING)
@pytest.mark.parametrize("form", [1, 2, 3])
def test_a_run_is_resumed_with_the_defaults_it_began_with(
    tmp_path: Path, tiny_document: dict[str, Any], form: int, training: dict[str, Any] | None
) -> None:
    """Under another default the digests would be others, and finished runs would be trained once more."""
    document = a_sweep(tiny_document, training)
    found = trained(sweep_of(began(tmp_path, document, form)))
    given = (training or {}).get("channels_last", form == 3)
    assert {label: last for label, (last, _) in found.items()} == {"plain": given, "says": False}
    options = {"channels_last": given, **(LATER["training"] if form == 1 else {}), **(training or {})}
    spelled_out = {**document, "experiment": {**document["experiment"], "training": options}}
    assert found == trained(Sweep.read(spelled_out))


def test_an_added_arm_of_an_old_run_keeps_its_defaults(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    document = a_sweep(tiny_document, None)
    whole = {**{name: value for name, value in tiny_document.items() if name != "seed"}, "distiller": "kd"}
    document["arms"] = {"kd": {**whole, "review": None}}
    assert trained(sweep_of(began(tmp_path, document, 2)))["kd"][0] is False
    assert trained(sweep_of(began(tmp_path, document, 3)))["kd"][0] is True


@pytest.mark.parametrize("experiment", ["digits", ["a"], 3, {"training": [1]}, {"training": "x"}])
def test_a_damaged_file_of_an_old_run_stays_damaged(tmp_path: Path, experiment: Any) -> None:
    """The error names what is wrong in the file, and nothing that was filled in."""
    folder = began(tmp_path, {"experiment": experiment, "seeds": [1], "search": {"name": "grid"}}, 2)
    with pytest.raises(InputError) as error:
        trained(sweep_of(folder))
    assert "channels_last" not in str(error.value)


def test_the_version_that_began_a_run_reads_it_after_a_resume(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    """A later version writes no record into the folder whose format is newer than that of the folder."""
    folder = began(tmp_path, a_sweep(tiny_document, None), 2)
    folder.begin(Begun(run="00000", arm="plain", seeds=[1]))
    folder.expect(5)
    written = [*folder.path.glob("*.json"), *folder.path.glob("trials/*/*.json")]
    assert len(written) == 2
    assert {json.loads(file.read_text())["format"] for file in written} == {2}


NULLS: list[dict[str, Any]] = [
    {"training": None},
    {"training": {"choice": {"usual": None, "fast": {"lr": 0.2}}}},
    {"choice": {"usual": {"training": None}, "fast": {"training": {"lr": 0.2}}}},
    {"training": None, "choice": {"usual": {"choice": {"a": {"training": None}, "b": {}}}, "fast": {}}},
]


@pytest.mark.parametrize("given", NULLS)
def test_a_group_that_is_null_has_the_defaults_of_then(
    tmp_path: Path, tiny_document: dict[str, Any], given: dict[str, Any]
) -> None:
    """A null replaces what is beside it, so it must not replace the options that the run began with."""
    shared = {name: tiny_document[name] for name in ("task", "student")} | {"review": None}
    document = {"experiment": {**shared, **given}, "seeds": [1], "search": {"name": "grid"}}
    found = trained(sweep_of(began(tmp_path, document, 2)))
    assert {last for last, _ in found.values()} == {False}
    today = Sweep.read(document)
    points = [(point.label, today.experiment_at(point)) for point in today.points()]
    then = {
        label: one.model_copy(update={"training": one.training.model_copy(update={"channels_last": False})})
        for label, one in points
    }
    assert found == {label: (False, identity(one)) for label, one in then.items()}


def test_a_null_that_takes_options_away_is_refused(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    arms = {"usual": {"training": None}, "own": {}}
    experiment = {**tiny_document, "review": None, "choice": arms}
    document = {"experiment": experiment, "seeds": [1], "search": {"name": "grid"}}
    with pytest.raises(InputError, match="format2/sweep.yaml: training: is null in 'usual', and defaults of training"):
        sweep_of(began(tmp_path, document, 2))
    assert trained(sweep_of(began(tmp_path, document, 3)))["usual"][0] is True


@pytest.mark.parametrize("form", [2, 3])
def test_points_of_a_file_are_added_with_the_defaults_of_the_run(
    tmp_path: Path, tiny_document: dict[str, Any], form: int
) -> None:
    """The points that the run has are found again, and the new ones are trained as the rest of the run."""
    document = a_sweep(tiny_document, {"epochs": 6})
    more = a_sweep(tiny_document, {"epochs": 6})
    more["experiment"]["choice"] |= {"new": {"review": None, "training": {"lr": 0.003}}}
    folder = began(tmp_path, document, form)
    found = extended_run(folder, Addition(points=Sweep.read(more)))
    assert list(found.arms) == ["new"]
    folder.replace_document(found.plain())
    after = trained(sweep_of(RunFolder.open(folder.path)))
    assert after["new"][0] is after["plain"][0] is (form == 3)
