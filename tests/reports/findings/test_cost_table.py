"""What each arm cost: medians, ranges and ratios of what was measured alike, and a word on what was not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

import factories
from tskd_tune.cli.app import app
from tskd_tune.records.entries.row import Cost, Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.cost_table import Circumstances, Range
from tskd_tune.reports.findings.review_shares import with_review_shares
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.cost_forms import cost_cells, cost_notes
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.report_lines import notes
from tskd_tune.reports.page.report import html

GIB = 1024**3
REVIEW = {"review": {"k": 2, "delta": 1}}


def rows(arm: str, seconds: list[float], memory: list[float | None] | None = None, **facts: Any) -> list[Row]:
    """Return the trainings of an arm with these seconds in steps, and one second more of evaluations each."""
    cost = {key: facts.pop(key) for key in Cost.model_fields if key in facts}
    held = memory or [None] * len(seconds)
    return [
        factories.a_row(
            f"{arm != 'plain':d}-{arm}{seed}",
            seed,
            arm,
            cost=factories.a_cost(
                took + 1, train_seconds=took, peak_memory_bytes=None if much is None else int(much * GIB), **cost
            ),
            metrics={"test_top1": 60.0 + seed},
            **facts,
        )
        for seed, (took, much) in enumerate(zip(seconds, held, strict=True), start=1)
    ]


@pytest.fixture
def a_run(tmp_path: Any) -> Callable[..., RunFolder]:
    def make(*groups: list[Row], search: dict[str, Any] | None = None) -> RunFolder:
        every = [row for group in groups for row in group]
        document = {"search": search} if search else {}
        folder = RunFolder.create(tmp_path, "first", "sweep", document, expected=len(every))
        factories.write_rows(folder, every)
        return folder

    return make


def test_medians_ranges_and_ratios_are_those_of_the_trainings_that_are_done(a_run: Any) -> None:
    cut = rows("kd", [1.0], status="stopped", device="A GPU")[0].model_copy(update={"seed": 9, "run": "1-kd9"})
    folder = a_run(
        rows("plain", [10.0, 40.0, 20.0], [1.0, 1.0, 2.0], device="A GPU"),
        [*rows("kd", [30.0, 50.0], [3.0, 1.0], device="A GPU"), cut],
    )
    plain, kd = summary(folder).costs
    assert (plain.step_seconds, plain.seconds) == (Range(20.0, 10.0, 40.0), Range(21.0, 11.0, 41.0))
    assert (plain.time_ratio, plain.memory_ratio, plain.trainings) == (1.0, 1.0, 3)
    assert kd.step_seconds == Range(40.0, 30.0, 50.0) and kd.memory_bytes == Range(2 * GIB, GIB, 3 * GIB)
    assert (kd.time_ratio, kd.memory_ratio, kd.trainings, kd.baseline) == (2.0, 2.0, 2, "plain")
    titles, cells = cost_cells((plain, kd))
    assert [title for title, _ in titles][1] == "trainings", "one device is said once, in the notes"
    assert cells[1][2:5] == ["40.0 s (30.0 s to 50.0 s)", "2.00 x", "41.0 s (31.0 s to 51.0 s)"]
    assert cells[1][5:] == ["2048 MiB (1024 to 3072)", "2.00 x"]
    assert cost_notes((plain, kd))[0] == "Measured on A GPU."


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"device": "B GPU"}, "kd on B GPU"),
        ({"device": "A GPU", "together": 4}, "kd on A GPU, 4 trainings in one process"),
        ({"device": "A GPU", "workers": 2}, "kd on A GPU, 2 workers"),
        ({"device": "A GPU", "gpu_share": 0.25}, "kd on A GPU, 0.25 of it"),
    ],
)
def test_what_was_not_measured_alike_is_not_compared(a_run: Any, other: dict[str, Any], said: str) -> None:
    found = summary(a_run(rows("plain", [10.0, 10.0], device="A GPU"), rows("kd", [5.0, 5.0], **other)))
    plain, kd = found.costs
    assert plain.time_ratio == 1 and kd.time_ratio is None
    assert f"Not comparable with 'plain', which was measured on A GPU: {said}." in cost_notes(found.costs)
    titles, cells = cost_cells(found.costs)
    assert titles[1][0] == "measured on" and "not comparable" in cells[1]
    marked = ("‡ Times and memory were not", "‡ Times were not")
    assert any(line.startswith(marked) for line in notes(found)), "so is the table of arms"


def test_an_arm_on_two_devices_is_compared_on_each(a_run: Any) -> None:
    def both(arm: str, first: float, second: float) -> list[Row]:
        here, there = rows(arm, [first], device="A GPU"), rows(arm, [second, second], device="B GPU")[1:]
        return [*here, *there]

    found = summary(a_run(both("plain", 10.0, 2.0), both("kd", 30.0, 3.0)))
    assert [(cost.arm, cost.where.device, cost.time_ratio) for cost in found.costs] == [
        ("plain", "A GPU", 1.0),
        ("plain", "B GPU", 1.0),
        ("kd", "A GPU", 3.0),
        ("kd", "B GPU", 1.5),
    ]
    assert not any("Not comparable" in line for line in cost_notes(found.costs))


def test_cpus_are_told_apart_by_machine_and_threads_and_not_by_trainings_in_one_process() -> None:
    cost = factories.a_cost(device="cpu", host="left", together=1)
    assert Circumstances.of(cost) == Circumstances.of(cost.model_copy(update={"together": 6}))
    assert Circumstances.of(cost) != Circumstances.of(cost.model_copy(update={"host": "right"}))
    assert Circumstances.of(cost) != Circumstances.of(cost.model_copy(update={"threads": 2}))
    assert Circumstances.of(cost).words == "cpu of left, 1 thread"
    gpu = factories.a_cost(device="A GPU", host="left")
    assert Circumstances.of(gpu) == Circumstances.of(gpu.model_copy(update={"host": "right", "threads": 2}))


def test_the_share_of_reviews_is_that_of_the_seconds_of_their_epochs(a_run: Any) -> None:
    folder = a_run(rows("plain", [4.0]), rows("tskd", [8.0], experiment=REVIEW))
    phases = {0: "general", 1: "memorize", 2: "memorize+review", 3: "review"}
    for run in ("0-plain1", "1-tskd1"):
        lines = [{"seed": 1, "epoch": n, "phase": what, "seconds": n + 1.0} for n, what in phases.items()]
        folder.append_history(run, lines)
    found = with_review_shares(folder, summary(folder))
    assert [cost.review_share for cost in found.costs] == [None, 0.7]
    assert cost_cells(found.costs)[1][1][-1] == "70 % of the time"
    assert "70 % of the time" in html(folder, found) and "## What each arm cost" in markdown(found)
    assert "Memory is recorded on GPUs only." in cost_notes(found.costs)


def test_a_page_of_a_search_has_no_table_of_costs(a_run: Any) -> None:
    folder = a_run(rows("plain", [4.0]), rows("kd", [4.0]), search=factories.RANDOM)
    found = summary(folder)
    assert found.costs and "What each arm cost" not in html(folder, found) + markdown(found)


def shown(folder: RunFolder, *options: str) -> str:
    result = CliRunner().invoke(app, ["report", str(folder.path), "--cost", *options], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_shows_the_table_and_gives_it_alone_in_a_format(a_run: Any) -> None:
    folder = a_run(rows("plain", [10.0, 20.0]), rows("kd", [30.0, 30.0]))
    text = shown(folder)
    assert "What each arm cost" in text and "2.00 x" in text and "report:" in text
    (plain, kd) = csv.DictReader(io.StringIO(shown(folder, "--format", "csv")))
    assert (plain["step_seconds_median"], kd["time_ratio"], kd["seconds_high"]) == ("15.0", "2.0", "31.0")
    assert json.loads(shown(folder, "--json"))["costs"][1]["step_seconds"] == {
        "median": 30.0,
        "low": 30.0,
        "high": 30.0,
    }
    assert shown(folder, "--format", "md").startswith("| arm |")
    assert r"\begin{table}" in shown(folder, "--format", "latex")


@pytest.mark.parametrize(
    "other", [["--paper", "table1"], ["--against", "other"], ["--format", "csv", "--what", "runs"]]
)
def test_another_table_beside_the_costs_is_refused(a_run: Any, other: list[str]) -> None:
    folder = a_run(rows("plain", [10.0]))
    result = CliRunner().invoke(app, ["report", str(folder.path), "--cost", *other])
    assert result.exit_code != 0 and "--cost: shows the table of costs, and --" in result.stderr


def test_a_run_without_a_training_that_is_done_says_so(a_run: Any) -> None:
    assert "No training is done whose cost is known." in shown(a_run())
