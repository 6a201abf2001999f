"""The frozen protocol of a sweep: ``protocol.jsonl`` in the run's folder says how the results are to be judged.

The first line is written before anything is trained. A resume or an extension adds a line where the protocol differs
from that of the last line. Each line names the lines before it, ``state.json`` the whole file, and each row the lines
under which its training ended (`tskd_tune.records.protocols.chain`), so a line that was changed later is noticed. This
protects from slips and from oneself, and not from somebody who writes all of these files again.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from typing import Final, Literal

from pydantic import Field, ValidationError

from tskd_tune.errors import sentences
from tskd_tune.plain import Document
from tskd_tune.records.entries.row import Record
from tskd_tune.records.entries.state import now
from tskd_tune.records.protocols.chain import contradiction, digest
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import json_line, parsed_line

FILE: Final = "protocol.jsonl"

Occasion = Literal["start", "resume", "extension"]


class Terms(Record):
    """How the results of a sweep are to be judged.

    Attributes:
        family: the comparisons, each [arm, baseline]; empty for a search.
        baseline: as declared; None where the first arm without a review is the baseline.
        pairs: the comparisons as declared one by one; None where each arm is compared with the baseline.
        margin: the margin of equivalence; None for the default.
        rule: what a verdict says.
        sequential: how verdicts allow for seeds that are added.
        looks: the numbers of seeds of the interim analyses; None without such analyses.
        allow: the keys of the experiment in which arms may differ besides what is compared.
        controls: control arm -> the arm that is compared with this control arm.
        seeds: the seeds that were declared at the start.
        added: the seeds that were added later, in portions.
        teachers: the seeds of the teachers, where arms are trained under several.
        metric: the metric of the verdicts, or of the search, as named in rows.
        mode: whether a search wants this metric to be large or small; None for a grid.
        objectives: the objectives of a search with several.
        trials: the trials of a search; None for a grid, and in lines of earlier versions.
        alpha: the error rate of all tests of the table together.
        experiments: label of an arm -> the identity of its experiment, as the label may come to mean another one; of a
            search, the empty label -> a digest of its space. Empty in lines of earlier versions.
    """

    family: list[list[str]] = Field(default_factory=list)
    baseline: str | None = None
    pairs: list[list[str]] | None = None
    margin: float | None = None
    rule: str = "difference"
    sequential: str | None = None
    looks: list[int] | None = None
    allow: list[str] = Field(default_factory=list)
    controls: dict[str, str] = Field(default_factory=dict)
    seeds: list[int] = Field(default_factory=list)
    added: list[list[int]] = Field(default_factory=list)
    teachers: list[int | str] = Field(default_factory=list)
    metric: str = ""
    mode: str | None = None
    objectives: dict[str, str] | None = None
    trials: int | None = None
    alpha: float = 0.05
    experiments: dict[str, str] = Field(default_factory=dict)

    def in_order(self) -> Document:
        """Return the parts as plain data, with the lists sorted whose order says nothing.

        The order of seeds counts where analyses are declared, because each uses the first seeds; so does that of seeds
        that were added. An arm and its baseline keep their places, and so do the objectives in ``metric``.
        """
        found = self.plain()
        free = [*UNORDERED, *(() if self.looks else ("seeds",))]
        return {**found, **{name: sorted(found[name], key=str) for name in free if found[name] is not None}}


UNORDERED: Final = ("family", "pairs", "allow", "teachers")
"""The parts of a protocol that are lists, and whose order never says anything."""


class Searched(Record):
    """The search that a run confirms.

    Attributes:
        name: the name of the search's run.
        place: its folder or address.
        id: the id of its run, because another run may have its name later; None for a run of an old version.
        seeds: the seeds that chose the winners.
    """

    name: str
    place: str
    id: str | None = None
    seeds: list[int]


class Line(Record):
    """A line of the file: the protocol at one time.

    Attributes:
        time: when the line was written, as ISO 8601.
        on: the occasion.
        results: the number of trainings that had ended, without those that broke.
        terms: the protocol.
        confirms: the search that the run confirms; None for other runs.
        before: the digest of all lines before this one; None in lines of earlier versions, which are not chained.
    """

    time: str
    on: Occasion
    results: int = Field(ge=0)
    terms: Terms
    confirms: Searched | None = None
    before: str | None = None


@dataclass(frozen=True)
class Kept:
    """What is kept of a run's protocol.

    Attributes:
        lines: the lines that can be read, the oldest first.
        damage: why the protocol is not known for certain, as a sentence; empty where the file is whole.
        torn: a sentence on an incomplete last line, which a crash can leave; empty otherwise.
    """

    lines: Sequence[Line]
    damage: str = ""
    torn: str = ""

    @property
    def first(self) -> Line | None:
        """The last line before there were results: from then on the protocol was frozen; None if it is not known."""
        before = [*takewhile(lambda line: not line.results, self.lines)]
        return before[-1] if before else None

    @property
    def later(self) -> Sequence[Line]:
        """The lines after `first`."""
        return [*dropwhile(lambda line: not line.results, self.lines)]


def results_of(run: RunFolder) -> int:
    """Return the number of trainings that have ended, without those that broke.

    Raises:
        RunError: the rows cannot be read.
    """
    return sum(row.ended for row in run.rows())


def keep(run: RunFolder, on: Occasion, terms: Terms, confirms: Searched | None = None) -> None:
    """Add the protocol to the run's file where it differs from the last line; only inside `RunFolder.alone`.

    A run that an earlier version began keeps no protocol, because nobody knows what was frozen at its start.

    Raises:
        RunError: the disk is full, or the folder is gone.
    """
    before = kept(run)
    if before is None:
        if run.trials() or run.rows():
            return
        before = Kept([])
    last = before.lines[-1] if before.lines else None
    if last is None or last.terms.in_order() != terms.in_order():
        confirmed = confirms or (last.confirms if last else None)
        whole = [raw for raw in run.store.lines(FILE) if not _is_torn(raw)]
        ended, before_it = results_of(run), digest(whole)
        line = Line(time=now(), on=on, results=ended, terms=terms, confirms=confirmed, before=before_it)
        run.store.append(FILE, json_line(line.plain()))
    if not before.damage:
        _note(run, digest(run.store.lines(FILE)))


def _note(run: RunFolder, found: str) -> None:
    """Write the digest of the file into the run's state."""
    if found != run.state.protocol:
        _keep_state(run, protocol=found)


