"""The sentences of verdicts: the measured difference, the verdict, and how many seeds would be needed to decide."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.metrics import Metric
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.always_valid import Split
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.protocol import FIXED, Protocol
from tskd_tune.reports.judge.records import DECIDED, LEAST_SEEDS, Family, Finding, Visible
from tskd_tune.reports.judge.values import Interval
from tskd_tune.reports.judge.words import difference_text, p_text, range_text, seeds_text, signed, with_unit

LOWER = "lower is better"


def title_of(item: Contrast) -> str:
    """Return the name of a contrast: ``'kd' against 'ce'``."""
    return f"'{item.arm}' against '{item.baseline}'"


def sentence_of(finding: Finding, metric: Metric, protocol: Protocol = FIXED) -> str:
    """Return the measured difference of a finding, then the verdict and its reason, in words."""
    return f"{measured(finding.contrast, finding.evidence.interval, metric)} {_reason(finding, metric, protocol)}"


def measured(item: Contrast, interval: Interval | None, metric: Metric) -> str:
    """Say what was measured: the difference, its interval, the number of seeds, and the seeds that do not count."""
    head = title_of(item)
    if item.difference is None:
        return f"{head}: no seed has finished in both arms{_lacking(item)}."
    how = f"{seeds_text(item.n)} per arm, unpaired: no seed is shared"
    if item.paired:
        under = f" under each of {item.teachers.count} teachers" if item.teachers else ""
        how = f"{seeds_text(item.n)}{under}, paired"
    if interval:
        how = f"{100 * interval.level:.4g} % interval {ends_text(interval, metric)}, {how}"
    if metric.mode == "min":
        how = f"{LOWER}; {how}"
    return f"{head}: {difference_text(item.difference, metric)} ({how}{_sameness(item)}{_lacking(item)})."


def ends_text(interval: Interval, metric: Metric) -> str:
    """Return the ends of an interval: ``+0.10 to +0.50``, or ``above 0 to +0.50`` where 0 is excluded."""
    low, high = signed(interval.low, metric), signed(interval.high, metric)
    if interval.excludes is not None:
        return f"above 0 to {high}" if interval.high > 0 else f"{low} to below 0"
    return f"{low} to {high}"


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


def _reason(finding: Finding, metric: Metric, protocol: Protocol) -> str:
    """Say the verdict and the reason."""
    if finding.verdict is None:
        return f"No verdict{f': {finding.evidence.pending}' if finding.evidence.pending else ''}."
    word = f"{finding.word[0].upper()}{finding.word[1:]}"
    if finding.verdict == "resolved":
        noise = "the noise of teachers and seeds" if finding.contrast.teachers else "seed noise"
        cause = f"{noise} is an unlikely cause"
        return f"{word}: {_which(finding.contrast, metric)}; {cause} ({_tests(finding)}).{_small(finding, metric)}"
    check = " Check that the option in which the arms differ reaches the training."
    said = (
        _decided(finding, word, metric) if finding.verdict in DECIDED else _undecided(finding, word, metric, protocol)
    )
    return f"{said}{check if finding.contrast.spread == 'identical' and finding.holm_p is not None else ''}"


def _which(item: Contrast, metric: Metric) -> str:
    """Say which arm is better, and by how much: ``'kd' is better by 0.42 points``."""
    difference = item.difference or 0.0
    better = (difference > 0) == (metric.mode == "max")
    text = f"{abs(difference):.{metric.digits}f}"
    amount = with_unit(text if float(text) else f"less than {10.0**-metric.digits:.{metric.digits}f}", metric)
    return f"'{item.arm}' is {'better' if better else 'worse'} by {amount}"


def _decided(finding: Finding, word: str, metric: Metric) -> str:
    """Say that a difference is shown to be within the margin, or beyond it."""
    item = finding.contrast
    if finding.verdict == "equivalent":
        return f"{word}: {_within(finding, metric)}."
    return f"{word}: {_which(item, metric)}, and the whole interval is beyond {margin_text(item.margin, metric)}."


def _small(finding: Finding, metric: Metric) -> str:
    """Say that a resolved difference is within the margin; empty where the difference is outside."""
    if not finding.is_within:
        return ""
    margin = margin_text(finding.contrast.margin, metric)
    return f" The difference is small: it is within {margin} ({_tost(finding)})."


def without_verdict(found: Family) -> list[str]:
    """Return one sentence on why contrasts have no verdict; no sentence where all have a verdict."""
    if all(finding.verdict or finding.evidence.pending for finding in found.findings):
        return []
    return [f"A verdict needs {LEAST_SEEDS} common seeds; until then this is a smoke run."]


def _within(finding: Finding, metric: Metric) -> str:
    return f"the difference is within {margin_text(finding.contrast.margin, metric)} ({_tost(finding)})"


def margin_text(margin: float | None, metric: Metric) -> str:
    """Return a margin with its unit: ``±0.3 points``."""
    return "no margin" if margin is None else with_unit(f"±{margin:g}", metric)


def _tost(finding: Finding) -> str:
    if finding.margin_p is None:
        return "no TOST"
    over = f" for {finding.family_size} comparisons" if finding.family_size > 1 else ""
    return f"TOST{over}{finding.evidence.adjusted}: {p_text(finding.margin_p)}"


def _tests(finding: Finding) -> str:
    """Say the adjusted p, the p of the sign flips, and the smallest p that sign flips can reach with these seeds."""
    item, size = finding.contrast, finding.family_size
    name = "sign flips" if item.t_p is None else "paired t test" if item.paired else "Welch's t test"
    over = f"Holm over {size} comparisons" if size > 1 else "a single comparison"
    said = f"{name}, {over}{finding.evidence.adjusted}: {p_text(finding.holm_p)}" if finding.holm_p is not None else ""
    if item.sign_flip_p is None or item.teachers is not None:
        return said
    best = f"{seeds_text(item.n)} reach {item.sign_flip_smallest:.3g} at best"
    return f"{said}; {_flips(item)}: {p_text(item.sign_flip_p)}, {best}"


def _flips(item: Contrast) -> str:
    """Name the sign flips with their method: ``exact sign flips``, or ``sign flips (Monte Carlo, 99,999 flips)``."""
    method = item.sign_flip_method
    return "exact sign flips" if method == "exact" else f"sign flips ({method})"


def _undecided(finding: Finding, word: str, metric: Metric, protocol: Protocol) -> str:
    """Say that neither a difference nor equivalence was shown, and how many seeds would show one of them."""
    item = finding.contrast
    if finding.holm_p is None:
        flat = "neither arm varies over its seeds" if item.spread != "measured" else _once(protocol)
        return f"{word}: {flat}, so unpaired arms have no test."
    if finding.verdict == "continue":
        said = f"{word}: the interval is neither within {margin_text(item.margin, metric)} nor beyond."
    elif item.margin is None:
        said = f"{word}: no difference is shown ({_tests(finding)})."
    else:
        said = (
            f"{word}: no difference is shown ({_tests(finding)}) "
            f"and no equivalence within {margin_text(item.margin, metric)} ({_tost(finding)})."
        )
    return " ".join([said, *_planned(finding, protocol)])


def _once(protocol: Protocol) -> str:
    return "seeds were added" if isinstance(protocol.design, Split) else "this is an interim analysis"


def _planned(finding: Finding, protocol: Protocol) -> list[str]:
    """Say how many seeds would show a difference as large as this one, and how many would show equivalence.

    Numbers that the comparison has already are left out. Only a run that may be extended is advised to be.
    """
    item, plan = finding.contrast, finding.needed
    if item.teachers is not None:
        return [
            "How many seeds would decide is not planned: more seeds do not reduce the variance between teachers, and so"
            " few teachers do not tell how many teachers would."
        ]
    if plan is None:
        return []
    where = "in all" if item.paired else "in each arm"
    where = where if isinstance(protocol.design, Split) else f"{where}, in a new run"
    said = []
    if plan.resolve is not None and not _there(plan.resolve, item):
        what = "to show on which side of the margin it is, " if finding.verdict == "continue" else ""
        said = [f"With 80 % power, a difference of this size needs {what}{_more(plan.resolve, item)} {where}."]
    if plan.equivalence is None:
        return said
    if _there(plan.equivalence, item):
        return [*said, f"If the true difference were 0, {seeds_text(item.n)} would likely have shown equivalence."]
    needed = _more(plan.equivalence, item)
    return [*said, f"If the true difference is 0, {needed} show equivalence with 80 % power."]


def _more(needed: tuple[int | None, int | None], item: Contrast) -> str:
    """Return a range of needed seeds in words; its lower end is above the number of seeds that are there."""
    low, high = needed
    return range_text(None if low is None else max(low, item.n + 1), high)


def _there(needed: tuple[int | None, int | None], item: Contrast) -> bool:
    """Tell whether a comparison has the larger number of needed seeds already."""
    return needed[1] is not None and needed[1] <= item.n


def under_the_table(seen: Visible | None, found: Sequence[Contrast], metric: Metric, protocol: Protocol = FIXED) -> str:
    """Return the line under a table: the smallest difference that its design detects, and that of one fixed test."""
    size = len(found)
    if seen is None and any(item.teachers for item in found):
        return (
            "The smallest difference that this design detects is not planned: it depends on the variance between"
            " teachers, which so few teachers do not tell."
        )
    if seen is None and all(item.n < 2 for item in found):
        return "No comparison has two common seeds, so the smallest difference that this design detects is unknown."
    if seen is None:
        return "No difference varies over seeds, so the smallest difference that this design detects is unknown."
    over = f", after the strictest Holm correction over {size} comparisons" if size > 1 else ""
    sds = _range(seen.sd_low, seen.sd_high, metric)
    beyond = _beyond(seen.smallest, seen.largest, metric)
    detects = beyond or f"differences of {with_unit(_range(seen.smallest, seen.largest, metric), metric)} or more"
    more = " Train more seeds, with `tskd-tune extend`." if beyond else ""
    said = (
        f"This design detects {detects} (80 % power{over}, two-sided"
        f" {'paired' if seen.paired else 'unpaired'} t test at {power.ALPHA:g}{protocol.adjusted},"
        f" {seeds_text(seen.n)} per arm, standard deviation of the differences {sds}, taken at its"
        f" upper 80 % limit).{more}"
    )
    if protocol.design is not None:
        low, high = seen.fixed_smallest, seen.fixed_largest
        fixed = _beyond(low, high, metric) or with_unit(_range(low, high, metric), metric)
        said += f" One test of these seeds, without further seeds, would detect {fixed}."
    if any(item.teachers for item in found):
        said += " This is not planned for the comparisons under several teachers, which do not tell their variance."
    return said


def _beyond(low: float, high: float, metric: Metric) -> str:
    """Say what is detected where the smallest difference is larger than any that can be; otherwise return no text."""
    bounds = metric.bounds
    if bounds is None or high <= bounds[1] - bounds[0]:
        return ""
    most = with_unit(f"{bounds[1] - bounds[0]:g}", metric)
    if low > bounds[1] - bounds[0]:
        return f"no difference: even one of {most}, the largest that there can be, is too small"
    least = with_unit(_range(low, low, metric), metric)
    return f"differences of {least} or more in one comparison, and in another not even {most}, the largest there can be"


def _range(low: float, high: float, metric: Metric) -> str:
    ends = [f"{value:.{metric.digits}f}" for value in (low, high)]
    return " to ".join(dict.fromkeys(ends))
