"""The sentences of verdicts: the measured difference, the verdict, and how many seeds would be needed to decide."""

from __future__ import annotations

from tskd_tune.metrics import Metric
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.records import LEAST_SEEDS, Evidence, Family, Finding, Visible
from tskd_tune.reports.judge.values import Interval
from tskd_tune.reports.judge.words import difference_text, p_text, seeds_text, signed, with_unit

LOWER = "lower is better"


def title_of(item: Contrast) -> str:
    """Return the name of a contrast: ``'kd' against 'ce'``."""
    return f"'{item.arm}' against '{item.baseline}'"


def sentence_of(finding: Finding, metric: Metric) -> str:
    """Return the measured difference of a finding, then the verdict and its reason, in words."""
    return f"{_measured(finding.contrast, finding.evidence.interval, metric)} {_reason(finding, metric)}"


def _measured(item: Contrast, interval: Interval | None, metric: Metric) -> str:
    """Say what was measured: the difference, its interval, the number of seeds, and the seeds that do not count."""
    head = title_of(item)
    if item.difference is None:
        return f"{head}: no seed has finished in both arms{_lacking(item)}."
    how = (
        f"{seeds_text(item.n)}, paired" if item.paired else f"{seeds_text(item.n)} per arm, unpaired: no seed is shared"
    )
    if interval:
        ends = f"{signed(interval.low, metric)} to {signed(interval.high, metric)}"
        how = f"{100 * interval.level:.4g} % interval {ends}, {how}"
    if metric.mode == "min":
        how = f"{LOWER}; {how}"
    return f"{head}: {difference_text(item.difference, metric)} ({how}{_sameness(item)}{_lacking(item)})."


def _sameness(item: Contrast) -> str:
    if item.spread not in ("identical", "constant"):
        return ""
    if not item.paired:
        return ", no variation in either arm"
    return f", the same {'value' if item.spread == 'identical' else 'difference'} in every seed"


def _lacking(item: Contrast) -> str:
    """Name the seeds that only one of two paired arms has. In unpaired arms all seeds count."""
    if not item.paired:
        return ""
    said = [
        f"; seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))} only in '{name}', not counted"
        for name, seeds in ((item.arm, item.only_arm), (item.baseline, item.only_baseline))
        if seeds
    ]
    return "".join(said)


def _reason(finding: Finding, metric: Metric) -> str:
    """Say the verdict and the reason."""
    if finding.verdict is None:
        return "No verdict."
    if finding.verdict == "resolved":
        return f"Resolved: seed noise is an unlikely cause ({_tests(finding)}).{_small(finding, metric)}"
    if finding.verdict == "undecided":
        return _undecided(finding, metric)
    check = " Check that the option in which the arms differ reaches the training."
    return f"Equivalent: {_within(finding, metric)}.{check if finding.contrast.spread == 'identical' else ''}"


def _small(finding: Finding, metric: Metric) -> str:
    """Say that a resolved difference is within the margin; empty where the difference is outside."""
    if not finding.evidence.is_within:
        return ""
    margin = margin_text(finding.contrast.margin, metric)
    return f" The difference is small: it is within {margin} ({_tost(finding.evidence)})."


def without_verdict(found: Family) -> list[str]:
    """Return one sentence on why contrasts have no verdict; no sentence where all have a verdict."""
    if all(finding.verdict for finding in found.findings):
        return []
    return [f"A verdict needs {LEAST_SEEDS} common seeds; until then this is a smoke run."]


def _within(finding: Finding, metric: Metric) -> str:
    return f"the difference is within {margin_text(finding.contrast.margin, metric)} ({_tost(finding.evidence)})"


def margin_text(margin: float | None, metric: Metric) -> str:
    """Return a margin with its unit: ``±0.3 points``."""
    return "no margin" if margin is None else with_unit(f"±{margin:g}", metric)


def _tost(one: Evidence) -> str:
    return f"TOST{one.adjusted}: {p_text(one.tost_p)}" if one.tost_p is not None else "no TOST"


def _tests(finding: Finding) -> str:
    """Say the adjusted p, the p of the sign flips, and the smallest p that sign flips can reach with these seeds."""
    item, size = finding.contrast, finding.family_size
    name = "sign flips" if item.t_p is None else "paired t test" if item.paired else "Welch's t test"
    over = f"Holm over {size} comparisons" if size > 1 else "a single comparison"
    said = f"{name}, {over}{finding.evidence.adjusted}: {p_text(finding.holm_p)}" if finding.holm_p is not None else ""
    if item.sign_flip_p is None:
        return said
    best = f"{seeds_text(item.n)} reach {item.sign_flip_smallest:.3g} at best"
    return f"{said}; {item.sign_flip_method} sign flips: {p_text(item.sign_flip_p)}, {best}"


def _undecided(finding: Finding, metric: Metric) -> str:
    """Say that neither a difference nor equivalence was shown, and how many seeds would show one of them."""
    item = finding.contrast
    if finding.holm_p is None:
        flat = "neither arm varies over its seeds" if item.spread != "measured" else "this is an interim analysis"
        return f"Undecided: {flat}, so unpaired arms have no test."
    if item.margin is None:
        said = f"Undecided: no difference is shown ({_tests(finding)})."
    else:
        said = (
            f"Undecided: no difference is shown ({_tests(finding)}) "
            f"and no equivalence within {margin_text(item.margin, metric)} ({_tost(finding.evidence)})."
        )
    return " ".join([said, *_needed(finding)])


def _needed(finding: Finding) -> list[str]:
    """Say how many seeds would show a difference as large as this one, and how many would show equivalence.

    The first number does not account for interim analyses. At an interim analysis this number can be smaller than the
    number of seeds so far; then it is left out.
    """
    item, resolve, equivalence = finding.contrast, finding.seeds_to_resolve, finding.seeds_to_equivalence
    if not item.sd:
        return []
    where = "in all" if item.paired else "in each arm"
    said = []
    if resolve is None or resolve > item.n:
        said = [f"With 80 % power, a difference of this size needs {seeds_text(resolve)} {where}."]
    if item.margin is None or abs(item.difference or 0.0) >= item.margin:
        return said
    if equivalence is not None and equivalence <= item.n:
        return [*said, f"If the true difference were 0, {seeds_text(item.n)} would likely have shown equivalence."]
    return [*said, f"If the true difference is 0, {seeds_text(equivalence)} show equivalence with 80 % power."]


def under_the_table(seen: Visible | None, size: int, metric: Metric) -> str:
    """Return the line under a table: the smallest difference that its design detects."""
    if seen is None:
        return "No difference varies over seeds, so the smallest difference that this design detects is unknown."
    digits = metric.digits
    strictest = f", {seen.holm_difference:.{digits}f} after the strictest Holm correction over {size} comparisons"
    pooled = f" pooled over {seen.contrasts} comparisons" if seen.contrasts > 1 else ""
    smallest = with_unit(f"{seen.difference:.{digits}f}", metric)
    return (
        f"This design detects differences of {smallest} or more{strictest if size > 1 else ''} (80 % power, two-sided "
        f"{'paired' if seen.paired else 'unpaired'} t test at 0.05, {seeds_text(seen.n)} per arm, "
        f"standard deviation of the differences {seen.sd:.{digits}f}{pooled})."
    )
