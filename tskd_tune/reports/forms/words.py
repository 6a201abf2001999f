"""Words for numbers: what a report, a table and the command line print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tskd_tune.reports.findings.scale import MARK, cut

MISSING = "—"
# A figure of more arms than this could not be read.
MOST_ARMS = 8


def spread(statistic: Mapping[str, Any], digits: int = 2) -> str:
    """Return ``71.20 ± 0.31 (5 seeds)``, ``(3 of 5 seeds)`` where some are missing, or ``71.20 (one seed, no spread)``.

    Where nothing was measured it is a dash.
    """
    if statistic["mean"] is None:
        return MISSING
    n, of = statistic["n"], statistic.get("of", statistic["n"])
    if statistic["sd"] is None:
        return f"{statistic['mean']:.{digits}f} (one{f' of {of} seeds' if of > n else ' seed'}, no spread)"
    seeds = f"{n} of {of}" if of > n else n
    return f"{statistic['mean']:.{digits}f} ± {statistic['sd']:.{digits}f} ({seeds} seeds)"


def duration(seconds: float | None) -> str:
    """Return seconds in the unit that a person would use."""
    if seconds is None:
        return MISSING
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def weight(statistic: Mapping[str, Any]) -> str:
    """Return lambda to three digits; its mean and spread over seeds where it was found anew for each."""
    if statistic["mean"] is None:
        return MISSING
    return f"{statistic['mean']:.3g}" + (f" ± {statistic['sd']:.2g}" if statistic["sd"] else "")


def value_text(value: Any, form: str = ".4g") -> str:
    """Return a value in short: floats to four digits unless ``form`` says otherwise, nothing as a dash."""
    return f"{value:{form}}" if isinstance(value, float) else MISSING if value is None else str(value)


def metric_title(name: str) -> str:
    """Return the title of a metric's column: ``test_top1`` is ``test top-1 (%)``."""
    title = name.replace("_", " ").replace("top", "top-")
    return f"{title} (%)" if "top" in name else title


def interval(statistic: Mapping[str, Any], digits: int = 2) -> str:
    """Return ``70.82 to 71.58``, the interval of an arm's statistics; a dash where there is none.

    One that leaves the scale of a percentage (``beyond``) is cut at the end of the scale, and marked.
    """
    found = statistic["interval"]
    if found is None:
        return MISSING
    if not statistic.get("beyond"):
        return f"{found['low']:.{digits}f} to {found['high']:.{digits}f}"
    low, high = cut(found["low"], found["high"])
    return f"{low:.{digits}f} to {high:.{digits}f} {MARK}"
