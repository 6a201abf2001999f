"""The log of a run on an object storage: immutable parts, each with some changes of the run's files, in order.

An object cannot be appended to. So what a driver writes into the run's files is gathered for some seconds and becomes
one object, ``log/<token>-<number>``: one request for all trainings together. Whoever plays all parts in the order of
their names has the files. The token is the driver's (`tskd_tune.storage.lease`), so what a newer driver wrote comes
later, and in rows and histories the last line counts.

Many small parts take long to read. Therefore neighbors are joined: the joined part names those that it replaces, which
are then removed, and whoever still sees them leaves them out.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tskd_tune.files import disk_error, write_whole

FOLDER: Final = "log"
JOINED: Final = "~"
"""Ends the name of a joined part; the name then comes after the names of its parts and before all later ones."""

LEFT_OUT: Final = "the line is ignored. `tskd-tune resume` trains again what it may have held"

Act = Literal["append", "write", "delete"]


@dataclass(frozen=True)
class Change:
    """A change of one file: lines to append, its new content, or its end."""

    name: str
    act: Act
    text: str = ""

    def line(self) -> str:
        """Return the change as a line of a part."""
        return json.dumps([self.act, self.name, self.text], ensure_ascii=False) + "\n"


def part_name(token: int, number: int) -> str:
    """Return the name of the part with this number of the driver with this token."""
    return f"{token:08d}-{number:08d}"


def next_number(names: Iterable[str], token: int) -> int:
    """Return the first free number of a driver."""
    mine = [name.rstrip(JOINED).partition("-")[2] for name in names if name.startswith(f"{token:08d}-")]
    return 1 + max((int(number) for number in mine if number.isdecimal()), default=-1)


def changes(content: bytes, place: str) -> Iterator[Change]:
    """Read a part; a damaged line is left out with a warning, and a last line that a crash left incomplete without."""
    lines = content.decode(errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            found = json.loads(line)
            if isinstance(found, dict):
                continue  # the names of joined parts
            act, name, text = found
            if act not in ("append", "write", "delete") or not _is_inside(name) or not isinstance(text, str):
                raise ValueError("its kind, its name or its text is none")
        except (ValueError, TypeError, RecursionError) as error:
            if number < len(lines):
                warnings.warn(f"{place}:{number}: is no change of a file ({error}); {LEFT_OUT}", stacklevel=2)
            continue
        yield Change(name, act, text)


def _is_inside(name: object) -> bool:
    """Tell whether a name stays in the run's folder, whoever wrote it."""
    return isinstance(name, str) and bool(name) and not any(part in ("", ".", "..") for part in name.split("/"))


def replaced(content: bytes) -> list[str]:
    """Return the names of the parts that a joined part replaces."""
    first = content.partition(b"\n")[0]
    try:
        found = json.loads(first)
    except ValueError:
        return []
    return [str(name) for name in found.get("replaces", [])] if isinstance(found, dict) else []


def joined(parts: Sequence[tuple[str, bytes]], place: str) -> tuple[str, bytes]:
    """Join neighbors, given by name and content in order, to one part.

    Returns:
        Its name and its content: for each file the changes that still count, and all that was appended as one change.
    """
    files: dict[str, list[Change]] = {}
    for name, content in parts:
        for change in changes(content, f"{place}/{name}"):
            before = files.setdefault(change.name, [])
            if change.act != "append":
                before.clear()
            before.append(change)
    head = json.dumps({"replaces": [name for name, _ in parts]}) + "\n"
    lines = [line for of in files.values() for line in _merged(of)]
    return parts[-1][0] + JOINED, (head + "".join(lines)).encode()


def _merged(of: Sequence[Change]) -> Iterator[str]:
    appended = [change for change in of if change.act == "append"]
    yield from (change.line() for change in of if change.act != "append")
    if appended:
        yield Change(appended[0].name, "append", "".join(change.text for change in appended)).line()


class Player:
    """Carries out changes in a folder; appended lines are gathered, so that a file is opened once."""

    def __init__(self, folder: Path) -> None:
        """Change the files below ``folder``."""
        self._folder = folder
        self._lines: dict[str, list[str]] = {}

    def play(self, content: bytes, place: str) -> None:
        """Carry out the changes of a part.

        Raises:
            RunError: a file cannot be written.
        """
        for change in changes(content, place):
            if change.act == "append":
                self._lines.setdefault(change.name, []).append(change.text)
                continue
            self._lines.pop(change.name, None)
            path = self._folder / change.name
            if change.act == "delete":
                path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, change.text)

    def finish(self) -> None:
        """Append the gathered lines.

        Raises:
            RunError: a file cannot be written.
        """
        for name, texts in self._lines.items():
            path = self._folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as file:
                    file.write("".join(texts).encode())
            except OSError as error:
                raise disk_error("written", path, error) from error
        self._lines = {}


def touched(contents: Iterable[tuple[str, bytes]]) -> set[str]:
    """Return the names of all files that parts change."""
    return {change.name for name, content in contents for change in changes(content, name)}
