"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from rich.table import Table
from rich.text import Text

Align: TypeAlias = Literal["left", "right"]


def drawn(title: str, titles: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table for a terminal; ``titles`` gives the title and the alignment of each column."""
    table = Table(title=Text(title), title_justify="left")
    for name, align in titles:
        table.add_column(Text(name), justify=align, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
