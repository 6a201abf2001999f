"""The drawing of a review plan: a cell an epoch, wrapped to the width of the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from tskd_tune.experiment import Experiment

CELLS = {"general": ".", "memorize": "m", "review": "r", "memorize+review": "R"}
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


def drops(experiment: Experiment) -> list[int]:
    """Return the epochs that are the first at a lower learning rate."""
    recipe = experiment.training.recipe()
    return [epoch for epoch in range(1, experiment.training.epochs) if recipe.rate(epoch) < recipe.rate(epoch - 1)]


def phases(experiment: Experiment) -> str:
    """Return a letter an epoch: `m`emorize, `r`eview, ``R`` for both, ``.`` for general."""
    plan = experiment.plan()
    if plan is None:
        return CELLS["general"] * experiment.training.epochs
    return "".join(CELLS[plan.phase(epoch)] for epoch in range(experiment.training.epochs))


def timeline(experiment: Experiment, width: int) -> Text:
    """Draw the epochs of a training in lines of whole tens, each after the number of its first epoch.

    Args:
        experiment: what is trained.
        width: columns of the terminal; a line has at least ten epochs.
    """
    cells, lower = phases(experiment), drops(experiment)
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
