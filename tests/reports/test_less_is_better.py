"""A task that measures only a loss: less is better in verdicts, tables, charts, a search, the front and the page."""

from __future__ import annotations

import re

import pytest

import factories
from tskd_tune.metrics import Metric
from tskd_tune.records.entries.row import Best, TeacherRecord
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings import pareto
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms import exports, report_lines
from tskd_tune.reports.forms.head_lines import head_lines
from tskd_tune.reports.forms.latex import latex
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.tables import cells
from tskd_tune.reports.page.report import html

PERPLEXITY = Metric("perplexity", "perplexity", "nats", "min", digits=3)
BASE = [1.301, 1.312, 1.295, 1.306, 1.299, 1.304]
LOWER = [value - 0.05 + 0.002 * place for place, value in enumerate(BASE)]


def a_row(run, seed, arm, value, **facts):
    defaults = {
        "metrics": {"val_perplexity": value + 0.1, "test_perplexity": value, "loss": 1.0},
        "measures": [PERPLEXITY],
        "best": [Best.of(2, "validation", "perplexity", value, {"test_perplexity": value - 0.01})],
        "experiment": {"task": {"name": "text"}, "student": {"name": "small"}, "review": None},
    }
    return factories.a_row(run, seed, arm, **(defaults | facts))


@pytest.fixture
def grid(tmp_path):
    def make(**document):
        folder = RunFolder.create(tmp_path, "losses", "sweep", {"search": {"name": "grid"}, **document})
        rows = [
            a_row(f"{arm}{seed}", seed, arm, value)
            for arm, values in (("ce", BASE), ("kd", LOWER))
            for seed, value in enumerate(values, start=1)
        ]
        factories.write_rows(folder, rows)
        for row in rows:
            folder.append_history(row.run, [_line(row.seed, epoch) for epoch in range(4)])
        return folder

    return make


def _line(seed, epoch):
    return {"seed": seed, "epoch": epoch, "phase": "general", "val_perplexity": 2.0 - 0.1 * epoch + seed / 100}


def test_a_verdict_speaks_in_the_unit_and_says_that_less_is_better(grid):
    found = summary(grid(compare={"margin": 0.01}))
    assert (found.headline, found.metric) == ("test_perplexity", PERPLEXITY)
    (finding,) = found.family.family.findings
    assert finding.verdict == "resolved" and finding.contrast.difference == pytest.approx(-0.045)
    assert finding.sentence.startswith(
        "'kd' against 'ce': -0.045 nats (lower is better; 95 % interval -0.049 to -0.041"
    )
    assert "points" not in " ".join([finding.sentence, found.family.family.sentence])
    assert re.search(r"differences of 0\.\d{3} nats or more", found.family.family.sentence)


def test_equivalence_is_tested_only_within_a_margin_that_is_declared(grid):
    folder = grid()
    found = summary(folder)
    (finding,) = found.family.family.findings
    assert (found.family.family.margin, finding.contrast.tost_p, finding.verdict) == (None, None, "resolved")
    assert "counts as equivalent" not in html(folder, found)


def test_without_a_margin_what_is_open_says_nothing_of_equivalence(grid, tmp_path):
    folder = RunFolder.create(tmp_path, "open", "sweep", {"search": {"name": "grid"}})
    noisy = [value + noise for value, noise in zip(BASE, [0.1, -0.1, 0.05, -0.05, 0.02, -0.03], strict=True)]
    factories.write_rows(
        folder,
        [
            a_row(f"{arm}{seed}", seed, arm, value)
            for arm, values in (("ce", BASE), ("kd", noisy))
            for seed, value in enumerate(values, start=1)
        ],
    )
    (finding,) = summary(folder).family.family.findings
    assert finding.verdict == "undecided" and "equivalen" not in finding.sentence and "±" not in finding.sentence
    assert "Undecided: no difference is shown (paired t test" in finding.sentence


def test_tables_have_its_heading_and_digits(grid):
    found = summary(grid())
    columns, rows = cells(found)
    titles = [column.title for column in columns]
    assert titles[:4] == [
        "arm", "test perplexity (nats), last epoch", "95 % interval", "val perplexity (nats), last epoch",
    ]  # fmt: skip
    assert "test perplexity (nats), best validation epoch" in titles
    assert rows[0][1] == "1.303 ± 0.006 (6 seeds)"
    for text in (markdown(found), latex(found), exports.as_csv(found, "arms")):
        assert "perplexity" in text and "top-1" not in text and "points" not in text
    assert "difference (nats)" in latex(found)


def test_the_page_follows_it_by_epoch_beyond_no_scale(grid):
    folder = grid(compare={"margin": 0.01})
    text = html(folder, summary(folder))
    assert "perplexity by epoch" in text and "Cost against perplexity" in text
    assert "±0.01 nats that counts as equivalent" in text and "val perplexity (nats)" in text
    words = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)
    assert "top-1" not in words and "points" not in words


def test_the_front_of_a_grid_wants_less(grid):
    (front,) = summary(grid()).pareto
    assert front.objectives == {"test_perplexity": "min", "seconds": "min"} and front.front == ("kd",)


def test_a_search_ranks_by_the_headline_on_the_validation_part_the_least_first(tmp_path):
    document = {"search": {"name": "optuna", "objectives": {"val_perplexity": "min", "seconds": "min"}}}
    ranked = RunFolder.create(tmp_path, "search", "sweep", {"search": {"name": "optuna"}})
    rows = [a_row(f"t{n}", 1, f"k={n}", value, point={"k": n}) for n, value in enumerate([1.3, 1.2, 1.4])]
    factories.write_rows(ranked, rows)
    found = summary(ranked)
    assert (found.search.metric, found.search.mode) == ("val_perplexity", "min")
    assert [arm.run for arm in found.arms] == ["t1", "t0", "t2"]
    assert "Sorted by val_perplexity (min), never by a test metric." in report_lines.notes(found)
    several = RunFolder.create(tmp_path, "several", "sweep", document)
    factories.write_rows(several, rows)
    told = pareto.lines(summary(several).pareto, [PERPLEXITY])
    assert "k=1 (trial t1, 1 seed): val_perplexity 1.300, seconds 1.0" in told


@pytest.mark.parametrize(("value", "warned"), [(1.25, False), (1.35, True)])
def test_a_teacher_is_worse_where_its_loss_is_above_its_students(tmp_path, value, warned):
    folder = RunFolder.create(tmp_path, "teacher", "sweep", {})
    teacher = TeacherRecord(name="large", source="auto", metrics={"test_perplexity": value})
    factories.write_rows(folder, [a_row("t0", seed, "kd", 1.3, teacher=teacher) for seed in (1, 2)])
    found = summary(folder)
    assert f"Teacher large: test perplexity {value:.3f} nats" in head_lines(found)[1]
    assert bool(found.warnings) is warned
    if warned:
        sentence = (
            "teacher large: its test perplexity of 1.350 nats is above the mean of its student, which reaches 1.300"
        )
        assert found.warnings[0].sentence.startswith(sentence)
