"""The search spaces of the package are found by name, and asked about; a file of one's own stands above them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.records.entries.origin import Origin
from tskd_tune.shipped import file_of, spaces
from tskd_tune.sweeps.declared.schema import Sweep

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_files_of_the_folder_are_known():
    assert spaces().keys() == {path.stem for path in (ROOT / "search_spaces").glob("*.yaml")}


@pytest.mark.parametrize("name", spaces())
def test_every_one_asks_a_question_in_a_sentence(name: str):
    asked = Origin.of(spaces()[name]).sentence
    assert asked[-1] in "?."
    assert "\n" not in asked
    assert len(asked.split()) > 5


@pytest.mark.parametrize("given", ["digits", "digits.yaml"])
def test_a_name_is_enough(given: str):
    assert file_of(Path(given)) == spaces()["digits"]
    assert Sweep.load(given).all_seeds() == [1, 2, 3]


def test_a_file_in_the_folder_stands_above_the_name(tmp_path: Path):
    (tmp_path / "digits.yaml").write_text("mine: 1\n")
    (tmp_path / "siblings").write_text("mine: 2\n")
    assert documents.load(Path("digits.yaml")).data == {"mine": 1}
    assert documents.load(Path("siblings")).data == {"mine": 2}
    assert file_of(Path("digits")) == spaces()["digits"]


def test_a_folder_of_the_name_is_no_file(tmp_path: Path):
    (tmp_path / "digits").mkdir()
    assert file_of(Path("digits")) == spaces()["digits"]


def test_a_folder_is_said_to_be_one(tmp_path: Path):
    (tmp_path / "mine.yaml").mkdir()
    with pytest.raises(InputError, match=r"^mine\.yaml: is a folder; give the path of a YAML file$"):
        documents.load(Path("mine.yaml"))


@pytest.mark.parametrize("given", ["digts", "digts.yaml"])
def test_a_slip_is_met_with_the_nearest_name(given: str):
    with pytest.raises(InputError, match=r"neither a file in this folder nor a search space.*did you mean 'digits'"):
        documents.load(Path(given))


def test_the_path_of_a_clone_names_what_to_write_instead():
    with pytest.raises(InputError, match="there is no such file; `digits` alone"):
        documents.load(Path("search_spaces/digits.yaml"))


@pytest.mark.parametrize("name", spaces())
def test_a_copy_in_another_folder_finds_what_it_extends(name: str, tmp_path: Path):
    shutil.copy(spaces()[name], tmp_path / "mine.yaml")
    assert documents.load(tmp_path / "mine.yaml").data == documents.load(spaces()[name]).data
