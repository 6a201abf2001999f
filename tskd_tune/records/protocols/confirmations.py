"""The confirmations of a search: a ledger beside the search, with one small file for each confirmation.

Each confirmation has its own error rate. Whoever confirms a search several times and reports the best confirmation has
a larger one. Therefore the confirmations of a search know of each other. There is one file for each, so that a
confirmation can write to the ledger while the search is trained, also on an object storage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError

from tskd_tune.errors import InputError, RunError, TskdTuneError, sentences
from tskd_tune.paths import storage_place
from tskd_tune.records.entries.row import Record
from tskd_tune.records.protocols.protocol import Searched
from tskd_tune.records.runs.finding import has_run
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import json_line, parsed_line

FOLDER: Final = "confirmations"


class Confirmation(Record):
    """A confirmation in the ledger of its search.

    Attributes:
        run: the name of the confirmation's run.
        id: the id of this run.
        seeds: its seeds at its start.
        time: when it began, as ISO 8601.
        discarded: whether the run was given up before anything was trained.
    """

    run: str
    id: str
    seeds: list[int]
    time: str
    discarded: bool = False


@dataclass(frozen=True)
class Ledger:
    """The confirmations of a search, the oldest first, and a sentence on each that cannot be read.

    ``entered`` are the ids of all runs that are in the ledger, also of those that were given up.
    """

    confirmations: tuple[Confirmation, ...] = ()
    damage: tuple[str, ...] = ()
    entered: frozenset[str] = field(default=frozenset(), compare=False)


def enter(search: RunFolder, run: RunFolder, seeds: list[int], *, discarded: bool = False) -> None:
    """Write a confirmation into the ledger of its search, or write that it was given up.

    Args:
        search: the run of the search.
        run: the run of the confirmation.
        seeds: its seeds.
        discarded: whether it was given up before anything was trained.

    Raises:
        InputError: the folder of the search cannot be written.
    """
    name, id_ = run.name, run.state.id or run.state.created
    found = Confirmation(run=name, id=id_, seeds=seeds, time=run.state.created, discarded=discarded)
    try:
        search.store.write(f"{FOLDER}/{id_}.json", json_line(found.plain()).encode())
    except RunError as error:
        raise InputError(
            f"{search.place}: the ledger of the confirmations of this search cannot be written ({error}); make the"
            " folder writable, or confirm a copy of the folder"
        ) from error


def ledger(search: RunFolder) -> Ledger:
    """Return the confirmations of a search that were not given up.

    Raises:
        RunError: the ledger cannot be read.
    """
    if search.remote is not None:
        search.remote.bring_all(FOLDER)
    found: list[Confirmation] = []
    damage: list[str] = []
    for name in search.store.names(FOLDER):
        if not name.endswith(".json"):
            continue
        file = f"{FOLDER}/{name}"
        record = parsed_line((search.store.read(file) or b"").decode(errors="replace"))
        try:
            found.append(Confirmation.model_validate(record))
        except ValidationError as error:
            why = sentences(error)[0] if record is not None else "it is not a JSON object"
            damage.append(f"{search.store.place(file)} cannot be read ({why}), so one confirmation is not known")
    known = sorted((one for one in found if not one.discarded), key=lambda one: (one.time, one.run))
    return Ledger(tuple(known), tuple(damage), frozenset(one.id for one in found))


def searched(search: RunFolder, seeds: list[int]) -> Searched:
    """Return what a confirmation keeps of its search; ``seeds`` are those that chose the winners."""
    place = search.place.absolute()
    return Searched(name=search.name, place=str(place), id=search.state.id, seeds=seeds)


def search_of(run: RunFolder, known: Searched | None) -> RunFolder | None:
    """Open the search that a run confirms: beside the run, or where it was; None if it is not there any more.

    Args:
        run: the confirmation.
        known: what the confirmation kept of its search; None for a run of an old version.

    Raises:
        InputError: a run where the search was is damaged, or no package of this machine reaches its storage.
        RunError: the storage of the search refuses or fails.
    """
    name = known.name if known else run.state.confirms
    if name is None:
        return None
    beside = run.place.absolute().parent / name
    problems: list[TskdTuneError] = []
    for place in dict.fromkeys([str(beside), known.place] if known else [str(beside)]):
        try:
            found = _opened(place)
        except TskdTuneError as error:
            problems.append(error)
            continue
        if found is not None and found.state.kind == "sweep" and (known is None or found.state.id == known.id):
            return found
    if problems:
        raise problems[-1]
    return None


def _opened(place: str) -> RunFolder | None:
    try:
        known = storage_place(place)
    except ValueError:
        return None
    return RunFolder.open(known) if has_run(known) else None
