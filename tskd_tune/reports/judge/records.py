"""The records of a family of contrasts with verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.values import Interval

LEAST_SEEDS = 5

Verdict = Literal["resolved", "equivalent", "undecided"]


@dataclass(frozen=True)
class Evidence:
    """The basis of a verdict: both p values (None where there is no verdict) and the interval to print.

    ``adjusted`` names in words the adjustments of the p values besides Holm; empty for a fixed number of seeds.
    """

    p: float | None
    tost_p: float | None
    interval: Interval | None
    adjusted: str = ""

    @property
    def is_within(self) -> bool:
        """Whether the tests show that the difference is within the margin."""
        return self.tost_p is not None and self.tost_p <= power.ALPHA


@dataclass(frozen=True)
class Finding:
    """A contrast with its verdict; the verdict is None below five common seeds.

    ``holm_p`` is the evidence's p, adjusted over the family of ``family_size`` contrasts. The TOST p is not adjusted
    for the family. ``seeds_to_resolve`` are the seeds per arm that detect a difference as large as the measured one,
    with 80 % power at Holm's strictest step. ``seeds_to_equivalence`` are the seeds per arm that show equivalence if
    the true difference is 0. Both are given only for an undecided contrast, and are None where more than 10,000 seeds
    are needed. ``seeds_to_equivalence`` is also None where the measured difference is outside the margin.
    """

    contrast: Contrast
    evidence: Evidence
    family_size: int
    holm_p: float | None
    verdict: Verdict | None
    seeds_to_resolve: int | None = None
    seeds_to_equivalence: int | None = None
    sentence: str = ""


@dataclass(frozen=True)
class Visible:
    """The smallest difference that a table's design can detect, with 80 % power in a two-sided test at 0.05.

    ``sd`` is pooled over ``contrasts`` contrasts of the table: the root of their mean variance, weighted by degrees of
    freedom. These are the contrasts with at least five seeds whose differences vary; where no contrast has five seeds,
    the contrasts with fewer. ``n`` is the smallest number of seeds of these contrasts. ``difference`` is before Holm's
    correction, and ``holm_difference`` is at Holm's strictest step.
    """

    n: int
    sd: float
    contrasts: int
    paired: bool
    difference: float
    holm_difference: float


@dataclass(frozen=True)
class Family:
    """The contrasts of one table with one Holm correction; ``sentence`` is the line under the table."""

    findings: tuple[Finding, ...]
    visible: Visible | None
    alpha: float
    margin: float | None
    sentence: str
