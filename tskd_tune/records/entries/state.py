"""The records of a run as a whole, and of each trial that was started."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, get_args
from uuid import uuid4

from pydantic import Field, ValidationError

from tskd_tune.errors import InputError, sentences
from tskd_tune.paths import Address
from tskd_tune.plain import Document
from tskd_tune.records.entries.names import FileName
from tskd_tune.records.entries.origin import Origin
from tskd_tune.records.entries.provenance import commit, versions
from tskd_tune.records.entries.replicate import Replicate
from tskd_tune.records.entries.row import Record
from tskd_tune.records.storing.lines import parsed_line

FORMAT: Final = 3
"""The format of a new run's folder; folders of older formats can still be opened.

Since format 2 identity and seed name a training's files. Since format 3 images have their channels last in memory by
default (see `tskd_tune.records.entries.upgrade.BEFORE`).
"""

BEGUN_FORMAT: Final = 2
"""The format of the record of a trial, which format 3 of a run's folder did not change.

So the version that began a run still reads the folder after a later version has resumed it.
"""

Readable = Literal[1, 2, 3]
STATE_REMEDY = "restore the file from a copy of the run; the results are still in rows.jsonl beside the file"

Kind = Literal["sweep", "train"]


class Begun(Record):
    """What a trial trains; the trial writes this record at the start, so even a trial that is killed at once is known.

    Attributes:
        run: the trial's id.
        identity: the digest of the experiment without its seed; digest and seed name the files of a training. Empty for
            a trial of format 1, whose files are in the trial's own folder.
        experiment: the resolved experiment as plain data, without its seed.
        started: when the trial first began, as ISO 8601.
        bundle: the id of the first trial of the bundle that the trial trains in; empty for a trial alone.
    """

    format: Readable = BEGUN_FORMAT
    run: FileName
    identity: FileName = ""
    arm: str
    point: Document = Field(default_factory=dict)
    seeds: list[int]
    epochs: int | None = None
    experiment: Document = Field(default_factory=dict)
    started: str = ""
    bundle: str = ""


class State(Record):
    """The content of `state.json` in a run's folder.

    Attributes:
        expected: the number of rows of the finished run, if known.
        confirms: the search whose winners the run trains.
        file: the name of the YAML file that started the run.
        question: the question in the file's first comment.
        replicate: the group of a replicate of a search, and its number; None for other runs.
        protocol: the digest of the file with the frozen protocol; None for a run that keeps none.
        tracked: whether W&B tracks the trainings, of a resume too if it does not say otherwise.
    """

    format: Readable = FORMAT
    kind: Kind
    id: str | None = None
    created: str
    expected: int | None = None
    confirms: str | None = None
    file: str | None = None
    question: str | None = None
    replicate: Replicate | None = None
    protocol: str | None = None
    tracked: bool = True
    versions: dict[str, str] = Field(default_factory=versions)
    commit: str | None = Field(default_factory=commit)

    @property
    def by_identity(self) -> bool:
        """Whether W&B runs are named by the identity of their training, which is so since format 2."""
        return self.format > 1


def fresh_id(name: str) -> str:
    """Return a unique id for a run: the plain characters of the run's name, and random characters."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")[:64]
    return "-".join(part for part in (plain, uuid4().hex[:8]) if part)


def state_of_new(
    kind: Kind,
    name: str,
    origin: Origin,
    *,
    expected: int | None = None,
    confirms: str | None = None,
    tracked: bool = True,
) -> State:
    """Return the state of a run that begins now."""
    return State(
        kind=kind,
        id=fresh_id(name),
        created=now(),
        expected=expected,
        confirms=confirms,
        file=origin.file,
        question=origin.question,
        replicate=origin.replicate,
        tracked=tracked,
    )


def now() -> str:
    """Return the time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def state_of(path: Path | Address, text: str) -> State:
    """Read the text of a run's ``state.json``.

    Args:
        path: the run's folder or address.
        text: the content of the file.

    Raises:
        InputError: the file is damaged, or another version wrote it.
    """
    record = parsed_line(text)
    if record is None:
        raise InputError(f"{path}/state.json: is damaged: it holds no JSON object; {STATE_REMEDY}")
    form = record.get("format")
    if isinstance(form, int) and form not in get_args(Readable):
        raise InputError(
            f"{path}: the run has format {form}, this version reads formats up to {FORMAT}; "
            "open it with the version of tskd-tune that made it"
        )
    try:
        return State.model_validate(record)
    except ValidationError as error:
        raise InputError(f"{path}/state.json: is damaged: {'; '.join(sentences(error))}; {STATE_REMEDY}") from error
