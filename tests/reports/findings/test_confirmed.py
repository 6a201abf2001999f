"""A confirmation whose search is on a storage that is out of reach."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import AWAY, Faulty

from tskd_tune.paths import Address
from tskd_tune.records.protocols.confirmations import enter, searched
from tskd_tune.records.protocols.protocol import Kept, Line, Terms
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.confirmed import confirmed
from tskd_tune.reports.findings.frozen import NOT_FROZEN
from tskd_tune.storage import objects


def test_a_search_out_of_reach_is_not_said_to_be_gone(
    memory: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Faulty()
    monkeypatch.setattr(objects, "_opened", lambda address: (system, address.url.partition("://")[2]))
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "cache"))
    search = RunFolder.create(memory, "search", "sweep", {"seeds": [1]})
    run = RunFolder.create(tmp_path, "confirmed", "sweep", {}, confirms="search")
    enter(search, RunFolder.create(tmp_path, "other", "sweep", {}, confirms="search"), [101])
    enter(search, run, [102])
    kept = Kept([Line(time="", on="start", results=0, terms=Terms(), confirms=searched(search, [1]))])
    (said,) = confirmed(run, kept, [102], NOT_FROZEN).said
    assert said.startswith("This is one of 2 confirmations of the search 'search'; the other one is 'other'")
    system.fails = lambda call, path: AWAY
    found = confirmed(run, kept, [1], NOT_FROZEN)
    (said,) = found.said
    assert said.startswith(f"The search 'search' cannot be read ({memory}/search/state.json: could not be read: ")
    assert said.endswith("): other confirmations of it are not known.")
    assert "chose its winners with seed 1" in found.exploratory, "this the confirmation knows by itself"
