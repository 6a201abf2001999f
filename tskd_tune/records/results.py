"""What a run leaves behind: one row a finished training, a history line an epoch, and the folder that holds them.

The layout is drawn in ``docs/architecture.md``; its version is `FORMAT`.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from tskd_tune import documents
from tskd_tune.errors import InputError, RunError, TskdTuneError, sentences
from tskd_tune.files import disk_error, write_whole
from tskd_tune.records.files import (
    Lines,
    append_lines,
    history_line,
    json_line,
    look_line,
    parsed_line,
    read_lines,
    read_text,
    remove_parts,
)
from tskd_tune.records.names import refuse_name
from tskd_tune.records.origin import Origin
from tskd_tune.records.provenance import commit, versions
from tskd_tune.records.row import Record, Row
from tskd_tune.records.sittings import sitting, stamp
from tskd_tune.records.upgrade import upgrade

FORMAT: Final = 1
STORAGE = Path("runs")
# In the folder of a trial: what it is to train.
BEGUN: Final = "trial.json"
MOST_MISTAKES = 3

Kind = Literal["sweep", "train"]


class Begun(Record):
    """What a trial is to train, as written when it begins: so that one that leaves nothing else is known.

    Attributes:
        experiment: the resolved experiment as plain data, without its seed.
        started: when it first began, as ISO 8601.
    """

    format: Literal[1] = FORMAT
    run: str
    arm: str
    point: dict[str, Any] = Field(default_factory=dict)
    seeds: list[int]
    epochs: int | None = None
    experiment: dict[str, Any] = Field(default_factory=dict)
    started: str = ""


class State(Record):
    """What `state.json` says of a run folder.

    ``expected`` is the number of rows of a finished run, if known; ``confirms`` is the search whose winners it trains;
    ``file`` is the name of the YAML that the run was begun from, and ``question`` what the file's first comment asks.
    """

    format: Literal[1] = FORMAT
    kind: Kind
    id: str | None = None
    created: str
    expected: int | None = None
    confirms: str | None = None
    file: str | None = None
    question: str | None = None
    versions: dict[str, str] = Field(default_factory=versions)
    commit: str | None = Field(default_factory=commit)


class RunFolder:
    """A run on disk; every file in it is whole or absent, and every failure a sentence."""

    def __init__(self, path: Path, state: State) -> None:
        """Take an existing folder; `create` and `open` are the ways in."""
        self.path = path
        self.state = state

    @classmethod
    def create(
        cls,
        root: Path,
        name: str,
        kind: Kind,
        document: Mapping[str, Any],
        *,
        expected: int | None = None,
        confirms: str | None = None,
        origin: Origin | None = None,
    ) -> RunFolder:
        """Make ``root/name`` with the resolved document, wholly or not at all.

        Raises:
            InputError: the name is taken or no plain name, or ``root`` may not be written.
        """
        refuse_name(name)
        path = root / name
        asked = origin or Origin()
        state = State(
            kind=kind,
            id=_fresh_id(name),
            created=now(),
            expected=expected,
            confirms=confirms,
            file=asked.file,
            question=asked.question,
        )
        part = root / f".{name}.{uuid4().hex}.part"
        try:
            (part / "trials").mkdir(parents=True)
            _refuse_taken(path)
            write_whole(part / "sweep.yaml", documents.dump(dict(document)))
            write_whole(part / "state.json", json_line(state.plain()))
            part.rename(path)
        except OSError as error:
            _refuse_taken(path)
            text = error.strerror or str(error)
            raise InputError(f"{path}: the run's folder cannot be made ({text}); give another --storage") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return cls(path, state)

    @staticmethod
    def free(root: Path, name: str) -> Path:
        """Return the path of a run that is to be made.

        Raises:
            InputError: the name is taken, or no plain name.
        """
        refuse_name(name)
        path = root / name
        _refuse_taken(path)
        return path

    @classmethod
    def open(cls, path_or_name: str | Path, storage: Path = STORAGE) -> RunFolder:
        """Open a run by its path, or by its name in ``storage``.

        Raises:
            InputError: there is no such folder, it is no run, or another version wrote it.
        """
        path = _find(Path(path_or_name), storage)
        text = _text_of(path / "state.json")
        if text is None:
            empty = not any(path.iterdir())
            what = "is empty" if empty else "is not a run's folder (it has no state.json)"
            raise InputError(f"{path} {what}; give the path or the name of a run that `tskd-tune sweep` made")
        return cls(path, _state_of(path, text))

    @property
    def name(self) -> str:
        """The run's name, that of its folder."""
        return self.path.resolve().name

    @property
    def origin(self) -> Origin:
        """What the run was begun for."""
        return Origin(self.state.file, self.state.question)

    @property
    def rows_path(self) -> Path:
        """Where the rows are kept."""
        return self.path / "rows.jsonl"

    def document(self) -> dict[str, Any]:
        """Return the resolved document, as plain data.

        Raises:
            InputError: ``sweep.yaml`` is gone or no longer a YAML mapping.
        """
        return documents.read(self.path / "sweep.yaml")

    def replace_document(self, document: Mapping[str, Any]) -> None:
        """Write another resolved document, that of a sweep to which something was added.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        write_whole(self.path / "sweep.yaml", documents.dump(dict(document)))

    def discard(self) -> None:
        """Remove a run in which nothing was trained; one that has anything stays as it is."""
        if not self.trials() and not self._rows().records:
            shutil.rmtree(self.path, ignore_errors=True)

    def expect(self, rows: int) -> None:
        """Write how many rows the finished run has.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        if rows != self.state.expected:
            self.state = self.state.model_copy(update={"expected": rows})
            write_whole(self.path / "state.json", json_line(self.state.plain()))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training this run until the end of the block; what a kill left half is removed.

        Raises:
            InputError: another process trains it.
        """
        # Whoever looks at the run holds the lock for an instant (`sittings.is_held`).
        lock = FileLock(self.lock_path, timeout=0.5)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"{self.path}: another process trains this run; wait until it ends (`tskd-tune status` shows how far it"
                " is), or end it"
            ) from error
        try:
            remove_parts(self.path)
            with sitting(self.path):
                yield
        finally:
            lock.release()

    @property
    def lock_path(self) -> Path:
        """The file that is locked while a process trains the run."""
        return self.path / "run.lock"

    def rows(self) -> list[Row]:
        """Return the rows, each training once; a line that is no row is left out with a warning.

        Raises:
            RunError: the file may not be read.
        """
        return list(_by_key(self._warned_rows().records).values())

    def damage(self) -> list[str]:
        """Return a sentence for each line of the rows, the histories and the looks that is left out."""
        histories = [read_lines(self.history_path(run), history_line) for run in self.trials()]
        # A torn last epoch is what a crash leaves, or what a process is just writing: it is trained again.
        epochs = [
            told for lines in histories for line, told in zip(lines.odd, lines.damage, strict=True) if not line.torn
        ]
        broken = [problem for run in self.trials() if (problem := self._begun(run)[1])]
        looks = read_lines(self.path / "looks.jsonl", look_line).damage
        return [*self._rows().damage, *epochs, *looks, *broken]

    def write_rows(self, rows: Iterable[Row]) -> None:
        """Replace all rows at once.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        write_whole(self.rows_path, "".join(json_line(row.plain()) for row in rows))

    def add_row(self, row: Row) -> None:
        """Add a row, or put it in the place of the one with the same trial and seed; processes take turns.

        A line that is no row stays where it is; only a torn last line is cut off.

        Raises:
            RunError: the disk is full, the folder is gone, or another process holds the lock for a minute.
        """
        lock = self.path / "rows.lock"
        try:
            with FileLock(lock, timeout=60):
                old = self._warned_rows()
                kept = {**_by_key(old.records), row.key: row}.values()
                odd = [line.raw + b"\n" for line in old.odd if not line.torn]
                write_whole(self.rows_path, b"".join([*odd, *(json_line(each.plain()).encode() for each in kept)]))
        except Timeout as error:
            raise RunError(f"{lock}: another process holds it for a minute; end it and resume the run") from error
        except OSError as error:
            raise disk_error("written", self.rows_path, error) from error

    def begin(self, begun: Begun) -> None:
        """Write what a trial is to train; the time of its first beginning stays.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        first = self._begun(begun.run)[0]
        begun = begun.model_copy(update={"started": first.started if first else now()})
        path = self.trial_path(begun.run) / BEGUN
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error("written", path, error) from error
        write_whole(path, json_line(begun.plain()))

    def begun(self) -> dict[str, Begun]:
        """Return what each trial that began is to train, by its id; trials of an older version left no such file."""
        found = {run: self._begun(run)[0] for run in self.trials()}
        return {run: begun for run, begun in found.items() if begun is not None}

    def error_path(self, run: str, seed: int) -> Path:
        """Return where the whole error of a training that broke is kept."""
        return self.trial_path(run) / f"error-seed{seed}.txt"

    def keep_error(self, row: Row, text: str) -> Row:
        """Write the whole error of a training that broke, and return its row with the name of the file.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        path = self.error_path(row.run, row.seed)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error("written", path, error) from error
        write_whole(path, text if text.endswith("\n") else f"{text}\n")
        return row.model_copy(update={"error": path.relative_to(self.path).as_posix()})

    def trials(self) -> list[str]:
        """Return the ids of the trials that left something, sorted."""
        folder = self.path / "trials"
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def trial_path(self, run: str) -> Path:
        """Return the folder of a trial, which need not exist yet."""
        return self.path / "trials" / run

    def student_path(self, run: str, seed: int) -> Path:
        """Return where the final student of a training is kept."""
        return self.trial_path(run) / f"student-seed{seed}.pth"

    def history_path(self, run: str) -> Path:
        """Return where the history of a trial is kept."""
        return self.trial_path(run) / "history.jsonl"

    def append_history(self, run: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Append lines, one an epoch of a seed, with the time; each holds at least ``seed`` and ``epoch``.

        Raises:
            RunError: the disk is full, or the folder may not be written.
        """
        append_lines(self.history_path(run), [{**line, "time": stamp()} for line in lines])

    def history(self, run: str) -> list[dict[str, Any]]:
        """Return a trial's history by seed and epoch; an epoch that was run twice counts as it was last.

        Lines that are no epoch are left out; `damage` has a sentence for each.

        Raises:
            RunError: the history may not be read.
        """
        lines = read_lines(self.history_path(run), history_line).records
        last = {(line["seed"], line["epoch"]): line for line in lines}
        return [last[key] for key in sorted(last)]

    def _rows(self) -> Lines[Row]:
        return read_lines(self.rows_path, _row)

    def _warned_rows(self) -> Lines[Row]:
        found = self._rows()
        for sentence in found.damage:
            warnings.warn(sentence, stacklevel=3)
        return found

    def _begun(self, run: str) -> tuple[Begun | None, str]:
        """Return what a trial is to train, and a sentence where its file is damaged."""
        path = self.trial_path(run) / BEGUN
        if not path.exists():
            return None, ""
        try:
            return Begun.model_validate(parsed_line(read_text(path))), ""
        except ValidationError as error:
            return None, f"{path}: is damaged ({sentences(error)[0]}) and left out; `tskd-tune resume` writes it anew"


def _by_key(rows: Iterable[Row]) -> dict[tuple[str, int], Row]:
    """Return the last row of each training."""
    return {row.key: row for row in rows}


def _row(record: dict[str, Any]) -> Row:
    try:
        return Row.model_validate(upgrade(record))
    except ValidationError as error:
        raise ValueError(f"is not a row: {'; '.join(sentences(error)[:MOST_MISTAKES])}") from error


def damaged_document(folder: RunFolder, error: TskdTuneError) -> str:
    """Say that a run's ``sweep.yaml`` cannot be read, and what that means for whoever only looks at the run."""
    name = folder.path / "sweep.yaml"
    what = " ".join(str(error).split())
    where = "" if what.startswith(str(name)) else f"{name}: "
    return f"{where}{what}. What only this file knows is left out; restore the file before `tskd-tune resume`"


def _fresh_id(name: str) -> str:
    """Return what tells a run from every other, in plain characters: its name, as far as it has such, and chance."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")[:64]
    return "-".join(part for part in (plain, uuid4().hex[:8]) if part)


def now() -> str:
    """Return the time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _refuse_taken(path: Path) -> None:
    if path.exists():
        raise InputError(f"{path} exists; resume it with `tskd-tune resume {path}` or choose another --name")


def _find(path: Path, storage: Path) -> Path:
    candidates = [path] if path.is_absolute() else [path, storage / path]
    found = [candidate for candidate in candidates if candidate.is_dir()]
    runs = [candidate for candidate in found if (candidate / "state.json").exists()]
    if not found:
        known = sorted(state.parent.name for state in storage.glob("*/state.json"))
        there = f"{storage} holds: {', '.join(known)}" if known else f"{storage} holds no run"
        raise InputError(f"there is no run {str(path)!r}; {there}")
    return (runs or found)[0]


def _text_of(path: Path) -> str | None:
    return read_text(path) if path.exists() else None


STATE_REMEDY = "copy the file back from another copy of the run; rows.jsonl beside it still holds what was measured"


def _state_of(path: Path, text: str) -> State:
    record = parsed_line(text)
    if record is None:
        raise InputError(f"{path}/state.json: is damaged: it holds no JSON object; {STATE_REMEDY}")
    form = record.get("format")
    if isinstance(form, int) and form != FORMAT:
        raise InputError(
            f"{path}: the run has format {form}, this version reads {FORMAT}; "
            "open it with the version of tskd-tune that made it"
        )
    try:
        return State.model_validate(record)
    except ValidationError as error:
        raise InputError(f"{path}/state.json: is damaged: {'; '.join(sentences(error))}; {STATE_REMEDY}") from error
