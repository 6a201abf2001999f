"""What the study ``temporal`` shows: sentences, figures, tables and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tskd_tune.studies.base import Cell, Chart, Figure, Found, NamedTable, Table
from tskd_tune.studies.temporal.cells import BEST, Comparison, Judged
from tskd_tune.studies.temporal.forecasters import PERSISTENCE, SIMPLE, title_of
from tskd_tune.studies.temporal.scores import FLOOR
from tskd_tune.studies.temporal.windows import PIXEL, REASONS, UNIT

PAPER = "quadratic_sgd"
"""The arm that stands for the paper's figure 1."""
NULLS = "null: "
COLUMNS = (
    "arm",
    "signal",
    "delta",
    "origin",
    "horizon",
    "model",
    "rival",
    "seeds",
    "series",
    "ratio",
    "low",
    "high",
    "p",
    "p_holm",
    "mase",
    "lr_changes",
)


@dataclass(frozen=True)
class Outcome:
    """Everything that the study found, before it is put into words.

    Attributes:
        judged: all windows with their forecasts.
        compared: every model against every rival.
        left: (arm, signal, reason) -> the number of series that were left out.
        failures: (arm, signal, model, what happened) -> the number of fits.
        models: the models, the paper's first.
        horizons: the horizons, the shortest first.
        nulls: the arms that are controls.
    """

    judged: Sequence[Judged]
    compared: Sequence[Comparison]
    left: Counter[tuple[str, str, str]]
    failures: Counter[tuple[str, str, str, str]]
    models: Sequence[str]
    horizons: Sequence[int]
    nulls: frozenset[str]

    def at(self, model: str, horizon: int, rival: str) -> list[Comparison]:
        """Return the comparisons of a model with a rival over a horizon."""
        return [one for one in self.compared if (one.model, one.horizon, one.rival) == (model, horizon, rival)]


def found_of(outcome: Outcome) -> Found:
    """Put the outcome into sentences, figures and tables."""
    return Found(
        sentences=tuple(_sentences(outcome)),
        figures=(*_figure_1(outcome), *_skills(outcome), *_ratios(outcome)),
        tables=(
            NamedTable(
                "comparisons",
                "All comparisons",
                "The error (RMSE over the horizon) of a model divided by that of a rival: the geometric mean over"
                " seeds with its 95 % t interval, below 1 if the model is better. p_holm is corrected over all cells"
                " and horizons with this model and rival, without the controls.",
                Table(COLUMNS, tuple(map(_row, outcome.compared))),
            ),
        ),
        counted=_counted(outcome),
    )


def _row(one: Comparison) -> tuple[Cell, ...]:
    cell, ratio = one.cell, one.ratio
    place = (cell.arm, cell.signal, cell.delta, cell.origin, one.horizon, one.model, one.rival, ratio.seeds, one.series)
    numbers = (ratio.ratio, ratio.low, ratio.high, ratio.p, one.holm, one.mase)
    return (*place, *numbers, "yes" if one.drops else "no")


def _sentences(outcome: Outcome) -> Iterator[str]:
    model, horizon = outcome.models[0], outcome.horizons[-1]
    against = outcome.at(model, horizon, BEST)
    real = [one for one in against if one.cell.arm not in outcome.nulls]
    better = [one for one in real if one.ratio.beats and one.holm is not None and one.holm < 0.05]
    yield (
        f"Against the best simple rival, {title_of(model)} has a smaller error over {horizon} steps in {len(better)} of"
        f" {len(real)} cells (after Holm's correction at 5 %)"
        + (f": {'; '.join(_named(one) for one in better)}." if better else ".")
    )
    yield from _on_the_paper(outcome, model, horizon)
    told = [one for one in against if one.cell.signal in (UNIT, PIXEL, "walk")]
    for one in sorted(told, key=lambda one: one.cell.arm in outcome.nulls):
        control = "Control: " if one.cell.arm in outcome.nulls else ""
        yield (
            f"{control}{_named(one)}: over {horizon} steps the skill of {title_of(model)} is {_skill(one)} against the"
            f" best simple rival, and {_skill(_with(outcome, one, PERSISTENCE))} against persistence"
            f" ({one.ratio.seeds} seeds)."
        )


