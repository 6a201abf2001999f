"""Which differences of one table are real: Holm over its family, a verdict and a sentence for each contrast.

*Resolved*: the paired t test's p, adjusted by Holm over the family, is at most 0.05. Else *equivalent*: two one-sided
tests put the difference within the margin. Else *undecided*. Below five common seeds there is no verdict and no word of
significance. A contrast without a test counts in the family all the same, so that its size is what was declared.

Sources: Holm 1979; Schuirmann 1987 (TOST).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.statistics import MARGIN, Contrast, Interval, Values, contrast

LEAST_SEEDS = 5

Verdict = Literal["resolved", "equivalent", "undecided"]


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made from: both p values (None where there is no verdict) and the interval to print.

    ``adjusted`` says in words what they were adjusted for beside Holm; it is empty for a fixed number of seeds.
    """

    p: float | None
    tost_p: float | None
    interval: Interval | None
    adjusted: str = ""


@dataclass(frozen=True)
class Finding:
    """A contrast with its verdict; None below five common seeds.

    ``holm_p`` is the evidence's p adjusted over the family of ``family_size`` contrasts; its TOST p is not adjusted for
    the family. ``seeds_to_resolve`` are the seeds an arm that find a difference as large as the one measured with 80 %
    power at Holm's strictest step, and ``seeds_to_equivalence`` those that show equivalence where there is no
    difference; both only where undecided, and None where more than 10,000 are needed (the second also where the
    measured difference is outside the margin).
    """

    contrast: Contrast
    evidence: Evidence
    family_size: int
    holm_p: float | None
    verdict: Verdict | None
    seeds_to_resolve: int | None = None
    seeds_to_equivalence: int | None = None
    sentence: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return asdict(self) | {"contrast": self.contrast.plain()}


@dataclass(frozen=True)
class Visible:
    """The smallest difference that a table's design can see, with 80 % power in a two-sided test at 0.05.

    ``sd`` is pooled over ``contrasts`` of the table (the root of their mean variance, weighted by degrees of freedom):
    those whose differences spread over five seeds or more, or over fewer where no contrast has five. ``n`` is the
    fewest seeds among them. ``difference`` is before Holm's correction and ``holm_difference`` at its strictest step.
    """

    n: int
    sd: float
    contrasts: int
    paired: bool
    difference: float
    holm_difference: float


@dataclass(frozen=True)
class Family:
    """The contrasts of one table, judged together; ``sentence`` is the line under the table."""

    findings: tuple[Finding, ...]
    visible: Visible | None
    alpha: float
    margin: float
    sentence: str

    def plain(self) -> dict[str, Any]:
        """Return the family as plain data."""
        return asdict(self) | {"findings": [finding.plain() for finding in self.findings]}


def family(arms: Mapping[str, Values], pairs: Sequence[tuple[str, str]], *, margin: float = MARGIN) -> Family:
    """Compare the arms of one table and judge every difference.

    Args:
        arms: name -> seed -> value, in points; an arm none of whose seeds has finished is an empty mapping.
        pairs: the family as it was declared: (arm, baseline) for each contrast.
        margin: differences within plus or minus this many points count as none.

    Raises:
        InputError: a name is unknown, a contrast is given twice, or a value is not a finite number.
    """
    return judge(contrasts(arms, pairs, margin=margin))


def contrasts(
    arms: Mapping[str, Values], pairs: Sequence[tuple[str, str]], *, margin: float = MARGIN
) -> list[Contrast]:
    """Compare the arms of each pair, (arm, baseline).

    Raises:
        InputError: a name is unknown, a contrast is given twice, or a value is not a finite number.
    """
    _check(arms, pairs)
    return [contrast(arms[name], arms[base], arm=name, baseline=base, margin=margin) for name, base in pairs]


