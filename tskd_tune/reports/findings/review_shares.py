"""How much of the time of an arm its epochs with a review took, which only the histories tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.reports.findings.summary import Findings


def with_review_shares(run: RunFolder, found: Findings) -> Findings:
    """Return the findings of a run with the share of the epochs with a review in its costs; reads histories.

    Raises:
        RunError: a history cannot be read.
    """
    shares = {
        arm.arm: review_share(line for trial in arm.runs for line in run.history(trial))
        for arm in found.arms
        if arm.reviewed
    }
    return replace(found, costs=tuple(replace(cost, review_share=shares.get(cost.arm)) for cost in found.costs))


def review_share(history: Iterable[HistoryLine]) -> float | None:
    """Return the part of the seconds of epochs that belongs to epochs with a review; None where no seconds are known.

    >>> lines = [HistoryLine(1, 0, "general", {"seconds": 2.0}), HistoryLine(1, 1, "review", {"seconds": 6.0})]
    >>> review_share(lines)
    0.75
    """
    whole = reviewed = 0.0
    for line in history:
        seconds = line.number("seconds") or 0.0
        whole += seconds
        reviewed += seconds if "review" in (line.phase or "") else 0.0
    return reviewed / whole if whole else None
