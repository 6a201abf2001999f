"""Writes the page "What reviewing does" from the files of studies: ``python -m tskd_tune.studies.chapter docs``.

The folder ``docs/studies`` holds one ``NAME.json`` per study: the ``found.json`` that the study wrote. The command
writes ``docs/reviewing.md``, and a picture for each figure beside the files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from tskd_tune.errors import TskdTuneError
from tskd_tune.files import write_whole
from tskd_tune.studies.claims import CLAIMS, Claim
from tskd_tune.studies.found import Cell, Found, StudyFile, Table, read_found
from tskd_tune.studies.still import still

PAGE, FOLDER = "reviewing.md", "studies"
COMMAND = "python -m tskd_tune.studies.chapter docs"
MOST_ROWS = 24
"""The largest number of rows of a table on the page; longer tables are in the file alone."""
ESCAPES = str.maketrans({"*": "\\*", "<": "&lt;"})
SHORT = 4
"""How many of a study's sentences, the most important ones, are the answer in short."""
NOT_YET = "Not measured yet."


@dataclass(frozen=True)
class _Chapter:
    """A claim, and the file of its study if there is one."""

    claim: Claim
    file: StudyFile | None

    @property
    def answer(self) -> str:
        return NOT_YET if self.file is None else " ".join(self.file.found.sentences[:SHORT])


def pages(studies: Sequence[StudyFile]) -> dict[str, str]:
    """Return the page and its pictures, by their names in the folder of the documentation.

    Studies without a claim on the page are left out.
    """
    by_name = {study.made.study: study for study in studies}
    chapters = [_Chapter(claim, by_name.get(claim.study)) for claim in CLAIMS]
    shown = [chapter.file for chapter in chapters if chapter.file is not None]
    text = files("tskd_tune.studies").joinpath("chapter.md.j2").read_text("utf-8")
    page = (
        _environment()
        .from_string(text)
        .render(
            chapters=chapters,
            quick=[study.made.study for study in shown if _is_quick(study)],
            full=[study.made.study for study in shown if not _is_quick(study)],
            missing=[chapter.claim.study for chapter in chapters if chapter.file is None],
            command=COMMAND,
            most_rows=MOST_ROWS,
            counted=_counted,
            cell=_cell,
            prose=_prose,
            json=lambda value: json.dumps(value, ensure_ascii=False),
        )
    )
    pictures = {
        f"{FOLDER}/{study.made.study}-{figure.name}.svg": still(figure)
        for study in shown
        for figure in study.found.figures
    }
    return {PAGE: page, **pictures}


def write(docs: Path) -> None:
    """Write the page and its pictures into the folder of the documentation; pictures that are no longer on it go.

    Raises:
        RunError: a file of a study cannot be read.
    """
    made = pages([read_found(path) for path in sorted((docs / FOLDER).glob("*.json"))])
    for name, content in made.items():
        write_whole(docs / name, content)
    for path in (docs / FOLDER).glob("*.svg"):
        if f"{FOLDER}/{path.name}" not in made:
            path.unlink()


def _is_quick(study: StudyFile) -> bool:
    return "--quick" in study.made.command.split()


def _counted(found: Found) -> Table:
    """Return the counts that are not zero."""
    return Table(found.counted.columns, tuple(row for row in found.counted.rows if row[-1] != 0))


def _cell(value: Cell) -> str:
    """Return a value of a table in Markdown: floats with four digits, and a hyphen for what was not measured."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else _prose(str(value)).replace("|", "\\|")


def _prose(text: str) -> str:
    """Return text in which Markdown finds no tags and no emphasis; what is between backticks stays code."""
    parts = text.split("`")
    return "`".join(part.translate(ESCAPES) if place % 2 == 0 else part for place, part in enumerate(parts))


def _environment() -> Environment:
    # Markdown has no tags to escape; `_prose` and `_cell` escape what Markdown would interpret.
    return Environment(
        autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )


def main(arguments: Sequence[str]) -> None:
    """Write the page into the folder that the only argument names."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        raise SystemExit(f"name the folder of the documentation, such as in: {COMMAND}")
    try:
        write(Path(arguments[0]))
    except TskdTuneError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main(sys.argv[1:])
