"""A run's folder: one row per finished training, one history line per epoch, and the files around them.

``docs/architecture.md`` shows the layout; `state.FORMAT` is the version of the layout.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, cast

from pydantic import ValidationError

from tskd_tune import documents
from tskd_tune.errors import sentences
from tskd_tune.paths import Address, StoragePlace
from tskd_tune.plain import Document, Json
from tskd_tune.records.entries.names import refuse_name
from tskd_tune.records.entries.origin import Origin
from tskd_tune.records.entries.row import Row, latest
from tskd_tune.records.entries.sittings import is_held, locked, sitting, stamp
from tskd_tune.records.entries.state import Begun, Kind, State, now, state_of_new
from tskd_tune.records.entries.upgrade import upgrade, upgrade_document
from tskd_tune.records.runs.finding import make_folder, place_of, refuse_place, state_in
from tskd_tune.records.runs.layout import BEGUN, TRIALS, Layout
from tskd_tune.records.runs.remote_run import RemoteRun, refuse_unusable
from tskd_tune.records.storing.files import refuse_links, remove_parts
from tskd_tune.records.storing.lines import HistoryLine, Lines, interim_line, json_line, read_lines
from tskd_tune.records.storing.store import LocalStore, Store
from tskd_tune.storage.copies import RunAt

STORAGE = Path("runs")
ROWS: Final = "rows.jsonl"
INTERIM: Final = "interim.jsonl"
OLD_INTERIM: Final = "looks.jsonl"  # its name in runs of earlier versions
MOST_MISTAKES = 3


class RunFolder:
    """A run on disk; every file is complete or absent, and every failure is an error with a sentence."""

    def __init__(self, path: Path, state: State, remote: RemoteRun | None = None) -> None:
        """Take an existing folder, which may stand for a run on an object storage; callers use `create` or `open`."""
        self.path = path
        self.state = state
        self.remote = remote
        self.store: Store = LocalStore(path) if remote is None else remote.store
        self._known: tuple[Hashable, Lines[Row]] = (None, Lines())
        self._layout = Layout(self.store)

    @classmethod
    def create(
        cls,
        root: StoragePlace,
        name: str,
        kind: Kind,
        document: Mapping[str, Json],
        *,
        expected: int | None = None,
        confirms: str | None = None,
        origin: Origin | None = None,
        tracked: bool = True,
    ) -> RunFolder:
        """Make ``root/name`` with the resolved document, completely or not at all.

        Raises:
            InputError: the name is in use or no plain name, or ``root`` cannot be written.
            StorageError: ``root`` is on an object storage, which refuses or fails.
        """
        refuse_name(name)
        state = state_of_new(kind, name, origin or Origin(), expected=expected, confirms=confirms, tracked=tracked)
        if isinstance(root, Address):
            return cls._of(RemoteRun.create(root / name, state, document))
        return cls(make_folder(root, name, state, document), state)

    @classmethod
    def _of(cls, remote: RemoteRun) -> RunFolder:
        return cls(remote.copy.run, remote.state(), remote)

    @staticmethod
    def free(root: StoragePlace, name: str) -> StoragePlace:
        """Return the place for a new run; an object storage is tried by writing and reading.

        Raises:
            InputError: the name is in use or no plain name, or no folder can be made there.
            StorageError: the storage refuses or fails.
        """
        refuse_name(name)
        place = root / name
        refuse_place(place) if isinstance(place, Path) else refuse_unusable(place)
        return place

    @classmethod
    def open(cls, path_or_name: str | Path | Address, storage: StoragePlace = STORAGE) -> RunFolder:
        """Open a run by its path or address, or by its name in ``storage``.

        Raises:
            InputError: there is no such folder, the folder is no run, or another version wrote the folder.
            StorageError: the run is on an object storage, which refuses or fails.
        """
        place = place_of(path_or_name, storage)
        if isinstance(place, Address):
            return cls._of(RemoteRun.open(place))
        return cls(place, state_in(place))

    @property
    def place(self) -> StoragePlace:
        """The folder or the address by which users know the run."""
        return self.path if self.remote is None else self.remote.address

    @property
    def at(self) -> Path | RunAt:
        """How a process on any machine finds the files of the run."""
        return self.path if self.remote is None else self.remote.at

    @property
    def name(self) -> str:
        """The run's name, which is the name of the folder."""
        return self.path.resolve().name if self.remote is None else self.remote.address.name

    @property
    def origin(self) -> Origin:
        """The YAML file that started the run, and its question."""
        return Origin(self.state.file, self.state.question)

    @property
    def rows_path(self) -> Path:
        """The path of the file of rows."""
        return self.path / ROWS

    def document(self) -> Document:
        """Return the resolved document, as plain data.

        Raises:
            InputError: ``sweep.yaml`` is missing or no longer a YAML mapping.
        """
        found = documents.read(self.path / "sweep.yaml", self.store.place("sweep.yaml"))
        return upgrade_document(found, self.state.format)

    def replace_document(self, document: Mapping[str, Json]) -> None:
        """Replace the resolved document, after something was added to the sweep.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        self.store.write("sweep.yaml", documents.dump(dict(document)).encode())

    def discard(self) -> None:
        """Remove a run in which nothing was trained; any other run is kept unchanged."""
        if not self.trials() and not self._rows().records:
            if self.remote is not None:
                self.remote.remove()
            shutil.rmtree(self.path, ignore_errors=True)

    def expect(self, rows: int) -> None:
        """Write how many rows the finished run will have.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        if rows != self.state.expected:
            self.state = self.state.model_copy(update={"expected": rows})
            self.store.write("state.json", json_line(self.state.plain()).encode())

    @contextmanager
    def alone(self, tell: Callable[[str], None] = lambda text: None) -> Iterator[None]:
        """Keep other processes from training this run until the end of the block, and remove incomplete files.

        ``tell`` hears what an object storage makes the run wait for.

        Raises:
            InputError: another process trains the run, or the folder has a link that leads out of it.
            StorageError: the run is on an object storage, which refuses or fails.
        """
        refuse_links(self.path)
        with ExitStack() as stack:
            check = stack.enter_context(locked(self.lock_path, self.place))
            if isinstance(self.store, LocalStore):
                self.store.check = check
            remove_parts(self.path)
            if self.remote is not None:
                stack.enter_context(self.remote.driven(tell))
                self.state = self.remote.state()
            stack.enter_context(sitting(self.store))
            yield
            remove_parts(self.path)  # of workers that died in this sitting

    def is_trained(self) -> bool | None:
        """Tell whether a process trains the run now; None if this cannot be told."""
        return is_held(self.lock_path) if self.remote is None else self.remote.is_driven()

    def bring(self, path: Path) -> Path:
        """Return the path of a file of the run, after bringing it to this machine from an object storage.

        Raises:
            RunError: the storage or the disk fails.
        """
        return path if self.remote is None else self.remote.bring(str(path.relative_to(self.path)))

    @property
    def lock_path(self) -> Path:
        """The file that a process locks while it trains the run."""
        return self.path / "run.lock"

    def rows(self, *, every: bool = False) -> list[Row]:
        """Return the rows, one row per training (``every``: also earlier ones); a line that is no row gives a warning.

        The file is read again only if it has changed.

        Raises:
            RunError: the file cannot be read.
        """
        found = self._rows()
        for sentence in found.damage:
            warnings.warn(sentence, stacklevel=2)
        return list(found.records) if every else latest(found.records)

    def interim(self) -> list[Mapping[str, Json]]:
        """Return the records of the interim analyses, unchanged."""
        return self._interim().records

    def _interim(self) -> Lines[Mapping[str, Json]]:
        name = OLD_INTERIM if self.store.version(INTERIM) is None else INTERIM
        return read_lines(self.store.lines(name), self.store.place(name), interim_line)

    def damage(self) -> list[str]:
        """Return a warning for each line left out of the rows, the histories and the interim analyses."""
        names = dict.fromkeys(name for run in self.trials() for name in self._layout.histories(run))
        histories = [self._history(name) for name in names]
        # An incomplete last line comes from a crash, or a process is writing it now. A resume trains that epoch again.
        epochs = [
            told for lines in histories for line, told in zip(lines.odd, lines.damage, strict=True) if not line.torn
        ]
        broken = [problem for run in self.trials() if (problem := self._layout.begun(run)[1])]
        return [*self._rows().damage, *epochs, *self._interim().damage, *broken]

    def add_row(self, row: Row) -> None:
        """Append a row with the digest of the protocol; the last row of a training counts. Processes take turns.

        A line that is no row is kept; only an incomplete last line is removed.

        Raises:
            RunError: the disk is full, the folder is gone, or another process has locked the file for a minute.
        """
        self.store.sync(self._layout.history(row.run, row.seed))
        self.store.append(ROWS, json_line({**row.plain(), "protocol": row.protocol or self.state.protocol or ""}))

    def begin(self, begun: Begun) -> None:
        """Write what a trial trains; the time of the trial's first start and the names of its files are kept.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        first = self._layout.begun(begun.run)[0]
        kept = {"started": first.started, "identity": first.identity} if first else {"started": now()}
        begun = begun.model_copy(update=kept)
        self.store.write(self._layout.trial(begun.run, BEGUN), json_line(begun.plain()).encode())

    def begun(self) -> dict[str, Begun]:
        """Return what each started trial trains, by id; trials of older versions have no such record."""
        found = {run: self._layout.begun(run)[0] for run in self.trials()}
        return {run: begun for run, begun in found.items() if begun is not None}

    def error_path(self, run: str, seed: int) -> Path:
        """Return the path of the whole error of a training that broke."""
        return self.path / self._layout.error(run, seed)

    def forget_error(self, run: str, seed: int) -> None:
        """Remove the whole error of an earlier attempt, or raise a `RunError` that says why it cannot be removed."""
        self.store.delete(self._layout.error(run, seed))

    def keep_error(self, row: Row, text: str) -> Row:
        """Write the whole error of a training that broke, and return the row with the name of the error's file.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        name = self._layout.error(row.run, row.seed)
        self.store.write(name, (text if text.endswith("\n") else f"{text}\n").encode())
        return row.model_copy(update={"error": name})

    def trials(self) -> list[str]:
        """Return the ids of the trials that wrote files, sorted."""
        return self._layout.trials()

    def trial_path(self, run: str) -> Path:
        """Return the folder of a trial; the folder may not exist yet."""
        return self.path / TRIALS / run

    def student_path(self, run: str, seed: int) -> Path:
        """Return the path of the final student of a training."""
        return self.path / self._layout.student(run, seed)

    def keep_student(self, run: str, seed: int, file: Path) -> None:
        """Copy the file of a training's final student; raise a `RunError` if the disk is full or the folder gone."""
        self.store.write(self._layout.student(run, seed), file)

    def checkpoint_path(self, run: str, seed: int) -> Path:
        """Return the path of the newest checkpoint of a training without Ray."""
        return self.path / self._layout.checkpoint(run, seed)

    def history_path(self, run: str, seed: int) -> Path:
        """Return the path of the history of a training."""
        return self.path / self._layout.history(run, seed)

    def append_history(self, run: str, lines: Sequence[Mapping[str, Json]]) -> None:
        """Append lines with the time, one line per epoch of a seed; each line has at least ``seed`` and ``epoch``.

        The lines outlive this process at once, and a loss of power when the training has its row.

        Raises:
            RunError: the disk is full, or the folder cannot be written.
        """
        texts: dict[str, str] = {}
        for line in lines:
            name = self._layout.history(run, cast("int", line["seed"]))
            texts[name] = texts.get(name, "") + json_line({**line, "time": stamp()})
        for name, text in texts.items():
            self.store.append(name, text, durable=False)

    def history(self, run: str) -> list[HistoryLine]:
        """Return a trial's history, sorted by seed and epoch; of an epoch that ran twice, the last line counts.

        Lines that are no epoch are left out; `damage` has a warning for each.

        Raises:
            RunError: the history cannot be read.
        """
        lines = [line for name in self._layout.histories(run) for line in self._history(name).records]
        last = {(line.seed, line.epoch): line for line in lines}
        return [last[key] for key in sorted(last)]

    def _rows(self) -> Lines[Row]:
        version = self.store.version(ROWS)
        if version != self._known[0]:
            self._known = version, read_lines(self.store.lines(ROWS), self.store.place(ROWS), _row)
        return self._known[1] if version is not None else Lines()

    def _history(self, name: str) -> Lines[HistoryLine]:
        return read_lines(self.store.lines(name), self.store.place(name), HistoryLine.read)


def _row(record: Document) -> Row:
    try:
        return Row.model_validate(upgrade(record))
    except ValidationError as error:
        raise ValueError(f"is not a row: {'; '.join(sentences(error)[:MOST_MISTAKES])}") from error
