"""What Ray's dashboard is told of a sweep."""

from __future__ import annotations

from typing import Any

import pytest

import factories
from tskd_tune.records.entries.events import Event, row_event
from tskd_tune.sweeps.on_ray import ray_metrics
from tskd_tune.sweeps.on_ray.ray_metrics import metered

SEEN: dict[tuple[str, str], float] = {}


class Meter:
    """Keeps what Ray's metrics would be given."""

    def __init__(self, name: str, description: str, keys: tuple[str, ...]) -> None:
        assert description and keys[0] == "sweep"
        self.name = name

    def set_default_tags(self, tags: dict[str, str]) -> None:
        assert tags == {"sweep": "first"}

    def set(self, value: float, tags: dict[str, str]) -> None:
        SEEN[self.name, *tags.values()] = value  # type: ignore[index]

    def inc(self) -> None:
        SEEN[self.name, ""] = SEEN.get((self.name, ""), 0) + 1


@pytest.mark.parametrize(("mode", "best"), [("max", 62.0), ("min", 60.0)])
def test_runs_epochs_and_the_best_value_are_counted(mode: Any, best: float, monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    monkeypatch.setattr(ray_metrics.metrics, "Gauge", Meter)
    monkeypatch.setattr(ray_metrics.metrics, "Counter", Meter)
    heard: list[Event] = []
    listener = metered(heard.append, "first", "val_top1", mode)
    for seed in (1, 2, 3, 4, 5):
        for epoch in range(2):
            listener(Event("epoch", "kd", "t0", seed, epoch, 2))
    assert SEEN["tskd_tune_runs", "running"] == 5
    for seed, top in ((1, 61.0), (2, 62.0), (3, 60.0)):
        listener(row_event(factories.a_row("t0", seed, "kd", metrics={"val_top1": top})))
    listener(row_event(factories.a_row("t0", 4, "kd", status="failed", broke=True, reason="it broke", metrics={})))
    listener(Event("note", "", reason="not counted"))
    assert {
        ("tskd_tune_epochs", ""): 10,
        ("tskd_tune_runs", "done"): 3,
        ("tskd_tune_runs", "failed"): 1,
        ("tskd_tune_runs", "stopped"): 0,
        ("tskd_tune_runs", "running"): 1,
        ("tskd_tune_best", "val_top1"): best,
    } == SEEN
    assert len(heard) == 15, "the listener hears every event, first"
