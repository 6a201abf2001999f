"""Interim analyses: tests before all seeds of a sweep are trained, at the numbers of seeds that its file declares.

The seeds up to an analysis are trained in every arm, then the comparisons are tested
(`tskd_tune.reports.findings.summary`, which corrects for the number of analyses). The decision is written to
``interim.jsonl`` in the run's folder, and a resumed run follows the decisions in this file.
"""

from __future__ import annotations

from pydantic import Field

from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.row import Record
from tskd_tune.records.entries.state import now
from tskd_tune.records.runs.run_folder import INTERIM, RunFolder
from tskd_tune.records.storing.lines import json_line
from tskd_tune.reports.findings.summary import summary
from tskd_tune.sweeps.declared.schema import Sweep


class Interim(Record):
    """The decision of an interim analysis.

    Attributes:
        at: the number of seeds.
        number: the place of the analysis among the declared ones, from 1; None if nothing could be compared.
        declared: the numbers of seeds of all analyses.
        stop: whether every comparison has its verdict; then the sweep ends.
        next_seeds: the seeds that are trained next.
        alpha_spent: how much of the error rate the analyses so far have used.
        sentence: the decision in words.
        verdicts: a sentence for each comparison.
        taken: the time.
    """

    at: int
    number: int | None = None
    declared: list[int] | None = None
    stop: bool
    next_seeds: list[int] | None = None
    alpha_spent: float | None = None
    sentence: str
    verdicts: list[str] = Field(default_factory=list)
    taken: str = ""

    def event(self) -> Event:
        """Return the event that reports the decision."""
        return Event("interim", "", reason=self.sentence)


def portions(sweep: Sweep) -> list[list[int]]:
    """Return the seeds in portions, which are trained one after the other: one per analysis, or one with all seeds."""
    seeds, analyses = sweep.all_seeds(), sweep.compare.interim
    if not analyses:
        return [seeds]
    return [seeds[before:at] for before, at in zip([0, *analyses], analyses, strict=False)]


def analyses(folder: RunFolder) -> dict[int, Interim]:
    """Return the interim analyses of a run: number of seeds -> decision."""
    return {found.at: found for found in map(Interim.model_validate, folder.interim())}


def analyze(folder: RunFolder, at: int) -> Interim:
    """Test the comparisons at a number of seeds, all of which have ended; a test that was made before is not repeated.

    Raises:
        RunError: the record cannot be written.
        InputError: the run's ``compare`` was edited, and its comparisons cannot be tested.
    """
    known = analyses(folder)
    if at not in known:
        known[at] = _judged(folder, at)
        lines = "".join(json_line(known[each].plain()) for each in sorted(known))
        folder.store.write(INTERIM, lines.encode())
    return known[at]


def _judged(folder: RunFolder, at: int) -> Interim:
    found = summary(folder)
    analysis = found.family.interim if found.family else None
    if found.family is None or analysis is None or analysis.at != at:
        # If nothing can be compared, such as when every run of an arm has failed, the sweep goes on.
        sentence = f"Interim analysis at {at} seeds: {found.family_reason} Going on."
        return Interim(at=at, stop=False, sentence=sentence, taken=now())
    return Interim(
        at=at,
        number=analysis.number,
        declared=list(analysis.declared),
        stop=analysis.stop,
        next_seeds=list(analysis.next_seeds),
        alpha_spent=analysis.alpha_spent,
        sentence=analysis.sentence,
        verdicts=[finding.sentence for finding in found.family.family.findings],
        taken=now(),
    )