def _on_the_paper(outcome: Outcome, model: str, horizon: int) -> Iterator[str]:
    """Say what each simple rival shows on the network of figure 1."""
    mine = [one for one in outcome.compared if _is_paper(one) and (one.model, one.horizon) == (model, horizon)]
    verdicts = {one.rival: one for one in mine if one.rival in SIMPLE}
    if not verdicts:
        return
    beaten = [title_of(rival) for rival, one in verdicts.items() if one.ratio.beats]
    others = [title_of(rival) for rival, one in verdicts.items() if not one.ratio.beats]
    yield (
        f"On the units of the network of the paper's figure 1, {title_of(model)} beats {_listed(beaten, 'and')}."
        f" It does not beat {_listed(others, 'or')} (95 % intervals over {mine[0].ratio.seeds} seeds)."
    )


def _is_paper(one: Comparison) -> bool:
    return (one.cell.arm, one.cell.signal, one.cell.delta) == (PAPER, UNIT, 1)


def _listed(words: Sequence[str], joint: str) -> str:
    return f" {joint} ".join(words) if words else "none of the simple rivals"


def _named(one: Comparison) -> str:
    cell = one.cell
    delta = f", every {cell.delta} epochs" if cell.delta > 1 else ""
    return f"{cell.arm}, {cell.signal}{delta}, origin {cell.origin}" + (" (the rate drops)" if one.drops else "")


def _skill(one: Comparison) -> str:
    """Return 1 minus the ratio, with its interval."""
    ratio = one.ratio
    if ratio.low is None or ratio.high is None:
        return f"{ratio.skill:+.2f} (no interval)"
    return f"{ratio.skill:+.2f} [{1 - ratio.high:+.2f}, {1 - ratio.low:+.2f}]"


def _with(outcome: Outcome, given: Comparison, rival: str) -> Comparison:
    same = (given.cell, given.model, given.horizon)
    return next(
        one for one in outcome.at(given.model, given.horizon, rival) if (one.cell, one.model, one.horizon) == same
    )


def _figure_1(outcome: Outcome) -> Iterator[Figure]:
    """Yield the paper's figure, one unit, and the fan of all units; nothing where that network was not trained."""
    mine = [one for one in outcome.judged if _is_of_paper(one)]
    if not mine:
        return
    first, model = mine[0], outcome.models[0]
    start, origin = first.window.cell.origin - len(first.window.past), first.window.cell.origin
    values = [*first.window.past, *first.window.future]
    lines = {"measured": list(enumerate(values, start + 1))}
    for name in (model, PERSISTENCE, "slope", "damped"):
        lines[title_of(name)] = list(enumerate((first.window.past[-1], *first.forecasts[name].values), origin))
    rows = tuple((name, epoch, value) for name, line in lines.items() for epoch, value in line)
    yield Figure(
        "figure_1",
        "The paper's figure 1: one unit and its forecast",
        f"Unit {first.window.series} of seed {first.window.seed}, the first one that is not constant, standardized by"
        f" its first {origin} epochs, and forecasts of the {len(first.window.future)} epochs after them.",
        Table(("series", "epoch", "value"), rows),
        Chart("lines", "epoch", "value", group="series", x_title="epoch", y_title="standard deviations"),
    )
    yield _fan(mine, model)


def _is_of_paper(one: Judged) -> bool:
    cell = one.window.cell
    return (cell.arm, cell.signal, cell.delta) == (PAPER, UNIT, 1)


