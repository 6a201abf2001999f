"""What was declared before there were results, and what was changed since: the first lines of a report.

A verdict keeps its error rate only if nobody chose with the results in sight what is compared and how. The run keeps
this protocol from its start (`tskd_tune.records.protocols.protocol`). Where the file of the sweep says something else
by now, the verdicts are exploratory. A run of an earlier version keeps no protocol, and nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType

from tskd_tune.records.protocols.changes import ADDED, Change, changes, differences, late, of_added
from tskd_tune.records.protocols.protocol import Kept, Line, Terms
from tskd_tune.reports.findings.declared import Declared
from tskd_tune.reports.judge import power
from tskd_tune.words import count

REMEDY = "To confirm a verdict, train the arms with fresh seeds in a new run."


@dataclass(frozen=True)
class Frozen:
    """What a report says of the protocol.

    Attributes:
        said: sentences on what was changed, for the first lines of the report.
        exploratory: why all verdicts are exploratory, as a sentence; empty where they are not.
        family: the comparisons, (arm, baseline), that were declared before there were results; None if not known.
        added: the comparisons that ``said`` names because they were added later.
    """

    said: tuple[str, ...] = ()
    exploratory: str = ""
    family: frozenset[tuple[str, str]] | None = None
    added: frozenset[tuple[str, str]] = frozenset()

    def declares(self, arm: str, baseline: str) -> bool:
        """Tell whether a comparison was declared before there were results, as far as this is known."""
        return self.family is None or (arm, baseline) in self.family


NOT_FROZEN = Frozen()
"""What is said of a run that keeps no protocol."""


@dataclass(frozen=True)
class Present:
    """The protocol as the report reads it now.

    Attributes:
        terms: what the file of the sweep says now, or the options of the report.
        results: the number of trainings that have ended.
        given: the names of the parts that options of the report replace, and the file does not.
    """

    terms: Terms
    results: int
    given: frozenset[str] = frozenset()


def stated(
    declared: Declared,
    *,
    metric: str,
    family: Sequence[tuple[str, str]],
    experiments: Mapping[str, str] = MappingProxyType({}),
) -> Terms:
    """Return the protocol that a document declares.

    Args:
        declared: the parts of the document that a report needs.
        metric: the metric of the verdicts, or of the search, as named in rows.
        family: the comparisons, (arm, baseline).
        experiments: label of an arm -> the identity of its experiment.
    """
    compare, search = declared.comparing, declared.search if declared.is_search else None
    return Terms(
        family=[[*pair] for pair in family],
        baseline=compare.baseline,
        pairs=compare.pairs,
        margin=compare.margin,
        rule=compare.rule,
        sequential=compare.sequential,
        looks=compare.interim,
        allow=compare.allow or [],
        controls=compare.controls or {},
        seeds=declared.declared_seeds,
        added=declared.added,
        teachers=declared.experiment.teachers if declared.experiment else [],
        metric=metric,
        mode=search.mode if search else None,
        objectives=dict(search.objectives) if search and search.objectives else None,
        trials=search.trials if search else None,
        alpha=power.ALPHA,
        experiments=dict(experiments),
    )


def frozen(kept: Kept | None, present: Present) -> Frozen:
    """Say what differs from the protocol that was frozen when the first result came.

    Args:
        kept: what the run keeps of its protocol; None for a run that keeps none.
        present: the protocol as it is now.
    """
    if kept is None:
        return NOT_FROZEN
    torn = [f"{kept.torn}."] if kept.torn else []
    first = kept.first
    if first is None:
        damage = kept.damage or "the file of the protocol has no line from before the first result"
        return Frozen((*torn, _unknown(damage)), exploratory_because("what was declared at the start is not known"))
    later = kept.later
    net = _changed(_net(first.terms, present), first, later, present)
    if not any(change.what == ADDED for change, _ in net):
        net += _taken_back(first, later, present)
    added = [(line, pair) for line in later for pair in late(first.terms, line.terms)]
    whens = {pair: line for line, pair in reversed(added)}
    said = [
        *(said for _, said in net),
        *([_unknown(kept.damage)] if kept.damage else []),
        *torn,
        *_added(whens),
        *_changed_back(first, later, present),
        *_early(kept.lines, first),
    ]
    counts = present.results > 0 and bool(net)
    why = "what was declared was changed after there were results" if counts else ""
    damaged = "what was declared at the start is not known for certain" if kept.damage else ""
    family = frozenset((arm, baseline) for arm, baseline in first.terms.family)
    return Frozen(tuple(said), exploratory_because(why or damaged), family, frozenset(whens))


def _taken_back(first: Line, later: Sequence[Line], present: Present) -> list[tuple[Change, str]]:
    """Return where seeds that an extension had added were taken out again, each with its sentence."""
    found = []
    lines = [first, *later]
    for before, line in pairwise(lines):
        if (change := of_added(before.terms, line.terms)) is not None:
            found.append((change, f"Changed after there were results, {_at(line)}: {change.sentence}."))
    if (change := of_added(lines[-1].terms, present.terms)) is not None:
        found.append((change, f"{_by_now(lines[-1], present)}: {change.sentence}."))
    return found


def _net(declared: Terms, present: Present) -> list[Change]:
    """Return what differs from what was declared; of options of the report also what they only add."""
    found = changes(declared, present.terms)
    names = {change.what for change in found}
    given = [one for one in differences(declared, present.terms) if one.what in present.given - names]
    return [*found, *given]


def exploratory_because(why: str) -> str:
    """Say that all verdicts are exploratory, for this reason; empty without a reason."""
    if not why:
        return ""
    rate = f"false verdicts may be more frequent than {100 * power.ALPHA:g} %"
    return f"The verdicts are exploratory: {why}, so {rate}. {REMEDY}"


def _unknown(damage: str) -> str:
    return f"The protocol of the run's start is not known for certain: {damage}."


def _changed(found: Sequence[Change], first: Line, later: Sequence[Line], present: Present) -> list[tuple[Change, str]]:
    """Return each change with its sentence: what, when, and how many results there were."""
    return [(change, f"{_since(change, first, later, present)}: {change.sentence}.") for change in found]


def _since(change: Change, first: Line, later: Sequence[Line], present: Present) -> str:
    """Say when something was changed: at the first record that has the change, otherwise after the last record."""
    if change.what in present.given:
        return "Given with this report, and not declared"
    seen = next((line for line in later if change.what in _names(first.terms, line.terms)), None)
    if seen is not None:
        return f"Changed after there were results, {_at(seen)}"
    return _by_now((later or [first])[-1], present)


def _by_now(last: Line, present: Present) -> str:
    there = f"{count(present.results, 'training')} ended by now" if present.results else "no training has ended yet"
    return f"Changed in sweep.yaml after {minute(last.time)} ({there})"


def _names(before: Terms, after: Terms) -> set[str]:
    return {change.what for change in changes(before, after)}


def given_in_place_of(file: Terms, asked: Terms) -> frozenset[str]:
    """Return the names of the parts that options of a report replace."""
    return frozenset(change.what for change in differences(file, asked))


def of_options(file: Terms, present: Present) -> Frozen:
    """Say which options of a report differ from the file of a run that keeps no protocol."""
    found = frozen(Kept([Line(time="", on="start", results=0, terms=file)]), present)
    return replace(found, family=None)


def _at(line: Line) -> str:
    return f"when {count(line.results, 'training')} had ended ({line.on} of {minute(line.time)})"


def minute(time: str) -> str:
    """Return a time in UTC as ISO 8601 to the minute, in a readable form."""
    return f"{time[:16].replace('T', ' ')} UTC"


def _added(whens: dict[tuple[str, str], Line]) -> Iterator[str]:
    """Say which comparisons were added after there were results, and when."""
    for line in {id(line): line for line in whens.values()}.values():
        pairs = ", ".join(f"'{arm}' against '{base}'" for (arm, base), of in whens.items() if of is line)
        yield f"Added after there were results, {_at(line)}, with an exploratory verdict: {pairs}."


def _changed_back(first: Line, later: Sequence[Line], present: Present) -> Iterator[str]:
    """Say what was changed in between and is by now as it was declared."""
    left = _names(first.terms, present.terms)
    told = set(left)
    for line in later:
        for change in changes(first.terms, line.terms):
            if change.what not in told:
                told.add(change.what)
                yield f"Changed after there were results, {_at(line)}, and changed back since: {change.sentence}."


def _early(lines: Sequence[Line], first: Line) -> Iterator[str]:
    """Say what was changed before there were results, which harms nothing."""
    for before, line in pairwise(lines):
        if line.results:
            return
        for change in changes(before.terms, line.terms):
            yield f"Changed before there were results ({line.on} of {minute(line.time)}): {change.sentence}."
