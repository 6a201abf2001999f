"""The differences between two states of a frozen protocol, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tskd_tune.errors import shown
from tskd_tune.records.protocols.protocol import Terms

NAMES: Final[Mapping[str, str]] = {
    "baseline": "compare.baseline",
    "pairs": "compare.pairs",
    "margin": "compare.margin",
    "rule": "compare.rule",
    "sequential": "compare.sequential",
    "looks": "compare.interim",
    "allow": "compare.allow",
    "seeds": "seeds",
    "teachers": "teacher.seeds",
    "metric": "the metric",
    "mode": "search.mode",
    "objectives": "search.objectives",
    "alpha": "the error rate",
}
"""The name of each part whose every change counts; the other parts may grow."""


EXPERIMENTS: Final = "the experiments"
CONTROLS, ADDED = "compare.controls", "compare.added"


@dataclass(frozen=True)
class Change:
    """A part of the protocol that differs: its name, and what it was and is."""

    what: str
    sentence: str


def changes(before: Terms, after: Terms) -> list[Change]:
    """Return what differs between two states of a protocol.

    Seeds may be added to the end, as ``compare.added`` tells, and new arms bring new comparisons: neither is a change
    of what was declared. A comparison that is gone is one. The order of a list counts as in `Terms.in_order`.
    """
    return [
        *_of_parts(before, after, NAMES),
        *([] if (added := of_added(before, after)) is None else [added]),
        *_of_controls(before, after),
        *_of_family(before, after),
        *_of_trials(before, after),
        *_of_experiments(before, after),
    ]


def differences(before: Terms, after: Terms) -> list[Change]:
    """Return all declared parts that differ in any way, also where controls or seeds were only added."""
    return [*_of_parts(before, after, {**NAMES, "controls": CONTROLS, "added": ADDED})]


def _of_parts(before: Terms, after: Terms, names: Mapping[str, str]) -> Iterator[Change]:
    """Find the parts that differ, each as it was written; the order counts only where it says something."""
    old, new, was, is_ = before.in_order(), after.in_order(), before.plain(), after.plain()
    for key, name in names.items():
        if old[key] != new[key]:
            yield _change(name, was[key], is_[key])


def late(before: Terms, after: Terms) -> list[tuple[str, str]]:
    """Return the comparisons, (arm, baseline), that the later protocol has and the earlier one has not."""
    return [(arm, baseline) for arm, baseline in after.family if [arm, baseline] not in before.family]


def _change(name: str, before: object, after: object) -> Change:
    return Change(name, f"{name} from {shown(before)} to {shown(after)}")


def of_added(before: Terms, after: Terms) -> Change | None:
    """Return the change of the seeds that were added, where they were not only added to."""
    if after.added[: len(before.added)] == before.added:
        return None
    return _change(ADDED, before.added, after.added)


def _of_controls(before: Terms, after: Terms) -> Iterator[Change]:
    """Find controls that are gone or control another arm, and arms that became controls."""
    arms = {name for pair in before.family for name in pair}
    kept = {name: after.controls.get(name) for name in before.controls}
    made = {name: of for name, of in after.controls.items() if name not in before.controls and name in arms}
    if kept != before.controls or made:
        yield _change(CONTROLS, before.controls, after.controls)


def _of_trials(before: Terms, after: Terms) -> Iterator[Change]:
    """Find another number of trials; lines of earlier versions have none."""
    if None not in (before.trials, after.trials) and before.trials != after.trials:
        yield _change("search.trials", before.trials, after.trials)


def _of_experiments(before: Terms, after: Terms) -> Iterator[Change]:
    """Find arms that have another experiment under their old label."""
    others = [label for label, of in before.experiments.items() if after.experiments.get(label, of) != of]
    if others == [""]:
        yield Change(EXPERIMENTS, "the space of the search")
    elif others:
        named = ", ".join(f"'{label}'" for label in others)
        yield Change(EXPERIMENTS, f"the experiment{'s' if len(others) > 1 else ''} of {named}")


def _of_family(before: Terms, after: Terms) -> Iterator[Change]:
    gone = [pair for pair in before.family if pair not in after.family]
    if gone:
        named = ", ".join(f"'{arm}' against '{baseline}'" for arm, baseline in gone)
        yield Change("the comparisons", f"the comparisons no longer have {named}")
