"""The records of a family of contrasts with verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.crossed import Crossed
from tskd_tune.reports.judge.robust import Estimate
from tskd_tune.reports.judge.values import Interval

LEAST_SEEDS = 5

Verdict = Literal["resolved", "equivalent", "undecided", "relevantly better", "relevantly worse", "continue"]
"""The first three by the difference; ``equivalent`` and the last three by the margin."""

By = Literal["difference", "margin"]
"""What a verdict says: whether the difference is not 0, or where the difference lies relative to the margin."""

DECIDED = ("resolved", "equivalent", "relevantly better", "relevantly worse")


@dataclass(frozen=True)
class Evidence:
    """The basis of a verdict: both p values (None where there is no verdict) and the interval to print.

    ``adjusted`` names in words the adjustments of the p values besides Holm; empty for a fixed number of seeds. The
    interval is at the level of the smallest step of Holm's correction, so the intervals of a family hold together.
    ``pending`` says why the first verdict is not due yet; empty where it is.
    """

    p: float | None
    tost_p: float | None
    interval: Interval | None
    adjusted: str = ""
    pending: str = ""


@dataclass(frozen=True)
class Needed:
    """The seeds per arm that decide a comparison with 80 % power, as ranges.

    ``resolve`` seeds detect a true difference as large as the measured one, at Holm's strictest step; by the margin,
    they show on which side of the margin it is. ``equivalence`` seeds show equivalence if the true difference is 0. The
    smaller number of a range takes the measured standard deviation for the true one. The larger number uses its upper
    80 % limit, and keeps the promised power. A number is None where more than 10,000 seeds are needed. A range is None
    where nothing can be planned, and for equivalence where the measured difference is outside the margin.
    """

    resolve: tuple[int | None, int | None] | None
    equivalence: tuple[int | None, int | None] | None


@dataclass(frozen=True)
class Finding:
    """A contrast with its verdict; the verdict is None below five common seeds and before a first verdict is due.

    ``holm_p`` is the evidence's p, adjusted over the family of ``family_size`` contrasts. ``margin_p`` is the
    evidence's TOST p, multiplied by the size of the family. ``needed`` is given only for a contrast without a decision.
    ``exploratory`` tells whether the verdict does not keep the error rate that it was declared with. ``withheld`` is
    the reason why the verdict is undecided whatever the tests show; empty where there is none. ``improvement``
    is the probability that a run of the arm is better than a run of the baseline. ``crossed`` is the difference over
    seeds and images; where it is None, ``crossed_reason`` says why.
    """

    contrast: Contrast
    evidence: Evidence
    family_size: int
    holm_p: float | None
    margin_p: float | None
    verdict: Verdict | None
    needed: Needed | None = None
    exploratory: bool = False
    sentence: str = ""
    withheld: str = ""
    improvement: Estimate | None = None
    crossed: Crossed | None = None
    crossed_reason: str = ""

    @property
    def is_within(self) -> bool:
        """Whether the tests show that the difference is within the margin, for the whole family together."""
        return self.margin_p is not None and self.margin_p <= power.ALPHA

    @property
    def word(self) -> str:
        """The verdict in words, with a mark where it is exploratory; empty without a verdict."""
        return f"{self.verdict}{' (exploratory)' if self.exploratory else ''}" if self.verdict else ""


@dataclass(frozen=True)
class Visible:
    """The smallest differences that a table can detect, with 80 % power at the level that its tests use.

    There is one difference for each of ``contrasts`` contrasts: those with at least five seeds whose differences vary;
    where no contrast has five seeds, those with fewer. ``n`` is the smallest number of seeds of these contrasts.
    ``smallest`` and ``largest`` are the ends over the contrasts, at Holm's strictest step, with the upper 80 % limit of
    each standard deviation, so that the power is at least 80 %. ``fixed_smallest`` and ``fixed_largest`` are those of
    one test with the same seeds, which allows no further seeds. ``sd_low`` and ``sd_high`` are the ends of the measured
    standard deviations.
    """

    n: int
    contrasts: int
    paired: bool
    smallest: float
    largest: float
    fixed_smallest: float
    fixed_largest: float
    sd_low: float
    sd_high: float


@dataclass(frozen=True)
class Family:
    """The contrasts of one table with one Holm correction.

    ``sentence`` is the line under the table. ``exploratory`` says why the verdicts are exploratory; empty otherwise.
    ``by`` is what the verdicts say: whether the difference is not 0, or where it lies relative to the margin.
    """

    findings: tuple[Finding, ...]
    visible: Visible | None
    alpha: float
    margin: float | None
    sentence: str
    exploratory: str = ""
    by: By = "difference"
