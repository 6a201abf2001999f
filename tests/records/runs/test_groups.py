"""The replicates of a search are found by the name of their group, in a folder and on an object storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from factories import a_group, a_search
from tskd_tune.errors import InputError
from tskd_tune.paths import Address
from tskd_tune.records.entries.replicate import Replicate
from tskd_tune.records.runs.finding import group_at
from tskd_tune.records.runs.groups import replicates_of
from tskd_tune.records.runs.run_folder import RunFolder


def test_replicates_are_found_by_number_among_other_runs(tmp_path: Path) -> None:
    a_group(tmp_path, "s", [[70.0]] * 11)
    a_search(tmp_path, [70.0], name="s-12")  # no replicate, in spite of its name
    a_search(tmp_path, [70.0], name="s-2-1", replicate=Replicate(group="s-2", number=1))
    assert [place.name for place in replicates_of(tmp_path / "s")] == [f"s-{number}" for number in range(1, 12)]
    assert group_at("s", tmp_path) == group_at(str(tmp_path / "s"), Path("runs")) == replicates_of(tmp_path / "s")
    assert group_at("s-12", tmp_path) == group_at("t", tmp_path) == group_at("s-2", tmp_path) == []


def test_a_group_is_no_run_and_the_message_names_its_runs(tmp_path: Path) -> None:
    a_group(tmp_path, "s", [[70.0], [71.0]])
    with pytest.raises(InputError, match=r"no run '.*/s': it is a group of 2 replicates of a search \(s-1, s-2\);"):
        RunFolder.open("s", tmp_path)
    assert RunFolder.open("s-2", tmp_path).state.replicate == Replicate(group="s", number=2)


def test_replicates_on_an_object_storage(memory: Address) -> None:
    a_group(memory, "s", [[70.0], [71.0]])
    assert [str(place) for place in group_at("s", memory)] == [f"{memory}/s-1", f"{memory}/s-2"]
    assert group_at("s-1", memory) == []
    with pytest.raises(InputError, match=rf"no run '{memory}/s': it is a group of 2 replicates .*report {memory}/s"):
        RunFolder.open("s", memory)


def test_a_damaged_replicate_is_reported(tmp_path: Path) -> None:
    a_group(tmp_path, "s", [[70.0], [71.0]])
    (tmp_path / "s-2" / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"s-2/state\.json: is damaged"):
        group_at("s", tmp_path)
