"""What leaks into the measured sets: ``leaks.json`` in the run's folder, which every report begins with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from tskd_tune.records.entries.row import Row
from tskd_tune.records.storing.lines import json_line, parsed_line
from tskd_tune.records.storing.store import Store

FILE: Final = "leaks.json"
MARK: Final = "leak: "
"""The beginning of a row's warning that a report repeats in its first lines."""


def write_leaks(store: Store, sentences: Sequence[str]) -> None:
    """Write where sets of the data share images; without a sentence, remove what an earlier process wrote.

    Raises:
        RunError: the run's store cannot be written.
    """
    if sentences:
        store.write(FILE, json_line({"sentences": [*sentences]}).encode())
    elif store.version(FILE) is not None:
        store.delete(FILE)


def leaks(store: Store, rows: Iterable[Row]) -> tuple[str, ...]:
    """Return a sentence for each leak: of the data, and of the trainings' warnings.

    Raises:
        RunError: the file cannot be read.
    """
    content = store.read(FILE)
    record = None if content is None else parsed_line(content.decode(errors="replace"))
    sentences = (record or {}).get("sentences")
    of_data = [str(one) for one in sentences] if isinstance(sentences, list) else []
    of_rows = [said.removeprefix(MARK) for row in rows for said in row.warnings if said.startswith(MARK)]
    return tuple(dict.fromkeys([*of_data, *of_rows]))
