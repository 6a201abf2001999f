"""The chain of the lines of a frozen protocol, and what contradicts it: so an edit by hand is seen, and its line named.

Each line names the digest of all lines before it, ``state.json`` that of the whole file, and each row that of the lines
under which its training ended. Lines of earlier versions name none: they are not chained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from tskd_tune.records.entries.row import Row
from tskd_tune.words import count


class Link(Protocol):
    """What the chain needs of a line."""

    @property
    def before(self) -> str | None:
        """The digest of all lines before; None in lines of earlier versions."""

    @property
    def results(self) -> int:
        """The number of trainings that had ended when the line was written."""


def digest(lines: Iterable[bytes]) -> str:
    """Return the digest of lines of the file."""
    found = hashlib.sha256()
    for line in lines:
        found.update(line.rstrip(b"\r\n") + b"\n")  # a copy may have the ends of lines of another system
    return found.hexdigest()


def heads(raw: Sequence[bytes]) -> list[str]:
    """Return the digests of the first 0, 1, 2 and so on lines."""
    return [digest(raw[:count]) for count in range(len(raw) + 1)]


def contradiction(raw: Sequence[bytes], links: Sequence[Link], noted: str | None, rows: Sequence[Row]) -> str:
    """Say what shows that the lines are not those that the run wrote; empty where nothing does.

    Args:
        raw: the lines of the file.
        links: what the lines say.
        noted: the digest in ``state.json``; None where there is none.
        rows: the rows of the run.

    Returns:
        The end of a sentence that begins with the file.
    """
    known = heads(raw)
    for number, link in enumerate(links):
        if link.before is not None and link.before != known[number]:
            which = f"line {number}, or a line after it is missing" if number else "a line before the first is missing"
            return f"{CHANGED}: {which}"
    # A crash can come between a new line and its digest.
    if noted is not None and noted not in known[-2:]:
        which = "the last line, or lines after it" if any(link.before for link in links) else NOT_CHAINED
        return f"{CHANGED}: {which}"
    ended = [row for row in rows if row.ended]
    return _foreign(links, ended) or _by_rows(known, links, [row for row in ended if row.protocol])


CHANGED = "was changed after the run had written it"
NOT_CHAINED = "its lines are not chained, as those of an earlier version, so which line is not known"


def _foreign(links: Sequence[Link], rows: Sequence[Row]) -> str:
    """Say that rows name no lines, where the run writes their digest into each row: such rows came from elsewhere."""
    found = sum(not row.protocol for row in rows)
    if not found or not links or links[0].before is None:
        return ""
    rows_of = f"{'row' if found == 1 else 'rows'} of {count(found, 'training')}"
    return f"is not named in the {rows_of}, so this run did not write them"


def _by_rows(known: Sequence[str], links: Sequence[Link], rows: Sequence[Row]) -> str:
    """Say what rows contradict: lines that are gone, and lines that claim to be older than results are."""
    lost = sum(row.protocol not in known for row in rows)
    if lost:
        ended = f"{count(lost, 'training')} ended"
        return f"{CHANGED}: {ended} under lines that are not there any more"
    for number, link in enumerate(links):
        earlier = sum(row.protocol in known[: number + 1] for row in rows)
        if earlier > link.results:
            return (
                f"{CHANGED}: line {number + 1} says that {link.results} trainings had ended when it was written, but"
                f" {earlier} had"
            )
    return ""