def _fan(mine: Sequence[Judged], model: str) -> Figure:
    rows = []
    for group in ("measured", model):
        for one in mine:
            window = one.window
            name = f"seed {window.seed}, unit {window.series}"
            start = window.cell.origin - len(window.past)
            past, last = list(enumerate(window.past, start + 1)), window.past[-1]
            future = window.future if group == "measured" else one.forecasts[model].values
            line = (past if group == "measured" else past[-1:]) + list(enumerate(future, window.cell.origin + 1))
            rows += [(title_of(group), name, epoch, value - last) for epoch, value in line]
    return Figure(
        "figure_1_all",
        "The same for all units",
        f"All {len(mine)} units that are forecast, each moved to 0 at the last known epoch.",
        Table(("series", "unit", "epoch", "value"), tuple(rows)),
        Chart("lines", "epoch", "value", group="series", line="unit", x_title="epoch", y_title="standard deviations"),
    )


def _skills(outcome: Outcome) -> Iterator[Figure]:
    """Yield the headline: each model against the best simple rival, with its interval."""
    for model in outcome.models:
        rows = []
        for horizon in outcome.horizons:
            for one in outcome.at(model, horizon, BEST):
                ratio = one.ratio
                numbers = (ratio.ratio, ratio.low, ratio.high, ratio.skill, ratio.seeds, one.holm)
                rows.append((_named(one), f"{horizon} steps", *numbers))
        yield Figure(
            f"best_{model}",
            f"{title_of(model)} against the best simple rival",
            "The ratio of the errors with its 95 % interval over seeds, left of 1 where the model is better; its skill"
            " is 1 minus the ratio. The best of persistence, drift, local slope and damped trend is chosen for each"
            " seed on the other seeds.",
            Table(("cell", "horizon", "ratio", "low", "high", "skill", "seeds", "p_holm"), tuple(rows)),
            _forest("horizon", "error of the model / error of the best simple rival"),
        )


def _forest(group: str, title: str) -> Chart:
    return Chart("intervals", "cell", "ratio", group, low="low", high="high", y_title=title, reference=1.0, log=True)


def _ratios(outcome: Outcome) -> Iterator[Figure]:
    """Yield the ratio of the paper's model to each rival, over the longest horizon."""
    model, horizon = outcome.models[0], outcome.horizons[-1]
    members = [one for one in outcome.compared if (one.model, one.horizon) == (model, horizon) and one.rival != BEST]
    rows = [
        (_named(one), one.rival, one.ratio.ratio, one.ratio.low, one.ratio.high, one.ratio.seeds) for one in members
    ]
    yield Figure(
        "rivals",
        f"{title_of(model)} against each rival, {horizon} steps",
        "The ratio of the errors with its 95 % interval over seeds: below 1, the model is better.",
        Table(("cell", "rival", "ratio", "low", "high", "seeds"), tuple(rows)),
        _forest("rival", "error of the model / error of the rival"),
    )


def _counted(outcome: Outcome) -> Table:
    """Return what was left out or replaced, for each arm and signal, also where it is 0."""
    places = dict.fromkeys((one.window.cell.arm, one.window.cell.signal) for one in outcome.judged)
    places |= dict.fromkeys((arm, signal) for arm, signal, _ in outcome.left)
    forecast = Counter((one.window.cell.arm, one.window.cell.signal) for one in outcome.judged)
    floored = Counter(
        (one.window.cell.arm, one.window.cell.signal)
        for one in outcome.judged
        if one.error(outcome.models[0], outcome.horizons[-1]) <= FLOOR
    )
    rows: list[tuple[Cell, ...]] = []
    for arm, signal in sorted(places):
        rows.append((arm, signal, "series that were forecast", forecast[arm, signal]))
        rows += [(arm, signal, f"left out: {reason}", outcome.left[arm, signal, reason]) for reason in REASONS]
        rows.append((arm, signal, f"errors of {outcome.models[0]} below the floor", floored[arm, signal]))
        fits = [
            (model, what, count) for (a, s, model, what), count in outcome.failures.items() if (a, s) == (arm, signal)
        ]
        rows += [(arm, signal, f"{model}: {what}", count) for model, what, count in fits]
    return Table(("arm", "signal", "what", "number"), tuple(rows))
