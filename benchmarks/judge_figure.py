"""The power of each rule by the number of seeds, as a figure for `docs/protocol.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks import judge_paths as paths
from tskd_tune.studies.found import Cell, Chart, Figure, Table

EFFECT: Final = 1.0
RULES: Final[Mapping[str, str]] = {
    "fixed": "one fixed test with that number of seeds",
    "looks": "looks at 5, 10, 18 and 30 seeds",
    "obrien_fleming": "O'Brien-Fleming at 5, 10 and 18 seeds",
    "split": "split: seeds may be added at any time",
}


def power_figure(tables: int) -> Figure:
    """Return the figure: percent of tables that each rule has resolved by a number of seeds.

    Args:
        tables: the number of simulated tables.
    """
    found = paths.powers(tables, 6, (EFFECT,), paths.SEEDS)
    rows: list[tuple[Cell, ...]] = [
        (name, n, 100 * found[rule, EFFECT, n] / tables) for rule, name in RULES.items() for n in paths.SEEDS
    ]
    return Figure(
        name="power",
        title="The power of each rule",
        says="One comparison, with a true difference of one standard deviation of the paired differences.",
        table=Table(("rule", "seeds", "resolved"), tuple(rows)),
        chart=Chart(
            kind="lines",
            x="seeds",
            y="resolved",
            group="rule",
            x_title="seeds",
            y_title="resolved tables (%)",
        ),
    )
