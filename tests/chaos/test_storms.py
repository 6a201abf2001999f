"""A grid and a search through storms of kills: nothing is lost, nothing is trained twice, and the bits are the same.

``PYTHONPATH=tests python -m chaos`` goes through the storms of ten seeds; see ``docs/reliability.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from chaos.machines import Machines
from chaos.storm import EPOCHS, GRID, RUNS, SEARCH, SEARCHED, Plan, Sweep, ended, histories, rows
from chaos.verdict import differences
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    found = Machines()
    yield found
    found.close()


def test_a_storm_changes_no_row_and_no_student(machines: Machines, tmp_path: Path) -> None:
    calm = Sweep(tmp_path, "calm", machines, GRID).calm()
    machines.mend()
    told = Sweep(tmp_path, "storm", machines, GRID).through(Plan.of(3))
    assert told.struck.total() >= 6, told.struck
    assert differences(calm, told) == []
    assert told.repeated() < EPOCHS * RUNS / 4, "a death costs the epochs since the last checkpoint, and no more"


def test_a_search_keeps_its_history_through_kills_and_damaged_journals(machines: Machines, tmp_path: Path) -> None:
    machines.mend()
    sweep = Sweep(tmp_path, "search", machines, SEARCH)
    blows = ((6, "worker"), (12, "driver"), (18, "node"), (24, "driver-sigterm"))
    told = sweep.through(
        Plan(("row-write", "epoch-4"), blows), damage=lambda run: (run / "study.journal").write_bytes(b"{")
    )
    assert told.struck.total() >= 4 and told.commands >= 3, told.struck
    found = rows(told.folder, "run")
    assert len(found) == SEARCHED and {row["status"] for row in found.values()} <= {"done", "stopped"}
    assert set(ended(told.folder, "run").values()) == {1}, "no trial was finished twice"
    journal = JournalStorage(JournalFileBackend(str(told.folder / "study.journal")))
    trials = optuna.load_study(study_name="sweep", storage=journal).trials
    assert sorted(trial.user_attrs["number"] for trial in trials) == list(range(SEARCHED))
    epochs = histories(told.folder)
    assert all((f"{row['identity']}-seed{row['seed']}", row["epochs"] - 1) in epochs for row in found.values())
    assert not [text for text in told.outputs if "Traceback" in text]
