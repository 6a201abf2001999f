"""What qualifies a verdict: what a reader must know beside a contrast's numbers, and what withholds the verdict.

The tests of a family know only values. What else the runs tell (arms that are not alike, runs that collapsed) is added
to the sentence of the contrast, and may turn *resolved* and *equivalent* into *undecided*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tskd_tune.metrics import Metric
from tskd_tune.reports.judge.records import Family, Finding, Verdict
from tskd_tune.reports.judge.robust import Estimate
from tskd_tune.reports.judge.sentences import measured

OPEN: tuple[Verdict, ...] = ("undecided", "continue")
"""The verdicts that decide nothing."""


@dataclass(frozen=True)
class Qualification:
    """What qualifies one contrast.

    Attributes:
        said: sentences that are added to the contrast's sentence.
        withheld: why the contrast is *undecided* whatever the tests show, as the end of a sentence; empty: no reason.
        improvement: the probability that a run of the arm is better than a run of the baseline.
    """

    said: tuple[str, ...] = ()
    withheld: str = ""
    improvement: Estimate | None = None

    def __add__(self, other: Qualification) -> Qualification:
        """Return both qualifications of one contrast; the first reason to withhold is the one that is said."""
        said, withheld = self.said + other.said, self.withheld or other.withheld
        return Qualification(said, withheld, self.improvement or other.improvement)


def qualified(found: Family, given: Mapping[tuple[str, str], Qualification], metric: Metric) -> Family:
    """Return a family whose findings are qualified.

    Args:
        found: the family.
        given: (arm, baseline) -> what qualifies their contrast.
        metric: the metric of the values.
    """
    open_verdict: Verdict = "continue" if found.by == "margin" else "undecided"
    findings = tuple(
        _qualified(finding, given[pair], open_verdict, metric) if (pair := pair_of(finding)) in given else finding
        for finding in found.findings
    )
    return replace(found, findings=findings)


def pair_of(finding: Finding) -> tuple[str, str]:
    """Return the labels of the arm and the baseline of a finding."""
    return finding.contrast.arm, finding.contrast.baseline


def _qualified(finding: Finding, of: Qualification, open_verdict: Verdict, metric: Metric) -> Finding:
    sentence = finding.sentence
    if of.withheld and finding.verdict is not None:
        numbers = measured(finding.contrast, finding.evidence.interval, metric)
        finding = replace(finding, verdict=open_verdict, needed=None)
        sentence = f"{numbers} {open_verdict.capitalize()}: {of.withheld}"
    return replace(finding, sentence=" ".join([sentence, *of.said]), withheld=of.withheld, improvement=of.improvement)
