"""LaTeX and CSV: what they hold, and that no name can break them."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest

import factories
from factories import a_cost
from tskd_tune.records.entries.row import Best
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms import exports
from tskd_tune.reports.forms.latex import escaped, latex

EVIL = '50 % & a_b, "q" #1 {x} \\y ~z ^ <b> $m$ --set'
BASE = [70.1, 70.4, 69.8, 70.0, 70.3]
BETTER = [71.0, 71.5, 70.9, 70.8, 71.4]


def a_row(arm, seed, test, **changes):
    facts = {
        "metrics": {"test_top1": test},
        "best": [Best.of(2, "test", "top1", 75.0)],
        "cost": a_cost(1 / 3, train_seconds=0.25),
        "point": {"arm": arm},
    }
    return factories.a_row(f"{arm != 'ce'}{seed}", seed, arm, **(facts | changes))


@pytest.fixture
def run(tmp_path):
    folder = RunFolder.create(tmp_path, "first", "sweep", {"search": {"name": "grid"}})
    rows = [a_row(arm, seed, value) for arm, of in (("ce", BASE), (EVIL, BETTER)) for seed, value in enumerate(of, 1)]
    factories.write_rows(folder, [*rows, a_row("ce", 6, 1.0, status="failed", reason="NaN,\nlower it")])
    return folder


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a_b & 5 %", r"a\_b \& 5 \%"),
        ("\\{}", r"\textbackslash{}\{\}"),
        ("$x^2$ ~ #1", r"\$x\textasciicircum{}2\$ \textasciitilde{} \#1"),
        ("a\n  b", "a b"),
        ("60.00 ± 1.00 †", r"60.00 $\pm$ 1.00 $\dagger$"),
        ("--set", "-{}-{}set"),
        ("<b> |", r"\textless{}b\textgreater{} \textbar{}"),
    ],
)
def test_latex_prints_text_as_it_is(text, printed):
    assert escaped(text) == printed


def test_latex_holds_verdicts_and_arms(run):
    text = latex(summary(run))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert text.index("resolved") < text.index("70.12 $\\pm$ 0.24 (5 of 6 seeds)")
    assert EVIL not in text and escaped(EVIL) in text
    assert "This design detects differences of" in text
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert line.replace(r"\&", "").count("&") in (6, 7, 8)


def test_latex_has_the_numbers_of_the_sentences(tmp_path):
    """Also where Holm's correction excludes 0, where a difference rounds to -0.00, and before a first verdict."""
    base, wobble = np.array([*BASE, 70.2, 69.9, 70.5]), np.array([1.0, -1, 1, -1, 1, -1, 1, -1])
    # The p of 'edge' is 0.02: the second step of Holm's correction resolves it, and its interval contains 0.
    arms = {
        "ce": base,
        "near": base - 0.004 + 0.02 * wobble,
        "far": base + 2 + 0.1 * wobble,
        "edge": base + 1.134 + wobble,
    }
    seen = []
    for ended, rule in ((8, "fixed"), (8, "split"), (6, "split")):
        given = {"search": {"name": "grid"}, "seeds": [*range(1, 9)], "compare": {"sequential": rule}}
        folder = RunFolder.create(tmp_path, f"{rule}{ended}", "sweep", given)
        of = [a_row(arm, seed, float(value)) for arm, own in arms.items() for seed, value in enumerate(own[:ended], 1)]
        factories.write_rows(folder, [row.model_copy(update={"run": f"{row.arm}-{row.seed}"}) for row in of])
        found = summary(folder)
        text = latex(found)
        for finding in found.family.family.findings:
            line, *_ = (line for line in text.splitlines() if line.startswith(f"{finding.contrast.arm} & "))
            _, _, difference, interval, seeds, _, verdict = line.removesuffix(r" \\").split(" & ")
            ends, level = re.search(r"\((.*?) % interval (.*?), (\d+) seeds", finding.sentence).group(2, 1)
            assert f": {difference.replace('{}', '')} points" in finding.sentence
            assert interval.replace("{}", "") == rf"{ends} ({level} \%)"
            assert f" {seeds} seeds" in finding.sentence and verdict == (finding.verdict or "none yet")
            seen.append(interval)
    assert any("above 0" in interval for interval in seen)


def test_an_arm_is_a_line_with_every_digit(run):
    ce, evil = read(exports.as_csv(summary(run), "arms"))
    assert (ce["arm"], evil["arm"]) == ("ce", EVIL)
    assert float(ce["mean"]) == pytest.approx(sum(BASE) / 5, abs=1e-12)
    assert (ce["seeds"], ce["n"], ce["failed"], ce["best_test_mean"]) == ("1 2 3 4 5", "5", "1", "75.0")
    assert float(ce["interval_low"]) < float(ce["mean"]) < float(ce["interval_high"])
    assert float(ce["cost_seconds"]) == 1 / 3


def test_a_contrast_is_a_line(run):
    (line,) = read(exports.as_csv(summary(run), "verdicts"))
    assert (line["arm"], line["baseline"], line["verdict"], line["n"]) == (EVIL, "ce", "resolved", "5")
    assert float(line["difference"]) == pytest.approx(sum(BETTER) / 5 - sum(BASE) / 5, abs=1e-12)
    assert line["sentence"].startswith("'50 % & a_b")


def test_a_run_is_a_line_and_a_failed_one_too(run):
    lines = read(exports.as_csv(summary(run), "runs"))
    assert len(lines) == 11
    (failed,) = [line for line in lines if line["status"] == "failed"]
    assert failed["reason"] == "NaN,\nlower it" and failed["seed"] == "6"


def test_nothing_compared_is_no_line(tmp_path):
    folder = RunFolder.create(tmp_path, "one", "sweep", {"search": {"name": "grid"}})
    factories.write_rows(folder, [a_row("ce", 1, 70.0)])
    assert exports.as_csv(summary(folder), "verdicts") == ""
    assert latex(summary(folder)).count(r"\begin{tabular}") == 1
