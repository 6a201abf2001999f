"""The sweep of a run that an older version began is resumed with the defaults of then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tskd_tune.errors import InputError
from tskd_tune.experiment.identity import identity
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.records.upgrade import LATER
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.stored import sweep_of

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
