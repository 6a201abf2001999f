"""Why a sweep ended before all of it was trained: its budget was used up, or a trial reached its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tskd_tune.plain import Document
from tskd_tune.records.storing.lines import json_line, parsed_line
from tskd_tune.records.storing.store import Store

FILE: Final = "conclusion.json"


@dataclass(frozen=True)
class Conclusion:
    """Why a sweep ended.

    Attributes:
        sentence: what was reached, what is not trained, and how to go on.
        stop: the target of the sweep's file, if the target was reached; None otherwise.
    """

    sentence: str
    stop: Document | None = None


def conclude(store: Store, found: Conclusion | None) -> None:
    """Write why a sweep ended; None removes what an earlier process wrote.

    Raises:
        RunError: the run's store cannot be written.
    """
    if found is not None:
        store.write(FILE, json_line({"sentence": found.sentence, "stop": found.stop}).encode())
    elif store.version(FILE) is not None:
        store.delete(FILE)


def conclusion(store: Store) -> Conclusion | None:
    """Return why a sweep ended; None if it did not end early, or the file is damaged.

    Raises:
        RunError: the file cannot be read.
    """
    content = store.read(FILE)
    record = None if content is None else parsed_line(content.decode(errors="replace"))
    sentence, stop = (record or {}).get("sentence"), (record or {}).get("stop")
    if not isinstance(sentence, str):
        return None
    return Conclusion(sentence, stop if isinstance(stop, dict) else None)
