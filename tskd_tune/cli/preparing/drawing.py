"""The drawing of a review plan: one cell per epoch, wrapped to the width of the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

STYLES = {".": "dim", "m": "cyan", "r": "bold yellow", "R": "bold magenta"}
LEGEND = (
    ("m", "memorizes"),
    ("r", "reviews"),
    ("R", "reviews, then memorizes"),
    (".", "general"),
    ("^", "the learning rate drops"),
)
GROUP = 10
MARGIN = 7


def timeline(cells: str, lower: Sequence[int], width: int) -> Text:
    """Draw the epochs of a training in lines of a multiple of ten epochs; a line begins with its first epoch's number.

    Args:
        cells: a letter per epoch, as `Course.phases` gives them.
        lower: the epochs that are the first with a lower learning rate.
        width: the terminal's number of columns; a line has at least ten epochs.
    """
    length = max(GROUP, (width - MARGIN) // GROUP * GROUP)
    text = Text()
    for first in range(0, len(cells), length):
        row = cells[first : first + length]
        _append_row(text, first, row)
        _append_drops(text, first, len(row), lower)
    return text.append(_legend(cells, lower))


def _append_row(text: Text, first: int, row: str) -> None:
    text.append(f"{first:>{MARGIN - 2}}  ", style="dim")
    for cell in row:
        text.append(cell, style=STYLES[cell])
    text.append("\n")


def _append_drops(text: Text, first: int, length: int, lower: Sequence[int]) -> None:
    if any(first <= epoch < first + length for epoch in lower):
        marks = "".join("^" if epoch in lower else " " for epoch in range(first, first + length))
        text.append(" " * MARGIN + marks.rstrip() + "\n", style="red")


def _legend(cells: str, lower: Sequence[int]) -> str:
    shown = [f"{mark} {meaning}" for mark, meaning in LEGEND if mark in cells or (mark == "^" and lower)]
    return " " * MARGIN + ", ".join(shown) + "\n"
