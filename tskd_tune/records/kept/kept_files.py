"""Small files that a training or a run keeps beside its rows: how they are named, written and read."""

from __future__ import annotations

import json
import warnings
from typing import TypeVar

from pydantic import ValidationError

from tskd_tune.errors import sentences
from tskd_tune.records.entries.row import Record, Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import parsed_line

R = TypeVar("R", bound=Record)


def written(record: Record) -> bytes:
    """Return a record as the content of a file."""
    return (json.dumps(record.plain(), separators=(",", ":")) + "\n").encode()


def of_training(run: RunFolder, row: Row, name: str) -> str:
    """Return the name in a run of a file that a training keeps beside its student."""
    return str(run.student_path(row.run, row.seed).with_name(name).relative_to(run.path))


def read(run: RunFolder, name: str, kind: type[R]) -> R | None:
    """Return a file of a run as a record; None where there is none, or the file is damaged, with a warning.

    Raises:
        RunError: the storage or the disk fails.
    """
    path = run.path / name
    if not path.exists():  # a file that is here has the only content that it can have
        path = run.bring(path)
    content = run.store.read(name) if path.exists() else None
    if content is None:
        return None
    try:
        return kind.model_validate(parsed_line(content.decode(errors="replace")))
    except ValidationError as error:
        place = run.store.place(name)
        sentence = f"{place}: is damaged ({sentences(error)[0]}); the report leaves the file out, so delete it"
        if run.remote is not None:
            path.unlink(missing_ok=True)  # so that one that is deleted or replaced on the storage is seen
        warnings.warn(sentence, stacklevel=2)
        return None
