"""Components beside a YAML: found from everywhere, hiding nothing, and never mixed with those of another folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tskd_tune import documents, outside
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.teacher import teacher_key
from tskd_tune.outside import code_digest, load, short_name, whole_name
from tskd_tune.paths import Written
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep

LOSSES = """
from collections.abc import Mapping
from torch import Tensor
from tskd_tune.distillers import Distiller, Need
from tskd_tune.contracts import Batch, Classified, Probe
import {helper}

class Hint(Distiller):
    needs = frozenset({{Need.LOGITS}})
    word = {helper}.WORD

    def __init__(self, probe: Probe, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        return {{"hint": self.weight * (student.logits - teacher.logits).square().mean()}}
"""
NETS = """
from tskd_tune.networks.cifar_resnet import CifarResNet
from tskd_tune.networks import Network, build

def tiny(classes: int, channels: int = 3) -> Network:
    return build("resnet8", classes, channels)
"""


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def folder(name: str, word: str = "one") -> Path:
        made = tmp_path / name
        made.mkdir()
        (made / "own_losses.py").write_text(LOSSES.format(helper="own_words"))
        (made / "own_words.py").write_text(f"WORD = {word!r}\n")
        (made / "own_nets.py").write_text(NETS)
        return made

    return folder


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Any:
    modules, path = set(sys.modules), list(sys.path)
    monkeypatch.setattr(outside, "_FOLDERS", type(outside._FOLDERS)())
    yield
    sys.path[:] = path
    for name in {name for name in sys.modules if name.startswith("own_")} - modules:
        del sys.modules[name]


def test_registered_and_installed_names_stay_as_they_are(make: Any):
    folder = make("a")
    (folder / "json.py").write_text("class Hint: ...\n")
    for name in ("kd", "json:loads", "tskd_tune.distillers.kd:KD", "torch:Tensor"):
        assert whole_name(Written.of(name, folder)) == name


def test_what_is_not_installed_lies_beside_the_file_that_names_it(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = make("a")
    assert whole_name(Written.of("own_losses:Hint", folder)) == f"{folder}/own_losses:Hint"
    assert whole_name(Written.of("a/own_losses:Hint", tmp_path)) == f"{folder}/own_losses:Hint"
    assert whole_name(f"{folder}/own_losses:Hint") == f"{folder}/own_losses:Hint"
    monkeypatch.chdir(folder)
    assert whole_name("own_losses:Hint") == f"{folder}/own_losses:Hint"
    # Also where the folder is on Python's path by chance, as that of a script is: a worker's path is another one.
    monkeypatch.syspath_prepend(str(folder))
    assert whole_name(Written.of("own_losses:Hint", folder)) == f"{folder}/own_losses:Hint"


def test_the_folder_hides_nothing(make: Any):
    folder = make("a")
    before = list(sys.path)
    load(f"{folder}/own_losses:Hint")
    assert sys.path == [*before, str(folder)]


def test_two_folders_with_the_same_names_are_kept_apart(make: Any):
    one, two = make("a", "one"), make("b", "two")
    first = load(f"{one}/own_losses:Hint")
    assert (first.word, load(f"{two}/own_losses:Hint").word) == ("one", "two")
    assert load(f"{one}/own_losses:Hint") is first
    assert str(two) not in sys.path


def test_a_folder_that_python_already_searches_stays_on_its_path(make: Any, monkeypatch: pytest.MonkeyPatch):
    one, two = make("a", "one"), make("b", "two")
    monkeypatch.syspath_prepend(str(one))  # as the folder of a user's script is
    load(f"{one}/own_losses:Hint")
    assert load(f"{two}/own_losses:Hint").word == "two"
    assert sys.path[-2:] == [str(two), str(one)]
    load(f"{one}/own_losses:Hint")
    assert str(two) not in sys.path and sys.path.count(str(one)) == 1


def test_a_missing_module_says_where_it_was_looked_for(make: Any):
    folder = make("a")
    with pytest.raises(
        InputError,
        match=rf"'own_loses:Hint' cannot be imported: {folder} has no own_loses.py, and no package own_loses",
    ):
        load(f"{folder}/own_loses:Hint")
    with pytest.raises(
        InputError, match=r"own_losses:Hnt' cannot be imported: .*own_losses.py has no 'Hnt'; did you mean 'Hint'"
    ):
        load(f"{folder}/own_losses:Hnt")


def test_the_name_of_a_file_in_place_of_a_module_is_met_with_the_right_form(make: Any):
    with pytest.raises(InputError, match=r"'own_losses.py:Hint' cannot be imported: .* write own_losses:Hint"):
        load(f"{make('a')}/own_losses.py:Hint")


def test_a_module_that_an_installed_one_hides_is_refused(make: Any):
    folder = make("a")
    (folder / "json.py").write_text("class Hint: ...\n")
    with pytest.raises(InputError, match=rf"{folder}/json.py is hidden by .*; give the file another name"):
        load(f"{folder}/json:Hint")


def test_a_module_that_fails_says_how_and_in_which_line(make: Any):
    folder = make("a")
    (folder / "own_broken.py").write_text("x = 1\nraise RuntimeError('no licence')\n")
    (folder / "own_slip.py").write_text("x = 1\nclass Hint(:\n")
    with pytest.raises(InputError, match=r"cannot be imported \(RuntimeError: no licence, own_broken.py:2\)"):
        Experiment.read({**question(folder), "distiller": f"{folder}/own_broken:Hint"})
    with pytest.raises(InputError, match=r"cannot be imported \(SyntaxError: .*own_slip.py, line 2\)\)"):
        Experiment.read({**question(folder), "distiller": f"{folder}/own_slip:Hint"})


def question(folder: Path) -> dict[str, Any]:
    return {
        "task": {"name": "synthetic"},
        "teacher": {"name": Written.of("own_nets:tiny", folder), "training": {"epochs": 1}},
        "student": {"name": "resnet8"},
        "review": None,
        "training": {"epochs": 1},
        "distiller": Written.of("own_losses:Hint", folder),
    }


def test_a_sweep_keeps_whole_names_and_the_labels_that_were_written(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = make("a")
    written = {**question(folder), "distiller": {"choice": ["none", "own_losses:Hint"]}}
    document = {"experiment": written, "search": {"name": "grid"}}
    plain = {"experiment": {**written, "teacher": {"name": "own_nets:tiny"}}, "search": document["search"]}
    (folder / "sweep.yaml").write_text(documents.dump(plain))
    monkeypatch.chdir(tmp_path)
    sweep = Sweep.load("a/sweep.yaml")
    assert [point.label for point in sweep.space().grid()] == ["distiller=none", "distiller=own_losses:Hint"]
    assert check(sweep) == []
    again = Sweep.read(sweep.plain())
    (_, hint) = again.space().grid()
    assert again.experiment_at(hint).distiller.name == f"{folder}/own_losses:Hint"
    assert again.experiment_at(hint).plain()["teacher"]["name"] == f"{folder}/own_nets:tiny"


def test_a_file_that_is_extended_names_what_lies_beside_itself(make: Any, tmp_path: Path):
    folder = make("a")
    (folder / "base.yaml").write_text("distiller: {name: 'own_losses:Hint'}\n")
    (tmp_path / "mine.yaml").write_text(
        "extends: a/base.yaml\ntask: {name: synthetic}\nteacher: resnet8\nstudent: resnet8\nreview: null\n"
    )
    read = Experiment.read(documents.load(tmp_path / "mine.yaml").data)
    assert read.distiller.name == f"{folder}/own_losses:Hint"
    assert read.deviations()[0] == "distiller: own_losses:Hint (preset: none)"


def test_a_teacher_of_ones_own_is_known_by_its_code_and_not_by_its_folder(make: Any):
    one, two = make("a"), make("b")
    keys = [teacher_key(Experiment.read(question(folder))) for folder in (one, two)]
    assert keys[0] == keys[1]
    (two / "own_nets.py").write_text(NETS + "# another\n")
    outside.renew()
    assert teacher_key(Experiment.read(question(two))) != keys[0]
    assert code_digest("resnet8") is None
    assert code_digest("tskd_tune.networks:build") is None


def test_short_names_are_for_tables():
    assert short_name("/folder/own_losses:Hint") == "own_losses:Hint"
    assert short_name("resnet8") == "resnet8"
