"""A scheduler of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import PositiveInt
from ray.tune.schedulers import FIFOScheduler


class Bar(FIFOScheduler):
    """Stops a trial that is behind the best of all by more than a margin."""

    def __init__(self, metric: str, sign: int, after: int, margin: float) -> None:
        super().__init__()
        self._metric_of, self._sign, self._after, self._margin = metric, sign, after, margin
        self._best = float("-inf")

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        value = self._sign * result[self._metric_of]
        self._best = max(self._best, value)
        return "STOP" if result["epoch"] >= self._after and value < self._best - self._margin else "CONTINUE"


def bar(
    epochs: int,
    reviews: Sequence[Sequence[int]],
    metric: str,
    mode: str,
    *,
    margin: float = 0.5,
    patience: PositiveInt = 1,
) -> FIFOScheduler:
    """Trials that are far behind the best are stopped.

    Args:
        margin: how far behind the best a trial may be, in the metric's unit.
        patience: number of epochs after the last first review before trials are compared.
    """
    first = max((of[0] for of in reviews), default=0)
    return Bar(metric, 1 if mode == "max" else -1, first + patience, margin)
