"""The simulated verdicts: fast paths are those of the reports, and the rates have the promised form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import judge, judge_paths

UP_TO = 12


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
