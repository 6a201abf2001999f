"""How often verdicts are wrong, and how often promised power is kept, in the ways in which people work.

Tables of runs are simulated and judged as a report judges them: rows, comparisons, verdicts. Only the long paths, one
seed after another, are computed for all tables at once (`benchmarks.judge_paths`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table as Shown

from benchmarks import judge_paths as paths
from benchmarks.calibration import share
from benchmarks.judge_figure import power_figure
from tskd_tune.metrics import PERCENT, Metric
from tskd_tune.records.entries.row import Cost, Row
from tskd_tune.records.protocols.protocol import Kept, Line
from tskd_tune.reports.findings.comparison import Headline, compare
from tskd_tune.reports.findings.declared import Compare, Declared
from tskd_tune.reports.findings.endings import Counts
from tskd_tune.reports.findings.frozen import NOT_FROZEN, Frozen, Present, frozen, stated
from tskd_tune.reports.findings.pairs import Trained
from tskd_tune.reports.findings.records import Setting
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.always_valid import Split
from tskd_tune.reports.judge.planning import smallest
from tskd_tune.reports.judge.protocol import Protocol
from tskd_tune.reports.judge.records import Family, Finding
from tskd_tune.studies.still import still

METRIC = "test_top1"
HEADLINE = Headline(METRIC, Metric("top1", "top-1", PERCENT, "max"))
LEVEL, SD = 70.0, 0.5
NAMED_AT_MOST = 30
FULL, QUICK = (40_000, 300), (4_000, 60)
"""The numbers of simulated tables: paths of seeds, and tables through the whole pipeline."""
EFFECTS = (0.5, 1.0, 1.5, 2.0)

Measure = Literal["false_resolved", "false_equivalent", "power"]
Rule = Literal["split", "looks", "fixed"]
RULES: tuple[Rule, ...] = ("split", "fixed")


@dataclass(frozen=True)
class Rate:
    """The rate of one scenario: its exact 95 % interval, and what is promised.

    ``promised`` is the largest rate of false verdicts, or the least power; None where nothing is promised.
    """

    scenario: str
    measure: Measure
    rate: float
    low: float
    high: float
    promised: float | None

    @property
    def holds(self) -> bool:
        """Whether the interval allows what is promised."""
        if self.promised is None:
            return True
        return self.high >= self.promised if self.measure == "power" else self.low <= self.promised


def command(*, quick: bool, output: Path | None, figure: Path | None = None) -> None:
    """Carry out the command: simulate, show the rates, write them; exit with 1 if a promise is broken.

    Args:
        quick: simulate fewer tables.
        output: the JSON file.
        figure: draw only the power of each rule, into this SVG file.
    """
    if figure is not None:
        figure.write_text(still(power_figure((QUICK if quick else FULL)[0])))
        return
    found = list(rates(*(QUICK if quick else FULL)))
    Console(width=140).print(table(found))
    if output is not None:
        output.write_text(json.dumps({"rows": [asdict(one) for one in found]}, indent=1) + "\n")
    if not all(one.holds for one in found):
        raise SystemExit(1)


def table(found: Sequence[Rate]) -> Shown:
    """Return the rates as a table for a terminal."""
    shown = Shown("scenario", "measure", "rate (%)", "95 % interval", "promised", title="verdicts of simulated tables")
    for one in found:
        promised = "" if one.promised is None else f"{'>=' if one.measure == 'power' else '<='} {100 * one.promised:g}"
        mark = "" if one.holds else " broken"
        ends = f"{100 * one.low:.1f} to {100 * one.high:.1f}"
        shown.add_row(one.scenario, one.measure, f"{100 * one.rate:.1f}", ends, f"{promised}{mark}")
    return shown


def rates(many: int, few: int) -> Iterator[Rate]:
    """Simulate every scenario, with ``many`` paths of seeds, and with ``few`` tables through the whole pipeline."""
    for contrasts in (1, 5):
        yield from _paths(contrasts, many)
    yield _rate("extended to the number that the report names", "false_resolved", _named(few), few, 0.05)
    yield _rate("a fixed run, extended from 5 to 10 seeds, without the mark", "false_resolved", _marked(few), few, 0.05)
    unmarked, resolved = _edited(few)
    yield _rate("edited with the results in sight, without the mark", "false_resolved", unmarked, few, 0.0)
    yield _rate("edited with the results in sight, with the mark", "false_resolved", resolved, few, None)
    for n, failed in ((5, 1), (10, 2)):
        name = f"the {failed} lowest of {n} differences failed"
        yield _rate(name, "false_resolved", _failed(few, n, failed), few, 0.05)
    for rule in RULES:
        name = f"7 comparisons at the margin, 10 seeds, {rule}"
        yield _rate(name, "false_equivalent", _at_the_margin(few, rule), few, 0.05)
    for contrasts in (1, 5, 12):
        for rule in RULES:
            name = f"the smallest difference of 10 seeds, {contrasts} comparison{_s(contrasts)}, {rule}"
            tables = few // 2 if contrasts > 1 else few
            yield _rate(name, "power", _promised(tables, contrasts, rule), tables, power.POWER)
    for (how, effect, n), resolved in paths.powers(many, 6, EFFECTS, paths.ANALYSES).items():
        yield _rate(f"{how}, true difference {effect:g} sd, by {n} seeds", "power", resolved, many, None)


def _s(number: int) -> str:
    return "" if number == 1 else "s"


def _rate(scenario: str, measure: Measure, found: int, of: int, promised: float | None) -> Rate:
    of_all = share(found, of)
    return Rate(scenario, measure, found / of, of_all.low, of_all.high, promised)


# Paths


def _paths(contrasts: int, tables: int) -> Iterator[Rate]:
    """Yield the rates of tables that are extended one seed at a time, from 5 to 30 seeds."""
    split, looks = paths.split_bounds(contrasts), paths.look_bounds(contrasts)
    over = f"{contrasts} comparison{_s(contrasts)}"

    def rate(
        name: str,
        measure: Measure,
        wrong: Callable[[np.random.Generator, int], np.ndarray],
        promised: float | None = power.ALPHA,
    ) -> Rate:
        return _rate(f"{name}, {over}", measure, paths.counted(tables, contrasts, wrong), tables, promised)

    def resolved(noise: paths.Noise, bounds: np.ndarray) -> Callable[[np.random.Generator, int], np.ndarray]:
        return lambda random, of: paths.resolved(paths.differences(random, of, contrasts, noise), bounds)

    def at_the_margin(random: np.random.Generator, of: int) -> np.ndarray:
        found = paths.differences(random, of, contrasts, paths.normal) / np.sqrt(2)
        return paths.equivalent(found + 1.0, split, 1.0)

    yield rate("extended one seed at a time to 30", "false_resolved", resolved(paths.normal, split))
    yield rate("analyses at 5, 10, 18 and 30 seeds", "false_resolved", resolved(paths.normal, looks))
    yield rate("every tenth run collapses, extended to 30", "false_resolved", resolved(paths.collapsing, split))
    # What no t test withstands is shown, and not promised: an arm that has not collapsed yet looks better than it is.
    one_sided = "every tenth run of one arm alone collapses, equal means, extended to 30"
    yield rate(
        one_sided,
        "false_resolved",
        lambda random, of: paths.resolved(paths.one_sided(random, of, contrasts), split),
        None,
    )
    yield rate("a difference of the margin, extended to 30", "false_equivalent", at_the_margin)


# Tables through the whole pipeline


@cache
def _template() -> Row:
    cost = Cost(seconds=1.0, train_seconds=1.0, device="cpu", threads=1)
    experiment = {"task": {"name": "simulated"}, "student": {"name": "simulated"}, "review": None}
    return Row.model_construct(
        run="0",
        arm="",
        seed=1,
        status="done",
        epochs=1,
        epochs_planned=1,
        cost=cost,
        preset="paper",
        started="",
        finished="",
        experiment=experiment,
        metrics={},
    )


def rows_of(arm: str, values: Sequence[float], failed: Sequence[int] = ()) -> list[Row]:
    """Return the rows of an arm with the seeds 1, 2, ...; ``failed`` seeds have diverged."""
    made = []
    for seed, value in enumerate(values, 1):
        facts: dict[str, object] = {"arm": arm, "seed": seed, "metrics": {METRIC: float(value)}}
        if seed in failed:
            facts |= {"status": "failed", "reason": "NaN", "metrics": {}}
        made.append(_template().model_copy(update=facts))
    return made


def judged(rows: Sequence[Sequence[Row]], rule: Rule, *, first: int, margin: float = 0.3) -> Family:
    """Return the verdicts of a run: the first arm is the baseline, and seeds after ``first`` were added one by one."""
    seeds = [row.seed for row in rows[0]]
    comparing = Compare(
        baseline=rows[0][0].arm, margin=margin, sequential=rule, added=[[seed] for seed in seeds[first:]]
    )
    return _family(rows, Declared(compare=comparing, seeds=seeds))


def _family(rows: Sequence[Sequence[Row]], declared: Declared, protocol: Frozen = NOT_FROZEN) -> Family:
    arms = [Trained(of[0].arm, Setting({}, {}), False, of) for of in rows]
    all_rows = [row for of in rows for row in of]
    found = compare(arms, declared, HEADLINE, Counts.over(all_rows, len(all_rows), 0), protocol)
    assert found.verdicts is not None, found.reason
    return found.verdicts.family


def table_of(random: np.random.Generator, contrasts: int, seeds: int, effect: float = 0.0) -> list[list[Row]]:
    """Return the rows of a simulated table; ``effect`` is the true difference of its first comparison, in points."""
    values = LEVEL + SD * random.standard_normal((contrasts + 1, seeds))
    if contrasts:
        values[1] += effect
    return [rows_of(f"arm {place}" if place else "baseline", one) for place, one in enumerate(values)]


def _is(family: Family, verdict: str) -> bool:
    return any(finding.verdict == verdict for finding in family.findings)


def _named(tables: int) -> int:
    """Count tables with a false verdict at 5 seeds, or at the number of seeds that the report of 5 seeds names."""
    random, wrong = np.random.default_rng(2), 0
    for _ in range(tables):
        rows = table_of(random, 1, NAMED_AT_MOST)
        (finding,) = judged([of[:5] for of in rows], "split", first=5).findings
        again = judged([of[: _next(finding)] for of in rows], "split", first=5)
        wrong += finding.verdict == "resolved" or _is(again, "resolved")
    return wrong


def _next(finding: Finding) -> int:
    """Return the number of seeds that a report names for a difference of the measured size."""
    named = finding.needed.resolve[1] if finding.needed and finding.needed.resolve else None
    return min(named or NAMED_AT_MOST, NAMED_AT_MOST)


def _marked(tables: int) -> int:
    """Count tables of a fixed run with a false verdict without the mark *exploratory*, at 5 or at 6 to 10 seeds."""
    random, wrong = np.random.default_rng(3), 0
    for _ in range(tables):
        rows = table_of(random, 1, 10)
        taken = [judged([of[:n] for of in rows], "fixed", first=5) for n in range(5, 11)]
        wrong += any(_is(family, "resolved") and not family.findings[0].exploratory for family in taken)
    return wrong


def _edited(tables: int) -> tuple[int, int]:
    """Count tables with a false verdict after an edit: without the mark *exploratory*, and with or without it.

    Each edit is made when all results of the run are there.
    """
    random, unmarked, resolved = np.random.default_rng(8), 0, 0
    declared = Declared(compare=Compare(baseline="baseline", margin=0.3, sequential="split"), seeds=[*range(1, 11)])
    family = [(f"arm {place}", "baseline") for place in (1, 2)]
    start = Line(time="", on="start", results=0, terms=stated(declared, metric=METRIC, family=family))
    for _ in range(tables):
        rows = table_of(random, 2, 10)
        found: list[Finding] = []
        for edited in _edits(declared):
            now = Present(stated(edited, metric=METRIC, family=family), results=sum(map(len, rows)))
            found += _family(rows, edited, frozen(Kept([start]), now)).findings
        wrong = [finding for finding in found if finding.verdict == "resolved"]
        unmarked += any(not finding.exploratory for finding in wrong)
        resolved += bool(wrong)
    return unmarked, resolved


def _edits(declared: Declared) -> Iterator[Declared]:
    """Yield what somebody may declare who has seen the results of two comparisons whose seeds may be added.

    One comparison, also of the two arms with each other; one fixed test; all seeds, or all but one.
    """
    for pair in (["arm 1", "baseline"], ["arm 2", "baseline"], ["arm 1", "arm 2"]):
        for left_out in (None, 1, 2, 3):
            seeds = [seed for seed in declared.all_seeds if seed != left_out]
            yield Declared(compare=Compare(pairs=[pair], margin=0.3, sequential="fixed"), seeds=seeds)


def _failed(tables: int, n: int, failed: int) -> int:
    """Count tables with a false verdict where the seeds with the lowest differences failed."""
    random, wrong = np.random.default_rng(4), 0
    for _ in range(tables):
        base, arm = LEVEL + SD * random.standard_normal((2, n))
        gone = 1 + np.argsort(arm - base)[:failed]
        rows = [rows_of("baseline", base), rows_of("arm", arm, failed=list(map(int, gone)))]
        wrong += _is(judged(rows, "split", first=n), "resolved")
    return wrong


def _at_the_margin(tables: int, rule: Rule) -> int:
    """Count tables with a false *equivalent* among seven comparisons whose true difference is the margin."""
    random, wrong = np.random.default_rng(5), 0
    margin = 1.5 * SD
    for _ in range(tables):
        values = LEVEL + SD * random.standard_normal((8, 10))
        values[1:] += margin
        rows = [rows_of(f"arm {place}" if place else "baseline", one) for place, one in enumerate(values)]
        wrong += _is(judged(rows, rule, first=10, margin=margin), "equivalent")
    return wrong


def _promised(tables: int, contrasts: int, rule: Rule) -> int:
    """Count fresh tables that resolve the smallest difference that a first table of 10 seeds promised to detect."""
    random, kept = np.random.default_rng(7), 0
    for _ in range(tables):
        first = judged(table_of(random, contrasts, 10), rule, first=10).findings[0]
        effect = smallest(first.contrast, contrasts, _protocol(rule, 10))
        fresh = judged(table_of(random, contrasts, 10, effect), rule, first=10)
        kept += fresh.findings[0].verdict == "resolved"
    return kept


def _protocol(rule: Rule, first: int) -> Protocol:
    design = Split(first) if rule == "split" else None
    return replace(Protocol(), sequential=rule, design=design)
