"""The ledger of a search's confirmations, also on an object storage and while the search is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tskd_tune.paths import Address
from tskd_tune.records.protocols.confirmations import enter, ledger, search_of, searched
from tskd_tune.records.runs.run_folder import RunFolder


def names(search: RunFolder) -> list[str]:
    return [one.run for one in ledger(search).confirmations]


def test_a_ledger_on_an_object_storage_is_read_from_every_machine(
    memory: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "here"))
    search = RunFolder.create(memory, "search", "sweep", {"seeds": [1]})
    first = RunFolder.create(memory, "first", "sweep", {}, confirms="search")
    enter(search, first, [101])
    with search.alone():  # the search is trained at this time
        enter(search, RunFolder.create(memory, "second", "sweep", {}, confirms="search"), [102])
    assert sorted(names(search)) == ["first", "second"]
    known = searched(search, [1])
    assert (known.name, known.place) == ("search", f"{memory}/search")
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "there"))
    found = search_of(RunFolder.open(memory / "first"), known)
    assert found is not None and sorted(names(found)) == ["first", "second"]
    enter(found, first, [101], discarded=True)
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "elsewhere"))
    assert names(RunFolder.open(memory / "search")) == ["second"]


def test_a_run_without_a_search_has_none(tmp_path: Path) -> None:
    alone = RunFolder.create(tmp_path, "alone", "sweep", {})
    assert search_of(alone, None) is None and names(alone) == []
    old = RunFolder.create(tmp_path, "old", "sweep", {}, confirms="alone")
    found = search_of(old, None)
    assert found is not None and found.name == "alone"
