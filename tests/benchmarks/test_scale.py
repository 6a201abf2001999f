"""The arithmetic of the suite ``scale``, and the runs that it writes; its sweep needs Ray and minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.rows import Count, Report
from benchmarks.scale import Driver, Part, Reading
from tskd_tune.records.entries.events import Event
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary


def test_a_trial_costs_the_mean_between_two_readings() -> None:
    readings = [Reading(10.0, 1.0, 100), Reading(11.0, 1.5, 150), Reading(14.0, 2.0, 300)]
    assert Part.of(readings) == Part(2.0, 0.5, 100.0)


def test_the_first_and_the_last_trials_are_compared() -> None:
    slower = [Reading(at + at**2 / 100, at / 10, at * scale.MIB) for at in range(40)]
    counts = {count.unit: count.value for count in scale._growth(40, slower)}
    assert counts["ms of the clock a trial, last tenth"] > counts["ms of the clock a trial, first tenth"]
    assert counts["ms of the driver's CPU a trial, last tenth"] == pytest.approx(100)
    assert counts["MiB of the driver's memory a trial"] == pytest.approx(1)


def test_the_driver_is_read_where_a_training_ends() -> None:
    driver = Driver()
    driver(Event("epoch", "arm"))
    assert (len(driver.readings), len(driver.epochs)) == (0, 1)
    driver(Event("finished", "arm"))
    assert driver.readings[0].memory > scale.MIB


def test_an_epoch_costs_the_driver_the_mean_of_the_later_ones() -> None:
    assert scale._of_epochs([0.0, 5.0, 5.5, 6.0, 6.5]).value == pytest.approx(500)


def test_a_run_of_rows_is_one_that_a_report_reads(tmp_path: Path) -> None:
    run = scale._written(6, tmp_path)
    found = RunFolder.open(run.path)
    assert len(found.rows()) == 6
    assert found.damage() == []
    assert {len(found.history(row.run)) for row in found.rows()} == {scale.ROW_EPOCHS}
    assert [arm.seeds for arm in summary(found).arms] == [(0, 1, 2)] * 2


def test_a_measured_act_has_seconds_and_memory(tmp_path: Path) -> None:
    run = scale._written(2, tmp_path)
    spent, memory = scale._measured(scale._open, run.path)
    assert spent.cpu > 0
    assert memory > scale.MIB


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("trainings/0a-seed1/student.pth", "student.pth"),
        ("trials/00000/trial.json", "trial.json"),
        ("trials/00000/result.json", "Ray Tune's own files"),
        ("report.html", "report"),
        ("rows.jsonl", "rows.jsonl"),
        ("state.json", "other"),
    ],
)
def test_each_file_is_counted_as_what_wrote_it(path: str, kind: str) -> None:
    assert scale._kind(Path(path)) == kind


def test_counts_are_shown_and_written() -> None:
    count = Count("a run of 10 rows", "ms to add a row", 0.5)
    assert str(count) == "a run of 10 rows: 0.5 ms to add a row"
    assert Report((), counts=(count,)).counts == (count,)
