"""The study ``temporal``: are values of a network predictable over the epochs, beyond what simple rivals predict?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.options import DISTINCT
from tskd_tune.plain import Json
from tskd_tune.studies.base import STUDIES, Found, Place, Study
from tskd_tune.studies.temporal.cells import Judged, comparisons, failures, forecast_all, jobs_of, judged
from tskd_tune.studies.temporal.forecasters import AUTO, Order, name_of
from tskd_tune.studies.temporal.shown import NULLS, Outcome, found_of
from tskd_tune.studies.temporal.windows import (
    PIXEL,
    SHORTEST,
    UNIT,
    Cut,
    Recording,
    Window,
    permuted,
    random_walks,
    recordings,
    windows,
)

AtLeastOne = Annotated[list[PositiveInt], Field(min_length=1), DISTINCT]
Orders = Annotated[
    list[Annotated[list[NonNegativeInt], Field(min_length=3, max_length=3)]], Field(min_length=1), DISTINCT
]
Spaces = Annotated[list[str], Field(min_length=1), DISTINCT]
QUICK, WHOLE = "study_temporal_quick", "study_temporal"
UNTRAINED = "untrained"
"""In the names of arms that are controls: their learning rate is so small that no weight changes."""


@STUDIES.register(
    "temporal", source="the TSKD paper, section 1 and figure 1; Box & Jenkins 1970; Makridakis et al. 2018"
)
class Temporal(Study):
    """Are units, attention maps and weights predictable from epoch to epoch, beyond what simple rivals predict?

    Trainings record series. Each series is forecast from its values up to an origin, by ARIMA and by persistence,
    drift, a local slope, a damped trend and the Theta method. Errors are compared as ratios; the seed is the unit.
    """

    quick: ClassVar[Mapping[str, Json]] = {
        "spaces": [QUICK],
        "seeds": 8,
        "origins": [30],
        "deltas": [1],
        "series": 6,
        "orders": [[1, 1, 1]],
        "auto": False,
    }

    def __init__(
        self,
        *,
        spaces: Spaces | None = None,
        trainings: Annotated[list[str], DISTINCT] | None = None,
        seeds: PositiveInt = 10,
        origins: AtLeastOne | None = None,
        deltas: AtLeastOne | None = None,
        horizons: AtLeastOne | None = None,
        window: Annotated[int, Field(ge=SHORTEST)] = 30,
        series: PositiveInt = 8,
        components: PositiveInt = 3,
        orders: Orders | None = None,
        auto: bool = True,
    ) -> None:
        """Choose trainings and forecasts.

        Args:
            spaces: search spaces or YAML files of sweeps whose trainings have the observer ``series``; null: the
                parabola and digits of ``study_temporal_quick``, and CIFAR-100 in ``study_temporal``.
            trainings: settings ``KEY.KEY=VALUE`` of the last of these sweeps, as ``--set`` takes them; null: none.
            seeds: number of seeds of each sweep, which are 1, 2, ...
            origins: numbers of epochs after which forecasts begin; null: 30, 60, 100 and 145.
            deltas: epochs between two values of a series; null: 1 and 5.
            horizons: numbers of values over which errors are taken; null: 1, 5 and 10.
            window: the most values, up to the origin, that a model is fitted on; of fewer than 10 none is.
            series: the most series of each signal, training and origin, evenly from those that are not constant.
            components: number of principal components of attention maps and of weights.
            orders: orders p, d, q of ARIMA that are fitted; null: 1 1 1 (the paper's figure stands for no order),
                2 1 0 and 1 2 1.
            auto: whether a further model chooses among these orders for each series.
        """
        self._spaces = spaces or [QUICK, WHOLE]
        self._trainings = trainings or []
        self._seeds = seeds
        self._origins = origins or [30, 60, 100, 145]
        self._deltas = deltas or [1, 5]
        self._horizons = sorted(horizons or [1, 5, 10])
        self._cut = Cut(window, max(self._horizons), series, components)
        self._orders: list[Order] = [(p, d, q) for p, d, q in orders or [[1, 1, 1], [2, 1, 0], [1, 2, 1]]]
        self._auto = auto

    def run(self, place: Place) -> Found:
        """Train, cut windows, forecast them, and compare the errors."""
        left: Counter[tuple[str, str, str]] = Counter()
        recorded = [one for space in self._spaces for one in self._trained(place, space)]
        cut = [
            window
            for recording in recorded
            for delta in self._deltas
            for origin in self._origins
            for window in windows(recording, delta, origin, self._cut, left)
        ]
        everything = self._judged(place, [*cut, *self._nulls(cut)])
        models = [*map(name_of, self._orders), *([AUTO] if self._auto else [])]
        nulls = {one.window.cell.arm for one in everything if one.window.cell.arm.startswith(NULLS)}
        nulls |= {one.arm for one in recorded if UNTRAINED in one.arm}
        compared = comparisons(everything, self._horizons, models, sorted(nulls))
        outcome = Outcome(everything, compared, left, failures(everything), models, self._horizons, frozenset(nulls))
        return found_of(outcome)

    def _trained(self, place: Place, space: str) -> list[Recording]:
        settings = [f"seeds={[*range(1, self._seeds + 1)]}"]
        if space == self._spaces[-1]:
            settings += self._trainings
        return recordings(place.sweep(space, settings))

    def _nulls(self, cut: list[Window]) -> list[Window]:
        """Return random walks, and real windows with their increments in a random order.

        These are the attention maps of the first origin, or the units of arms without maps.
        """
        walks = [walk for seed in range(1, self._seeds + 1) for walk in random_walks(seed, self._cut.window, self._cut)]
        first = [one for one in cut if (one.cell.origin, one.cell.delta) == (self._origins[0], self._deltas[0])]
        mapped = {one.cell.arm for one in first if one.cell.signal == PIXEL}
        mixed = permuted(
            [
                one
                for one in first
                if one.cell.signal == (PIXEL if one.cell.arm in mapped else UNIT) and UNTRAINED not in one.cell.arm
            ]
        )
        return [*walks, *mixed]

    def _judged(self, place: Place, cut: list[Window]) -> list[Judged]:
        jobs, groups = jobs_of(cut, self._cut.steps, self._orders, auto=self._auto)
        return judged(groups, place.map("forecasts", forecast_all, jobs))
