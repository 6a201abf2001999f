"""Words for the numbers that a report, a table and the command line print."""

from __future__ import annotations

from tskd_tune.plain import Json
from tskd_tune.reports.findings.records import ArmFindings, Statistic
from tskd_tune.reports.findings.scale import MARK, cut
from tskd_tune.reports.forms.short import MISSING
from tskd_tune.reports.judge.robust import Estimate
from tskd_tune.reports.judge.values import Interval

# A figure shows at most this many arms; a figure with more arms is not readable.
MOST_ARMS = 8


def spread(found: Statistic, digits: int = 2) -> str:
    """Return ``71.20 ± 0.31 (5 seeds)``, ``(3 of 5 seeds)`` where some are missing, or ``71.20 (one seed, no spread)``.

    Where nothing was measured, return a dash.
    """
    if found.mean is None:
        return MISSING
    if found.sd is None:
        return (
            f"{found.mean:.{digits}f} (one{f' of {found.of} seeds' if found.of > found.n else ' seed'}, no standard"
            " deviation)"
        )
    seeds = f"{found.n} of {found.of}" if found.of > found.n else found.n
    return f"{found.mean:.{digits}f} ± {found.sd:.{digits}f} ({seeds} seeds)"


def estimate(found: Estimate | None, digits: int = 2) -> str:
    """Return ``71.20 (70.91 to 71.44)``: a value with its bootstrap interval, if there is one; a dash for None."""
    if found is None:
        return MISSING
    ends = f" ({found.low:.{digits}f} to {found.high:.{digits}f})" if found.low is not None else ""
    return f"{found.value:.{digits}f}{ends}"


def weight(found: Statistic) -> str:
    """Return lambda to three digits; its mean and standard deviation where lambda was determined for each seed."""
    if found.mean is None:
        return MISSING
    return f"{found.mean:.3g}" + (f" ± {found.sd:.2g}" if found.sd else "")


def value_text(value: Json, form: str = ".4g") -> str:
    """Return a value as short text: floats with four digits or in the format ``form``, None as a dash."""
    return f"{value:{form}}" if isinstance(value, float) else MISSING if value is None else str(value)


def interval(arm: ArmFindings, digits: int = 2) -> str:
    """Return ``70.82 to 71.58``, the interval of an arm's headline; a dash where there is none."""
    return interval_text(arm.statistics.interval, beyond=arm.beyond, digits=digits)


def interval_text(found: Interval | None, *, beyond: bool = False, digits: int = 2) -> str:
    """Return an interval as text. An interval beyond the scale of a percentage is cut at the end and marked."""
    if found is None:
        return MISSING
    low, high = cut(found.low, found.high) if beyond else (found.low, found.high)
    return f"{low:.{digits}f} to {high:.{digits}f}{f' {MARK}' if beyond else ''}"
