"""A task like detection: AP is the headline, and a metric may be absent in some arms or in all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import factories
from tskd_tune.metrics import PERCENT, Metric
from tskd_tune.records.entries.row import DataRecord, TeacherRecord
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms import exports, latex, plain, wandb_report
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.page.report import html

NAMES = {"ap": "AP", "ap50": "AP50", "ap_small": "APs", "ap_large": "APl"}
MEASURES = [Metric(name, title, PERCENT, "max", digits=1) for name, title in NAMES.items()]
DATA = DataRecord(inputs=[3, None, None], outputs=80, samples=[100, 0, 50])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two arms with five seeds; small objects are nowhere, APl is missing in one arm and in a seed of the other."""
    folder = RunFolder.create(tmp_path, "first", "sweep", {}, expected=10)
    rows = []
    for place, arm in enumerate(["alone", "reviewed"]):
        for seed in range(1, 6):
            metrics: dict[str, float | None] = {
                "test_ap": 30.0 + 2 * place + 0.1 * seed ** (place + 1),
                "test_ap50": 50.0 + seed,
            }
            if place and seed > 1:
                metrics["test_ap_large"] = 40.0 + seed
            if place and seed == 1:
                metrics["test_ap_large"] = float("nan")
            rows.append(
                factories.a_row(
                    f"t{place}",
                    seed,
                    arm,
                    measures=MEASURES,
                    metrics=metrics,
                    data=DATA,
                    teacher=TeacherRecord(name="big", source="auto", metrics={"test_ap": 38.0}),
                    experiment={"review": {"k": 1, "delta": 1} if place else None, "task": {"name": "t"}},
                )
            )
    factories.write_rows(folder, rows)
    for row in rows:
        lines = [{"seed": row.seed, "epoch": epoch, "phase": "general", "loss": 1.0} for epoch in range(4)]
        folder.append_history(row.run, lines)
    return folder


@pytest.fixture
def found(run: RunFolder) -> Findings:
    return summary(run)


def test_ap_is_the_headline_of_verdicts_and_tables_in_points(found: Findings) -> None:
    text = markdown(found)
    assert found.metric.name == "ap" and found.family is not None
    assert found.family.family.findings[0].verdict == "resolved"
    assert "test AP (%), last epoch" in text and "+2.8 points" in text and "any" not in text
    assert "color, of different sizes." in text and "top" not in text


def test_a_metric_is_over_the_seeds_that_have_it(found: Findings) -> None:
    alone, reviewed = found.arms
    assert alone.metric("test_ap_large").mean is None and alone.metric("test_ap_small").mean is None
    assert (reviewed.metric("test_ap_large").n, reviewed.metric("test_ap_large").mean) == (4, 43.5)


def test_every_form_is_written(run: RunFolder, found: Findings) -> None:
    for what in ("arms", "verdicts", "runs"):
        assert "nan" not in exports.as_csv(found, what).lower()
    content = json.dumps(plain.as_json(found), allow_nan=False)
    assert "test_ap_large" in content
    assert r"test AP (\%)" in latex.latex(found)
    page = html(run, found)
    assert "test AP (%)" in page and "NaN" not in page.partition("<main>")[2].partition("<script")[0]
    assert "AP" in str(wandb_report.build(run, found, project="mine").blocks)
