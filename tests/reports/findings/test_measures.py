"""The decimals of a run's metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from factories import TOP1, a_row, write_rows
from tskd_tune.metrics import Metric
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.measures import measures_of
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.markdown import markdown

ERROR = Metric("error", "error", "", "min", 2)


@pytest.mark.parametrize(
    ("largest", "digits"),
    [(3.0, 2), (0.1, 2), (0.099, 4), (0.01, 4), (0.00123, 5), (1e-30, 12), (0.0, 2)],
)
def test_a_metric_has_decimals_that_show_its_values(largest: float, digits: int) -> None:
    rows = [a_row(metrics={"test_error": largest, "val_error": largest / 3, "loss": 9.0}, measures=[ERROR])]
    assert [metric.digits for metric in measures_of(rows)] == [digits]
    accuracy = [a_row(metrics={"test_top1": 71.2}, measures=[TOP1])]
    assert measures_of(accuracy) == (TOP1,)


def test_a_report_of_small_values_shows_them(tmp_path: Path) -> None:
    """All of these were 0.00 ± 0.00, with a verdict on a difference of 0.00."""
    folder = RunFolder.create(tmp_path, "run", "sweep", {"search": {"name": "grid"}, "compare": {"margin": 1e-6}})
    values = {"ce": [310e-6, 322e-6, 305e-6, 316e-6, 309e-6], "kd": [210e-6, 224e-6, 203e-6, 217e-6, 211e-6]}
    write_rows(
        folder,
        [
            a_row(f"{arm}{seed}", seed, arm, metrics={"test_error": value}, measures=[ERROR])
            for arm, of in values.items()
            for seed, value in enumerate(of, 1)
        ],
    )
    text = markdown(summary(folder))
    assert "'kd' is better by 0.000099" in text and "0.000213 ± 0.000008" in text and "0.00 " not in text
