"""The declared interim analyses of a run: how many seeds have ended in every arm, and which analysis is due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.declared import Declared
from tskd_tune.reports.findings.several_teachers import configurations, ended_seeds
from tskd_tune.reports.judge import sequential


@dataclass(frozen=True)
class Interim:
    """The last interim analysis that was done.

    Attributes:
        declared: the number of seeds of each declared interim analysis.
        at: the number of seeds of this interim analysis.
        number: the place of this interim analysis among the declared ones, from 1.
        complete: the number of declared seeds that have ended in every arm.
        next: the number of seeds of the next interim analysis; None where the sweep stops or none is left.
        stop: whether the sweep stops.
        next_seeds: the seeds to train before the next interim analysis.
        alpha_spent: the part of the overall alpha that the interim analyses so far have spent.
        sentence: the decision in words.
    """

    declared: tuple[int, ...]
    at: int
    number: int
    complete: int
    next: int | None
    stop: bool
    next_seeds: tuple[int, ...]
    alpha_spent: float
    sentence: str


@dataclass(frozen=True)
class Analyses:
    """The declared interim analyses and seeds, and how many of the first seeds have ended in every arm."""

    interim: list[int]
    seeds: list[int]
    complete: int

    @classmethod
    def read(
        cls,
        document: Declared,
        rows: Mapping[str, Sequence[Row]],
        pairs: Sequence[tuple[str, str]],
        expected: int | None,
    ) -> Analyses:
        """Count the seeds that have ended in every arm.

        Args:
            document: the resolved sweep.
            rows: label -> the rows of the arm.
            pairs: the comparisons.
            expected: the number of rows of the finished run, if known.
        """
        seeds = document.all_seeds
        ended = {label: ended_seeds(of, lambda row: row.ended, document.teachers) for label, of in rows.items()}
        # An arm without rows is missing here. Only the number of rows of the whole sweep shows that arms are missing.
        missing = any(name not in ended for pair in pairs for name in pair)
        missing |= expected is not None and expected // len(seeds) > sum(map(configurations, rows.values()))
        in_all = [not missing and all(seed in found for found in ended.values()) for seed in seeds]
        return cls(document.comparing.interim or [], seeds, [*in_all, False].index(False))

    @property
    def taken(self) -> int | None:
        """The number of seeds of the last analysis that is due; None before the first."""
        return max((at for at in self.interim if at <= self.complete), default=None)

    @property
    def next(self) -> int | None:
        """The number of seeds of the next analysis; None after the last."""
        return min((at for at in self.interim if at > self.complete), default=None)

    def before(self) -> str:
        """Say that no interim analysis has been done yet."""
        so_far = (
            f"The first interim analysis is at {self.interim[0]} seeds, and {self.complete} have ended in every arm"
        )
        return f"{so_far}: nothing is compared before."

    def since(self, analysis: sequential.Analysis) -> list[str]:
        """Say which seeds have ended since an interim analysis, if any."""
        if self.complete <= analysis.at:
            return []
        so_far = f"{self.complete} seeds have ended in every arm"
        if analysis.stop:
            return [f"{so_far}; the seeds after those of the interim analysis are not used."]
        return [f"{so_far}; the next interim analysis is at {self.next} seeds, and the new seeds are not used before."]

    def shown(self, analysis: sequential.Analysis) -> Interim:
        """Return an interim analysis with the state of all interim analyses."""
        return Interim(
            declared=tuple(self.interim),
            at=analysis.at,
            number=analysis.number,
            complete=self.complete,
            next=None if analysis.stop else self.next,
            stop=analysis.stop,
            next_seeds=analysis.next_seeds,
            alpha_spent=analysis.alpha_spent,
            sentence=analysis.sentence,
        )
