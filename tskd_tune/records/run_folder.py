"""A run's folder: one row per finished training, one history line per epoch, and the files around them.

``docs/architecture.md`` shows the layout; `state.FORMAT` is the version of the layout.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import ValidationError

from tskd_tune import documents
from tskd_tune.errors import InputError, TskdTuneError, sentences
from tskd_tune.files import write_whole
from tskd_tune.plain import Document, Json
from tskd_tune.records.files import read_text, remove_parts
from tskd_tune.records.finding import find_run, refuse_taken
from tskd_tune.records.layout import BEGUN, TRIALS, Layout
from tskd_tune.records.lines import HistoryLine, Lines, interim_line, json_line, read_lines
from tskd_tune.records.names import refuse_name
from tskd_tune.records.origin import Origin
from tskd_tune.records.row import Row, latest
from tskd_tune.records.sittings import sitting, stamp
from tskd_tune.records.state import Begun, Kind, State, fresh_id, now, state_of
from tskd_tune.records.store import LocalStore, Store
from tskd_tune.records.upgrade import upgrade, upgrade_document

STORAGE = Path("runs")
ROWS: Final = "rows.jsonl"
INTERIM: Final = "interim.jsonl"
# The name of this file in runs of earlier versions.
OLD_INTERIM: Final = "looks.jsonl"
MOST_MISTAKES = 3


class RunFolder:
    """A run on disk; every file is complete or absent, and every failure is an error with a sentence."""

    def __init__(self, path: Path, state: State) -> None:
        """Take an existing folder; callers use `create` or `open`."""
        self.path = path
        self.state = state
        self.store: Store = LocalStore(path)
        self._known: tuple[Hashable, Lines[Row]] = (None, Lines())
        self._layout = Layout(self.store)

    @classmethod
    def create(
        cls,
        root: Path,
        name: str,
        kind: Kind,
        document: Mapping[str, Json],
        *,
        expected: int | None = None,
        confirms: str | None = None,
        origin: Origin | None = None,
    ) -> RunFolder:
        """Make ``root/name`` with the resolved document, completely or not at all.

        Raises:
            InputError: the name is in use or no plain name, or ``root`` cannot be written.
        """
        refuse_name(name)
        path = root / name
        asked = origin or Origin()
        state = State(
            kind=kind,
            id=fresh_id(name),
            created=now(),
            expected=expected,
            confirms=confirms,
            file=asked.file,
            question=asked.question,
        )
        part = root / f".{name}.{uuid4().hex}.part"
        try:
            (part / TRIALS).mkdir(parents=True)
            refuse_taken(path)
            write_whole(part / "sweep.yaml", documents.dump(dict(document)))
            write_whole(part / "state.json", json_line(state.plain()))
            part.rename(path)
        except OSError as error:
            refuse_taken(path)
            text = error.strerror or str(error)
            raise InputError(f"{path}: the run's folder cannot be made ({text}); give another --storage") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return cls(path, state)

    @staticmethod
    def free(root: Path, name: str) -> Path:
        """Return the path for a new run.

        Raises:
            InputError: the name is in use, or no plain name.
        """
        refuse_name(name)
        path = root / name
        refuse_taken(path)
        return path

    @classmethod
    def open(cls, path_or_name: str | Path, storage: Path = STORAGE) -> RunFolder:
        """Open a run by its path, or by its name in ``storage``.

        Raises:
            InputError: there is no such folder, the folder is no run, or another version wrote the folder.
        """
        path = find_run(Path(path_or_name), storage)
        file = path / "state.json"
        if not file.exists():
            empty = not any(path.iterdir())
            what = "is empty" if empty else "is not a run's folder (it has no state.json)"
            raise InputError(f"{path} {what}; give the path or the name of a run that `tskd-tune sweep` made")
        return cls(path, state_of(path, read_text(file)))

    @property
    def name(self) -> str:
        """The run's name, which is the name of the folder."""
        return self.path.resolve().name

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
        return upgrade_document(documents.read(self.path / "sweep.yaml"))

    def replace_document(self, document: Mapping[str, Json]) -> None:
        """Replace the resolved document, after something was added to the sweep.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        write_whole(self.path / "sweep.yaml", documents.dump(dict(document)))

    def discard(self) -> None:
        """Remove a run in which nothing was trained; any other run is kept unchanged."""
        if not self.trials() and not self._rows().records:
            shutil.rmtree(self.path, ignore_errors=True)

    def expect(self, rows: int) -> None:
        """Write how many rows the finished run will have.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        if rows != self.state.expected:
            self.state = self.state.model_copy(update={"expected": rows})
            write_whole(self.path / "state.json", json_line(self.state.plain()))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training this run until the end of the block, and remove incomplete files.

        Raises:
            InputError: another process trains the run.
        """
        # A process that shows the run holds the lock for an instant (`sittings.is_held`).
        lock = FileLock(self.lock_path, timeout=0.5)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"{self.path}: another process trains this run; wait until that process ends (`tskd-tune status` shows"
                " its progress), or end that process"
            ) from error
        try:
            remove_parts(self.path)
            with sitting(self.store):
                yield
        finally:
            lock.release()

    @property
    def lock_path(self) -> Path:
        """The file that a process locks while it trains the run."""
        return self.path / "run.lock"

    def rows(self) -> list[Row]:
        """Return the rows, one row per training; a line that is no row is left out with a warning.

        The file is read again only if it has changed.

        Raises:
            RunError: the file cannot be read.
        """
        found = self._rows()
        for sentence in found.damage:
            warnings.warn(sentence, stacklevel=2)
        return latest(found.records)

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
        """Append a row; the last of several rows of one training counts. Processes take turns.

        A line that is no row is kept; only an incomplete last line is removed.

        Raises:
            RunError: the disk is full, the folder is gone, or another process has locked the file for a minute.
        """
        self.store.sync(self._layout.history(row.run, row.seed))
        self.store.append(ROWS, json_line(row.plain()))

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


def damaged_document(folder: RunFolder, error: TskdTuneError) -> str:
    """Return the warning that a run's ``sweep.yaml`` cannot be read, and how this affects what is shown of the run."""
    name = folder.path / "sweep.yaml"
    what = " ".join(str(error).split())
    where = "" if what.startswith(str(name)) else f"{name}: "
    return f"{where}{what}. The report lacks what only this file records; restore the file before `tskd-tune resume`"
