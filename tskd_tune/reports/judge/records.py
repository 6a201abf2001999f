"""The records of a judged family of contrasts."""

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
    """What a verdict is made from: both p values (None where there is no verdict) and the interval to print.

    ``adjusted`` says in words what they were adjusted for beside Holm; it is empty for a fixed number of seeds.
    """

    p: float | None
    tost_p: float | None
    interval: Interval | None
    adjusted: str = ""

    @property
    def is_within(self) -> bool:
        """Whether the tests put the difference within the margin."""
        return self.tost_p is not None and self.tost_p <= power.ALPHA


@dataclass(frozen=True)
class Finding:
    """A contrast with its verdict; None below five common seeds.

    ``holm_p`` is the evidence's p adjusted over the family of ``family_size`` contrasts; its TOST p is not adjusted for
    the family. ``seeds_to_resolve`` are the seeds per arm that find a difference as large as the one measured with 80 %
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
    margin: float | None
    sentence: str