def declare_replicates(run: RunFolder, declared: int) -> None:
    """Write how many replicates the group of a replicate is to have; only inside `RunFolder.alone`.

    Raises:
        RunError: the disk is full, or the folder is gone.
    """
    if run.state.replicate is not None:
        _keep_state(run, replicate=run.state.replicate.model_copy(update={"declared": declared}))


def _keep_state(run: RunFolder, **changed: object) -> None:
    run.state = run.state.model_copy(update=changed)
    run.store.write("state.json", json_line(run.state.plain()).encode())


def kept(run: RunFolder) -> Kept | None:
    """Return what is kept of a run's protocol; None for a run that keeps none, as of earlier versions.

    Raises:
        RunError: the file cannot be read.
    """
    raw, noted = [*run.store.lines(FILE)], run.state.protocol
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged row is said elsewhere
        rows = run.rows()
    if not raw and noted is None and not any(row.protocol for row in rows):
        return None
    place = run.store.place(FILE)
    if not raw:
        return Kept([], f"{place} is missing, which the run wrote at its start")
    torn = _is_torn(raw[-1])
    whole = raw[:-1] if torn else raw
    read = [_line(one) for one in whole]
    lines = [one for one in read if isinstance(one, Line)]
    broken = next((f"{place}:{number} {one}" for number, one in enumerate(read, 1) if isinstance(one, str)), "")
    against = "" if broken else contradiction(whole, lines, noted, rows)
    damage = broken or (f"{place} {against}" if against else "")
    cut = f"{place}: the last line is incomplete, so what was changed then is not known" if torn else ""
    return Kept(lines, damage, cut)


def _is_torn(raw: bytes) -> bool:
    return not raw.endswith(b"\n") and parsed_line(raw.decode(errors="replace")) is None


def _line(raw: bytes) -> Line | str:
    """Read a line; a line that cannot be read gives the end of a sentence that says why."""
    record = parsed_line(raw.decode(errors="replace"))
    if record is None:
        return "is not a JSON object"
    try:
        return Line.model_validate(record)
    except ValidationError as error:
        return f"is not a protocol ({sentences(error)[0]})"
