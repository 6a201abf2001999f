"""What `status` and `runs` say of a run whose process was ended by a signal, or was killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import a_row
from tskd_tune.cli.reading.inventory import inventory
from tskd_tune.cli.reading.run_status import run_status
from tskd_tune.cli.reading.status import lines
from tskd_tune.records.entries.sittings import FILE, stopped
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import json_line
from tskd_tune.signals import ENDING, Ended, as_interrupts


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Hear signals as the command line does, whatever the tests' own process ignores, and forget them afterwards."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
    with as_interrupts():
        yield
    for number, handler in before.items():
        signal.signal(number, handler)
    Ended.number = signal.SIGINT


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "run", "sweep", {}, expected=3)


def trained(run: RunFolder, number: signal.Signals | None) -> None:
    """Train one of three trials of a run; two others are training when the signal comes."""
    with run.alone():
        for name in ("00000", "00001", "00002"):
            run.begin(Begun(run=name, arm=name, seeds=[1], epochs=4))
        run.add_row(a_row("00000", arm="00000"))
        if number is not None:
            os.kill(os.getpid(), number)


def last_line(run: RunFolder) -> str:
    run = RunFolder.open(run.path)
    return lines(run, run_status(run))[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_said_with_its_time_and_what_was_training(run: RunFolder, number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(run, number)
    end = json.loads((run.path / FILE).read_text().splitlines()[-1])
    assert end["by"] == number.name
    at = end["ended"][:16].replace("T", " ")
    assert f"interrupted: stopped by {number.name} at {at} UTC, when 2 trials were training; continue" in last_line(run)
    told = run_status(run).plain()["interrupted"]
    assert isinstance(told, dict) and (told["by"], told["training"]) == (number.name, 2)
    ((entry,), _) = inventory(run.path.parent)
    assert (entry.state, entry.by) == ("interrupted", number.name)
    assert [row.arm for row in run.rows()] == ["00000"], "a resume trains the others on, so they have no row"


def test_a_kill_is_said_with_the_time_of_the_last_record(run: RunFolder) -> None:
    trained(run, None)
    path = run.path / FILE
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "ended" not in line))
    assert "was killed, or its machine was lost, after " in last_line(run)
    assert "when 2 trials were training" in last_line(run)
    assert inventory(run.path.parent)[0][0].by is None


def test_a_process_that_ended_by_itself_was_not_stopped(run: RunFolder) -> None:
    trained(run, None)
    assert stopped(run.store) is None and "interrupted: no process trains this run now" in last_line(run)


def test_what_goes_on_or_is_finished_was_not_stopped(run: RunFolder) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(run, signal.SIGTERM)
    with run.alone():
        assert run_status(run).interrupted is None and "SIGTERM" not in last_line(run)
        for name in ("00001", "00002"):
            run.add_row(a_row(name, arm=name))
    assert stopped(run.store) is None and last_line(run).endswith("ended")


def test_files_of_earlier_versions_and_damaged_ones(run: RunFolder) -> None:
    assert stopped(run.store) is None
    run.store.append(FILE, json_line({"begun": "2026-01-01T00:00:00+00:00"}))
    run.store.append(FILE, json_line({"ended": "2026-01-01T00:01:00+00:00", "by": 15}))
    run.store.append(FILE, "nothing\n")
    assert stopped(run.store) is None
