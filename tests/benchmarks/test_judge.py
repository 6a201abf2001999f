"""The simulated verdicts: fast paths are those of the reports, and the rates have the promised form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import judge, judge_paths
from benchmarks.judge_figure import RULES, power_figure

UP_TO = 12
DOCS = Path(__file__).parents[2] / "docs"


def test_fast_paths_resolve_what_the_reports_resolve() -> None:
    random = np.random.default_rng(11)
    values = 70 + 0.5 * random.standard_normal((6, 4, judge_paths.LAST))
    values[::2, 1] += 0.7
    found = values[:, 1:] - values[:, :1]
    bounds = judge_paths.split_bounds(3).copy()
    bounds[UP_TO - judge_paths.FIRST + 1 :] = np.inf
    fast = judge_paths.resolved(found, bounds)
    margin = 0.9
    near = judge_paths.equivalent(found, bounds, margin)
    for arms, resolved, equivalent in zip(values, fast, near, strict=True):
        rows = [judge.rows_of(name, of[:UP_TO]) for name, of in zip(("baseline", "a", "b", "c"), arms, strict=True)]
        families = [judge.judged([of[:n] for of in rows], "split", first=5, margin=margin) for n in range(5, UP_TO + 1)]
        findings = [finding for family in families for finding in family.findings]
        assert any(finding.verdict == "resolved" for finding in findings) == resolved
        assert any(finding.is_within for finding in findings) == equivalent
    assert 0 < fast.sum() < len(fast) and near.sum() > 0


def test_what_was_edited_with_the_results_in_sight_is_never_resolved_without_the_mark() -> None:
    unmarked, resolved = judge._edited(40)
    assert unmarked == 0 < resolved


def test_rare_collapses_of_one_arm_are_shown_as_what_no_test_withstands() -> None:
    rows = {row.scenario: row for row in judge._paths(1, 2_000)}
    alone = rows["every tenth run of one arm alone collapses, equal means, extended to 30, 1 comparison"]
    assert alone.low > 0.05 and alone.promised is None and alone.holds
    found = judge_paths.one_sided(np.random.default_rng(3), 2_000, 2)
    assert abs(found.mean()) < 0.03, "the means are equal"
    assert np.median(found) > 0.5, "most runs of the arm are better"


def test_the_figure_of_the_page_is_the_power_of_each_rule(tmp_path: Path) -> None:
    assert "power.svg" in (DOCS / "protocol.md").read_text()
    judge.command(quick=False, output=None, figure=tmp_path / "power.svg")
    assert (tmp_path / "power.svg").read_text() == (DOCS / "power.svg").read_text()
    resolved = {(rule, n): value for rule, n, value in power_figure(judge.FULL[0]).table.rows}
    table = judge_paths.powers(judge.FULL[0], 6, (1.0,), judge_paths.ANALYSES)
    for (rule, _, n), count in table.items():
        assert resolved[RULES[rule], n] == 100 * count / judge.FULL[0]


def test_the_command_writes_rates_with_exact_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(judge, "QUICK", (50, 2))
    monkeypatch.setattr(judge_paths, "ANALYSES", (5, 10))
    judge.command(quick=True, output=tmp_path / "rates.json")
    rows = json.loads((tmp_path / "rates.json").read_text())["rows"]
    assert {row["measure"] for row in rows} == {"false_resolved", "false_equivalent", "power"}
    for row in rows:
        assert set(row) == {"scenario", "measure", "rate", "low", "high", "promised"}
        assert 0 <= row["low"] <= row["rate"] <= row["high"] <= 1
    assert "extended one seed at a time to 30" in capsys.readouterr().out
    broken = judge.Rate("x", "power", 0.5, 0.4, 0.6, 0.8), judge.Rate("y", "false_resolved", 0.2, 0.1, 0.3, 0.05)
    assert not any(one.holds for one in broken)
    assert judge.Rate("z", "power", 0.1, 0.0, 0.2, None).holds
