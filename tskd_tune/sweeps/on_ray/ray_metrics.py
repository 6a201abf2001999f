"""The progress of a sweep as metrics of Ray, which its dashboard, Prometheus and Grafana read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

from ray.util import metrics

from tskd_tune.metrics import Mode
from tskd_tune.plain import Json
from tskd_tune.records.entries.events import Event, Listener

PREFIX: Final = "tskd_tune"
STATES: Final = ("done", "failed", "stopped", "running")


class Meters:
    """Ray's metrics of a sweep, each with the tag ``sweep``.

    ``tskd_tune_runs`` counts trainings by ``state``: done, failed, stopped, or running; ``tskd_tune_epochs`` counts
    the epochs that this process heard of; ``tskd_tune_best`` is the best value of the sweep's metric over the rows.
    """

    def __init__(self, sweep: str, metric: str, mode: Mode) -> None:
        """Make the metrics of a sweep, while Ray runs."""
        self._metric = metric
        self._sign = 1.0 if mode == "max" else -1.0
        self._best = -math.inf
        self._states: dict[tuple[str | None, int | None], str] = {}
        keys = ("sweep",)
        self._runs = metrics.Gauge(f"{PREFIX}_runs", "trainings of a sweep by state", (*keys, "state"))
        self._epochs = metrics.Counter(f"{PREFIX}_epochs", "epochs that were trained", keys)
        self._top = metrics.Gauge(f"{PREFIX}_best", f"best value of {metric}", (*keys, "metric"))
        for meter in (self._runs, self._epochs, self._top):
            meter.set_default_tags({"sweep": sweep})

    def hear(self, event: Event) -> None:
        """Count an epoch or a row."""
        training = event.run, event.seed
        if event.what == "epoch":
            self._epochs.inc()
            if self._states.get(training) != "running":
                self._enter(training, "running")
        elif event.what in ("finished", "failed") and event.seed is not None:
            status = "failed" if event.what == "failed" or event.row is None else event.row.status
            self._enter(training, status)
            if status == "done":
                self._compare(event.metrics or {})

    def _enter(self, training: tuple[str | None, int | None], state: str) -> None:
        self._states[training] = state
        counts = Counter(self._states.values())
        for name in STATES:
            self._runs.set(counts[name], tags={"state": name})

    def _compare(self, found: Mapping[str, Json]) -> None:
        value = found.get(self._metric)
        if isinstance(value, int | float) and math.isfinite(value) and self._sign * value > self._best:
            self._best = self._sign * value
            self._top.set(float(value), tags={"metric": self._metric})


def metered(listener: Listener, sweep: str, metric: str, mode: Mode) -> Listener:
    """Return a listener that also keeps Ray's metrics of a sweep up to date."""
    meters = Meters(sweep, metric, mode)

    def hear(event: Event) -> None:
        listener(event)
        meters.hear(event)

    return hear