def judge(found: Sequence[Contrast], evidence: Sequence[Evidence] | None = None) -> Family:
    """Judge contrasts as one family, by their own p values or by other evidence, such as that of a look.

    Raises:
        InputError: there is no contrast, or their margins differ.
    """
    margins = {item.margin for item in found}
    if not found:
        raise InputError("family: there is no contrast to judge; give at least one pair of arms")
    if len(margins) > 1:
        raise InputError(f"family: its contrasts must share one margin, got {', '.join(map(str, sorted(margins)))}")
    given = evidence or [Evidence(item.p, item.tost_p, item.interval) for item in found]
    tested = [item.n >= LEAST_SEEDS and one.p is not None for item, one in zip(found, given, strict=True)]
    adjusted = holm([one.p if known and one.p is not None else 1.0 for one, known in zip(given, tested, strict=True)])
    findings = tuple(
        _finding(item, one, p if known else None, len(found))
        for item, one, p, known in zip(found, given, adjusted, tested, strict=True)
    )
    seen = _visible(found)
    return Family(findings, seen, power.ALPHA, margins.pop(), _under_the_table(seen, len(found)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted by Holm's step-down method, in the order given.

    (The same as ``statsmodels.stats.multitest.multipletests``, which collects garbage on every call: 0.1 s each.)
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(p) for p in adjusted]


def _check(arms: Mapping[str, Values], pairs: Sequence[tuple[str, str]]) -> None:
    for pair in pairs:
        for name in pair:
            if name not in arms:
                raise InputError(f"contrast {' - '.join(pair)}: unknown arm '{name}'{did_you_mean(name, arms)}")
        if pair[0] == pair[1]:
            raise InputError(f"contrast {' - '.join(pair)}: an arm cannot be compared with itself")
    unordered = [frozenset(pair) for pair in pairs]
    twice = [pair for pair in pairs if unordered.count(frozenset(pair)) > 1]
    if twice:
        raise InputError(f"contrast {' - '.join(twice[0])}: is in the family twice; name each pair of arms once")


def _finding(item: Contrast, one: Evidence, holm_p: float | None, size: int) -> Finding:
    verdict = _verdict(item, one, holm_p)
    resolve, equivalence = _seeds_needed(item, size) if verdict == "undecided" else (None, None)
    if verdict is None:
        one = replace(one, p=None, tost_p=None)
    finding = Finding(item, one, size, holm_p, verdict, resolve, equivalence)
    return replace(finding, sentence=f"{_measured(item, one.interval)} {_reason(finding)}")


def _verdict(item: Contrast, one: Evidence, holm_p: float | None) -> Verdict | None:
    if item.n < LEAST_SEEDS:
        return None
    if holm_p is not None and holm_p <= power.ALPHA:
        return "resolved"
    return "equivalent" if _is_within(one) else "undecided"


def _is_within(one: Evidence) -> bool:
    return one.tost_p is not None and one.tost_p <= power.ALPHA


def _seeds_needed(item: Contrast, size: int) -> tuple[int | None, int | None]:
    """Return the seeds that would resolve the measured difference, and those that would show equivalence."""
    if not item.sd or item.difference is None:
        return None, None
    alpha = power.ALPHA / size
    resolve = power.seeds_needed(item.difference, item.sd, alpha=alpha, paired=item.paired)
    if abs(item.difference) >= item.margin:
        return resolve, None
    return resolve, power.seeds_for_equivalence(item.margin, item.sd, paired=item.paired)


def _visible(found: Sequence[Contrast]) -> Visible | None:
    spreading = [item for item in found if item.spread == "measured" and item.sd and item.df]
    spreading = [item for item in spreading if item.n >= LEAST_SEEDS] or spreading
    if not spreading:
        return None
    n, paired = min(item.n for item in spreading), any(item.paired for item in spreading)
    weights = [item.df or 0.0 for item in spreading]
    squares = [weight * (item.sd or 0.0) ** 2 for weight, item in zip(weights, spreading, strict=True)]
    sd = math.sqrt(sum(squares) / sum(weights))
    plain, strict = (
        power.smallest_difference(sd, n, alpha=alpha, paired=paired)
        for alpha in (power.ALPHA, power.ALPHA / len(found))
    )
    return Visible(n, sd, len(spreading), paired, plain, strict)


# Words


def points(value: float) -> str:
    """Return a difference with its sign and unit: ``+0.42 points``."""
    return f"{_signed(value)} points"


def p_text(p: float) -> str:
    """Return ``p = 0.0123``, or ``p < 0.0001``."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.3g}"


def seeds_text(n: int | None) -> str:
    """Return a number of seeds in words: ``9 seeds``, ``1 seed``, or that too many would be needed."""
    return f"more than {power.MOST_SEEDS:,} seeds" if n is None else f"{n:,} seed{'' if n == 1 else 's'}"


def _signed(value: float) -> str:
    text = f"{value:+.2f}"
    return "+0.00" if text == "-0.00" else text


def _measured(item: Contrast, interval: Interval | None) -> str:
    """Say what was measured: the difference, its interval, over how many seeds, and which seeds do not count."""
    head = f"'{item.arm}' against '{item.baseline}'"
    if item.difference is None:
        return f"{head}: no seed has finished in both arms{_lacking(item)}."
    how = f"{seeds_text(item.n)}, paired" if item.paired else f"{seeds_text(item.n)} an arm, unpaired: none is shared"
    if interval:
        ends = f"{_signed(interval.low)} to {_signed(interval.high)}"
        how = f"{100 * interval.level:.4g} % interval {ends}, {how}"
    return f"{head}: {points(item.difference)} ({how}{_sameness(item)}{_lacking(item)})."


def _sameness(item: Contrast) -> str:
    if item.spread not in ("identical", "constant"):
        return ""
    if not item.paired:
        return ", no spread in either arm"
    return f", the same {'value' if item.spread == 'identical' else 'difference'} in every seed"


def _lacking(item: Contrast) -> str:
    """Name the seeds of one arm that the other lacks; unpaired arms share none, and all of them count."""
    if not item.paired:
        return ""
    said = [
        f"; seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))} only in '{name}', not counted"
        for name, seeds in ((item.arm, item.only_arm), (item.baseline, item.only_baseline))
        if seeds
    ]
    return "".join(said)


def _reason(finding: Finding) -> str:
    """Say the verdict and why."""
    if finding.verdict is None:
        return "No verdict."
    if finding.verdict == "resolved":
        small = f" It is small all the same: {_within(finding)}." if _is_within(finding.evidence) else ""
        return f"Resolved: seeds alone would hardly give this ({_tests(finding)}).{small}"
    if finding.verdict == "undecided":
        return _undecided(finding)
    check = " Check that what tells the arms apart reaches the training."
    return f"Equivalent: {_within(finding)}.{check if finding.contrast.spread == 'identical' else ''}"


def without_verdict(found: Family) -> list[str]:
    """Return a sentence on why contrasts have no verdict, if any has none: the same for all, so it is said once."""
    if all(finding.verdict for finding in found.findings):
        return []
    return [f"A verdict needs {LEAST_SEEDS} common seeds; until then this is a smoke run."]


def _within(finding: Finding) -> str:
    return f"the difference is within ±{finding.contrast.margin:g} points ({_tost(finding.evidence)})"


def _tost(one: Evidence) -> str:
    return f"TOST{one.adjusted}: {p_text(one.tost_p)}" if one.tost_p is not None else "no TOST"


def _tests(finding: Finding) -> str:
    """Say the adjusted p, and the sign flips' beside it with the smallest that as many seeds can reach."""
    item, size = finding.contrast, finding.family_size
    name = "sign flips" if item.t_p is None else "paired t test" if item.paired else "Welch's t test"
    over = f"Holm over {size} contrasts" if size > 1 else "a single contrast"
    said = f"{name}, {over}{finding.evidence.adjusted}: {p_text(finding.holm_p)}" if finding.holm_p is not None else ""
    if item.sign_flip_p is None:
        return said
    best = f"{seeds_text(item.n)} reach {item.sign_flip_smallest:.3g} at best"
    return f"{said}; {item.sign_flip_method} sign flips: {p_text(item.sign_flip_p)}, {best}"


def _undecided(finding: Finding) -> str:
    """Say that neither was shown, and how many seeds would show one."""
    item = finding.contrast
    if finding.holm_p is None:
        flat = "neither arm spreads over its seeds" if item.spread != "measured" else "this is a look"
        return f"Undecided: {flat}, so unpaired arms have no test."
    said = (
        f"Undecided: neither a difference is shown ({_tests(finding)}) "
        f"nor that it is within ±{item.margin:g} points ({_tost(finding.evidence)})."
    )
    return " ".join([said, *_needed(finding)])


def _needed(finding: Finding) -> list[str]:
    """Say how many seeds would show a difference as large as this one, and how many would show that there is none.

    At a look the first may be fewer than there are, as it knows of no looks; then it is not said.
    """
    item, resolve, equivalence = finding.contrast, finding.seeds_to_resolve, finding.seeds_to_equivalence
    if not item.sd:
        return []
    where = "in all" if item.paired else "in each arm"
    said = []
    if resolve is None or resolve > item.n:
        said = [f"With 80 % power, a difference of this size needs {seeds_text(resolve)} {where}."]
    if abs(item.difference or 0.0) >= item.margin:
        return said
    if equivalence is not None and equivalence <= item.n:
        return [*said, f"Were there none, {seeds_text(item.n)} would likely have shown equivalence."]
    return [*said, f"Were there none, {seeds_text(equivalence)} would show equivalence with 80 % power."]


def _under_the_table(seen: Visible | None, size: int) -> str:
    if seen is None:
        return "No difference spreads over seeds, so the smallest difference that this design can see is unknown."
    strictest = f", {seen.holm_difference:.2f} at the strictest step of Holm over {size} contrasts" if size > 1 else ""
    pooled = f" pooled over {seen.contrasts} contrasts" if seen.contrasts > 1 else ""
    return (
        f"This design can see differences of {seen.difference:.2f} points or more{strictest} (80 % power, two-sided "
        f"{'paired' if seen.paired else 'unpaired'} t test at 0.05, {seeds_text(seen.n)} an arm, "
        f"sd of the differences {seen.sd:.2f}{pooled})."
    )
