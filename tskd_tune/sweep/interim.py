"""Looks at a sweep before all of its seeds are trained, as its file declared them: go on, or stop.

The seeds of a look are trained in every arm, then the family is judged (`tskd_tune.reports.findings.summary`, which
pays for the looks), and what was decided is written to ``looks.jsonl`` in the run's folder. A resume abides by what
stands there.
"""

from __future__ import annotations

from typing import Any

from tskd_tune.files import write_whole
from tskd_tune.records.events import Event
from tskd_tune.records.files import read_text
from tskd_tune.records.lines import json_line, parsed_line
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.records.state import now
from tskd_tune.reports.findings.summary import summary
from tskd_tune.sweep.schema import Sweep

LOOKS = "looks.jsonl"
Look = dict[str, Any]


def stages(sweep: Sweep) -> list[list[int]]:
    """Return the seeds in the portions in which they are trained: one portion a look, or all at once."""
    seeds, looks = sweep.all_seeds(), sweep.compare.looks
    if not looks:
        return [seeds]
    return [seeds[before:at] for before, at in zip([0, *looks], looks, strict=False)]


def taken(folder: RunFolder) -> dict[int, Look]:
    """Return the looks that a run has taken: number of seeds -> its record."""
    path = folder.path / LOOKS
    lines = map(parsed_line, read_text(path).splitlines()) if path.exists() else []
    return {line["at"]: line for line in lines if line}


def take(folder: RunFolder, at: int) -> Look:
    """Take the look at so many seeds, all of which have ended, unless it was taken before.

    Returns:
        ``at``, ``number``, ``declared``, ``stop``, ``next_seeds``, ``alpha_spent``, ``sentence``, ``verdicts`` (a
        sentence for each contrast) and ``taken``, the time.

    Raises:
        RunError: the record cannot be written.
        InputError: the run's ``compare`` was edited into what cannot be judged.
    """
    known = taken(folder)
    if at not in known:
        known[at] = _judged(folder, at)
        write_whole(folder.path / LOOKS, "".join(json_line(known[each]) for each in sorted(known)))
    return known[at]


def look_event(look: Look) -> Event:
    """Tell what a look decided."""
    return Event("look", "", reason=look["sentence"])


def _judged(folder: RunFolder, at: int) -> Look:
    found = summary(folder)
    look = found.family.look if found.family else None
    if found.family is None or look is None or look.at != at:
        # Nothing to compare, as where every run of an arm has failed, is no reason to stop.
        sentence = f"Look at {at} seeds: {found.family_reason} Going on."
        kept: Look = {"at": at, "number": None, "declared": None, "stop": False, "next_seeds": None}
        kept |= {"alpha_spent": None, "sentence": sentence}
    else:
        kept = {"at": look.at, "number": look.number, "declared": list(look.declared), "stop": look.stop}
        kept |= {"next_seeds": list(look.next_seeds), "alpha_spent": look.alpha_spent, "sentence": look.sentence}
    verdicts = [finding.sentence for finding in found.family.family.findings] if found.family else []
    return {**kept, "verdicts": verdicts, "taken": now()}
