"""The ``runs`` command: the runs in a folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from tskd_tune.cli.reading.run_status import RunStatus, run_status
from tskd_tune.cli.terminal import put_json, say, show, warn
from tskd_tune.errors import InputError, TskdTuneError
from tskd_tune.paths import Address, StoragePlace
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.forms.grids import Align, drawn
from tskd_tune.storage.objects import Objects
from tskd_tune.words import count

LONGEST = 60
# A folder with at least one of these files is a run.
MARKS = ("state.json", "sweep.yaml")


@dataclass(frozen=True)
class Entry:
    """One run of a folder.

    Attributes:
        run: the name of the run.
        kind: ``sweep`` or ``train``.
        asks: the question in the run's file, or the file's name; None where neither is known.
        created: when the run began, as ISO 8601.
        state: ``running`` (a process trains the run now), ``finished``, ``interrupted``, or ``unknown`` where an older
            version may still train the run.
        by: the signal that interrupted the run; None where no signal did, or it is not known.
        trials: the number of trials of the whole run, if known.
        done: the number of trials that ended well; ``failed`` and ``stopped`` count the other trials that ended.
        best: the arm with the best validation mean so far, with this mean.
    """

    run: str
    kind: str
    asks: str | None
    created: str
    state: Literal["running", "finished", "interrupted", "unknown"]
    by: str | None
    trials: int | None
    done: int
    failed: int
    stopped: int
    best: str | None


def runs(storage: StoragePlace, *, as_json: bool = False) -> None:
    """List the runs in a folder, the newest last. A run that cannot be read has a sentence instead.

    Raises:
        InputError: there is no such folder.
    """
    found, damaged = inventory(storage)
    if as_json:
        put_json({"storage": str(storage), "runs": [asdict(entry) for entry in found], "damaged": damaged})
        return
    if found:
        show(drawn(f"{storage}: {count(len(found), 'run')}", list(TITLES), list(map(_cells, found))))
    elif not damaged:
        say(f"{storage}: holds no run; begin one with: tskd-tune sweep FILE --storage {storage}")
    warn(damaged.values())


def inventory(storage: StoragePlace) -> tuple[list[Entry], dict[str, str]]:
    """Return the runs in a folder, the oldest first, and run name -> a sentence for each damaged run.

    A damaged run that can be read in part is in both.

    Raises:
        InputError: there is no such folder.
    """
    found, damaged = [], {}
    for path in _places(storage):
        try:
            folder = RunFolder.open(path)
            known = run_status(folder)
            found.append(_entry(folder, known))
            if known.damage:
                damaged[path.name] = "; ".join(known.damage)
        except TskdTuneError as error:
            damaged[path.name] = " ".join(str(error).split())
    return sorted(found, key=lambda entry: (entry.created, entry.run)), damaged


def _places(storage: StoragePlace) -> list[StoragePlace]:
    """Return the places of the runs in a storage; a run that another process is creating now is left out."""
    if isinstance(storage, Address):
        return [storage / name for name in Objects(storage).folders() if not name.startswith(".")]
    if not storage.is_dir():
        raise InputError(f"--storage: there is no folder {storage}; give the folder that holds the runs")
    paths = sorted(path for path in storage.iterdir() if any((path / mark).exists() for mark in MARKS))
    return [path.absolute() for path in paths if not path.name.startswith(".")]


def _entry(folder: RunFolder, found: RunStatus) -> Entry:
    counts = found.counts()
    best = found.best
    return Entry(
        run=folder.name,
        kind=folder.state.kind,
        asks=folder.origin.question or folder.origin.file,
        created=folder.state.created,
        state=_state(found.finished, found.running),
        by=(found.interrupted.by or None) if found.interrupted is not None else None,
        trials=found.expected,
        done=counts["done"] or 0,
        failed=counts["failed"] or 0,
        stopped=counts["stopped"] or 0,
        best=None if best is None else f"{best.arm}, {best.metric} {best.found.mean:.2f}",
    )


def _state(finished: bool, running: bool | None) -> Literal["running", "finished", "interrupted", "unknown"]:
    if running:
        return "running"
    if finished:
        return "finished"
    return "unknown" if running is None else "interrupted"


TITLES: tuple[tuple[str, Align], ...] = (
    ("run", "left"),
    ("kind", "left"),
    ("state", "left"),
    ("trials done", "right"),
    ("failed", "right"),
    ("begun", "left"),
    ("best so far", "left"),
    ("asks", "left"),
)


def _cells(entry: Entry) -> list[str]:
    of = "" if entry.trials is None else f" of {entry.trials}"
    asks = entry.asks or ""
    return [
        entry.run,
        entry.kind,
        entry.state if entry.by is None else f"{entry.state} by {entry.by}",
        f"{entry.done}{of}",
        str(entry.failed),
        entry.created[:16].replace("T", " "),
        entry.best or "",
        asks if len(asks) <= LONGEST else f"{asks[: LONGEST - 3]}...",
    ]
