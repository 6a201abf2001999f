"""An interval of a percentage does not leave 0 to 100 unsaid, wherever it is shown."""

from __future__ import annotations

import csv
import io

import pytest

import factories
from factories import a_cost
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings import effects
from tskd_tune.reports.findings.scale import MARK, NOTE, cut
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms import exports, report_lines, tables
from tskd_tune.reports.forms.latex import latex
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.page.report import html

NEAR_THE_TOP = [90.0, 99.0, 99.5]


def a_row(run="t0", seed=1, arm="baseline", test=60.0, **changes):
    facts = {"metrics": {"test_top1": test}, "cost": a_cost(9.0)}
    return factories.a_row(run, seed, arm, planned=10, **(facts | changes))


@pytest.fixture
def a_run(tmp_path):
    def make(*rows, search=None):
        folder = RunFolder.create(tmp_path, "first", "sweep", {"search": search} if search else {}, expected=len(rows))
        factories.write_rows(folder, rows)
        return folder

    return make


def rows(values, metric="test_top1", **over):
    return [a_row("t0", seed, metrics={metric: value}, **over) for seed, value in enumerate(values, start=1)]


def forms(folder):
    found = summary(folder)
    return {
        "markdown": markdown(found),
        "latex": latex(found),
        "page": html(folder, found),
        "cells": " ".join(tables.cells(found)[1][0] + report_lines.notes(found)),
    }


def test_an_interval_beyond_the_scale_is_cut_marked_and_explained_in_every_form(a_run):
    folder = a_run(*rows(NEAR_THE_TOP))
    (arm,) = summary(folder).arms
    assert arm.statistics.interval.high > 100 and arm.beyond
    assert effects.interval(arm)[1] == 100.0, "figures draw it cut"
    for form, text in forms(folder).items():
        assert "to 100.00" in text, form
        assert "which is impossible" in text, form
        assert "109." not in text.partition("plotly")[0], form


def test_an_interval_below_zero_is_cut_too(a_run):
    folder = a_run(*rows([0.5, 1.0, 9.0]))
    assert f"0.00 to 15.35 {MARK}" in " ".join(tables.cells(summary(folder))[1][0])


def test_an_interval_within_the_scale_has_no_mark(a_run):
    folder = a_run(*rows([70.0, 71.0, 72.0]))
    assert NOTE not in report_lines.notes(summary(folder))
    assert not as_json(summary(folder))["arms"][0]["statistics"]["beyond"]


def test_a_loss_has_no_such_scale(a_run):
    search = {"name": "optuna", "metric": "val_loss", "mode": "min", "trials": 1}
    found = summary(a_run(*rows([0.1, 5.0, 0.1], metric="val_loss"), search=search))
    assert found.arms[0].statistics.interval.low < 0 and not found.arms[0].beyond


def test_csv_keeps_every_digit_and_says_that_it_is_beyond(a_run):
    folder = a_run(*rows(NEAR_THE_TOP))
    (line,) = csv.DictReader(io.StringIO(exports.as_csv(summary(folder), "arms")))
    assert float(line["interval_high"]) > 100 and line["interval_beyond_scale"] == "True"


@pytest.mark.parametrize(("given", "expected"), [((-5, 50), (0, 50)), ((60, 130), (60, 100)), ((1, 2), (1, 2))])
def test_ends_are_cut_at_the_scale(given, expected):
    assert cut(*given) == expected
