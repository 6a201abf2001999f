"""Forecasts of a standardized series: simple rivals, and ARIMA of statsmodels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from statsmodels.tsa.arima.model import ARIMAResults

Series: TypeAlias = NDArray[np.float64]
Order: TypeAlias = tuple[int, int, int]

SLOPE = 5
"""Values of the end of a series whose slope goes on, for the rival ``slope``."""

HOLD_OUT = 6
"""Values at the end of a window on which the number of differences of ``arima_auto`` is chosen."""

PERSISTENCE = "persistence"
SIMPLE = (PERSISTENCE, "drift", "slope", "damped")
"""The simple rivals; the best of these is what ARIMA has to beat."""
AUTO = "arima_auto"


@dataclass(frozen=True)
class Forecast:
    """What a model says of the values after a window.

    Attributes:
        model: the name of the model.
        values: the forecasts, step by step.
        failed: whether the fit failed, so that the last value stands in for the forecast.
        unconverged: whether the optimizer of the fit did not converge; the forecast is used all the same.
    """

    model: str
    values: tuple[float, ...]
    failed: bool = False
    unconverged: bool = False


def name_of(order: Order) -> str:
    """Return the name of an ARIMA order, such as ``arima_1_1_1``."""
    return "_".join(map(str, ("arima", *order)))


def title_of(model: str) -> str:
    """Return how figures and sentences call a model.

    >>> title_of("arima_1_1_1"), title_of("drift")
    ('ARIMA(1,1,1)', 'drift')
    """
    kind, _, order = model.partition("_")
    if kind != "arima":
        return {"slope": "local slope", "damped": "damped trend", "theta": "Theta"}.get(model, model)
    return f"{order} ARIMA" if model == AUTO else f"ARIMA({order.replace('_', ',')})"


def forecasts(window: Series, steps: int, orders: Sequence[Order], *, auto: bool) -> list[Forecast]:
    """Forecast a standardized window ``[n]``, n at least 10, by every model.

    Args:
        window: the values up to the origin.
        steps: how many values are forecast.
        orders: the orders of ARIMA (p, d, q) that are fitted.
        auto: whether ``arima_auto`` chooses among the orders: by AICc where they have the same d, and between values of
            d by the error on the last 6 values of the window, because likelihoods of different d cannot be compared.
    """
    found = [
        Forecast(PERSISTENCE, persistence(window, steps)),
        Forecast("drift", drift(window, steps)),
        Forecast("slope", local_slope(window, steps)),
        _guarded("damped", window, steps, damped),
        _guarded("theta", window, steps, theta),
    ]
    found += [_guarded(name_of(order), window, steps, _arima(order)) for order in orders]
    return [*found, _automatic(window, steps, orders)] if auto else found


def persistence(window: Series, steps: int) -> tuple[float, ...]:
    """Return the last value, again and again."""
    return (float(window[-1]),) * steps


def drift(window: Series, steps: int) -> tuple[float, ...]:
    """Go on along the line from the first to the last value."""
    return _line(float(window[-1]), float(window[-1] - window[0]) / (len(window) - 1), steps)


def local_slope(window: Series, steps: int) -> tuple[float, ...]:
    """Go on from the last value with the mean slope of the last 5 values."""
    return _line(float(window[-1]), float(window[-1] - window[-SLOPE]) / (SLOPE - 1), steps)


def damped(window: Series, steps: int) -> Series:
    """Return the forecast of Holt's exponential smoothing with a damped trend (Gardner & McKenzie 1985)."""
    from statsmodels.tsa.holtwinters import Holt

    return np.asarray(Holt(window, damped_trend=True, initialization_method="estimated").fit().forecast(steps))


def theta(window: Series, steps: int) -> Series:
    """Return the forecast of the Theta method (Assimakopoulos & Nikolopoulos 2000)."""
    from statsmodels.tsa.forecasting.theta import ThetaModel

    return np.asarray(ThetaModel(window, period=1, deseasonalize=False).fit().forecast(steps))


def _line(start: float, slope: float, steps: int) -> tuple[float, ...]:
    return tuple(start + slope * step for step in range(1, steps + 1))


def _arima(order: Order) -> Callable[[Series, int], Series]:
    return lambda window, steps: np.asarray(_fitted(window, order).forecast(steps))


def _fitted(window: Series, order: Order) -> ARIMAResults:
    from statsmodels.tsa.arima.model import ARIMA

    return ARIMA(window, order=order).fit()


def _guarded(model: str, window: Series, steps: int, forecast: Callable[[Series, int], Series]) -> Forecast:
    """Forecast, or keep the last value where the fit raises an error or gives a number that is not finite."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            values = tuple(map(float, forecast(window, steps)))
        except (ArithmeticError, ValueError, IndexError, np.linalg.LinAlgError):
            values = ()
    if not values or not all(map(math.isfinite, values)):
        return Forecast(model, persistence(window, steps), failed=True)
    return Forecast(model, values, unconverged=any("ConvergenceWarning" in one.category.__name__ for one in caught))


def _automatic(window: Series, steps: int, orders: Sequence[Order]) -> Forecast:
    """Choose an order, and forecast with it; orders that cannot be fitted are not chosen."""
    held: dict[int, float] = {}
    for order in orders:
        found = _guarded(AUTO, window[:-HOLD_OUT], HOLD_OUT, _arima(order))
        error = float(np.sqrt(np.mean((np.array(found.values) - window[-HOLD_OUT:]) ** 2)))
        if not found.failed:
            held[order[1]] = min(error, held.get(order[1], math.inf))
    if not held:
        return Forecast(AUTO, persistence(window, steps), failed=True)
    differences = min(held, key=lambda d: held[d])
    best = min((order for order in orders if order[1] == differences), key=lambda order: _aicc(window, order))
    return _guarded(AUTO, window, steps, _arima(best))


def _aicc(window: Series, order: Order) -> float:
    """Return the AICc of a fit (Hurvich & Tsai 1989); infinite where it fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(_fitted(window, order).aicc)
        except (ArithmeticError, ValueError, IndexError, np.linalg.LinAlgError):
            return math.inf
