"""How a table is judged: whether seeds may be added, what a verdict says, and at which level a test is planned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tskd_tune.reports.judge.always_valid import Design, Looks, Split
from tskd_tune.reports.judge.records import By
from tskd_tune.reports.judge.words import listed

Sequential = Literal["split", "looks", "fixed", "obrien_fleming"]
"""The rule for adding seeds. ``obrien_fleming`` is that of interim analyses in runs of earlier versions."""


@dataclass(frozen=True)
class Marks:
    """Which verdicts do not keep the error rate that was declared.

    Attributes:
        why: why all verdicts are exploratory, as a sentence; empty where they are not.
        late: the comparisons, (arm, baseline), whose verdicts are exploratory in any case: nobody declared them before
            there were results.
    """

    why: str = ""
    late: frozenset[tuple[str, str]] = frozenset()

    def cover(self, arm: str, baseline: str) -> bool:
        """Tell whether the verdict of a comparison is exploratory."""
        return bool(self.why) or (arm, baseline) in self.late


NO_MARKS = Marks()


@dataclass(frozen=True)
class Protocol:
    """How a table is judged.

    Attributes:
        sequential: the rule for adding seeds.
        by: what a verdict says.
        design: the tests of ``split`` and ``looks``; None for the other rules.
        marks: which verdicts are exploratory, and why.
    """

    sequential: Sequential = "fixed"
    by: By = "difference"
    design: Design | None = None
    marks: Marks = NO_MARKS

    def level(self, alpha: float) -> Callable[[int], float]:
        """Return the two-sided level of the t test with n pairs, with which a verdict with n pairs is planned.

        Args:
            alpha: the level of all tests of one comparison together.
        """
        design = self.design
        if design is None:
            return lambda n: alpha
        first = design.first if isinstance(design, Split) else 0
        return lambda n: design.level(max(n, first), alpha)

    @property
    def adjusted(self) -> str:
        """What p values are adjusted for besides Holm, in words that follow a comma."""
        if isinstance(self.design, Looks) and len(self.design.at) > 1:
            return f", adjusted for {len(self.design.at)} interim analyses"
        return ", valid when seeds are added" if isinstance(self.design, Split) else ""

    @property
    def note(self) -> str:
        """Say in a sentence whether seeds may be added; empty for the rule of earlier versions."""
        if isinstance(self.design, Split):
            return (
                "Seeds may be added at any time, with `tskd-tune extend`: of the error rate of 5 %, 3 % are for the"
                f" first verdict, at {self.design.first} seeds, and 2 % for all later ones."
            )
        if isinstance(self.design, Looks):
            return f"The error rate covers tests at {listed(self.design.at)} seeds, and no other tests."
        return ""


FIXED = Protocol()
