"""The suite ``profile``: the operations, or on a GPU the kernels, that a step of each kind spends its time in."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import islice

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.contenders import GENERAL, REVIEW
from benchmarks.rows import Count, Report
from benchmarks.variants import is_graph, variants_of
from benchmarks.workload import Variant, Workload

MOST = 10
"""So many operations of a step are named; the others are added up."""

WARM_STEPS = 4
"""Steps of each kind that are not profiled: a look, and those before a step is captured."""

STEPS = {"cpu": 3, "cuda": 20}


def run(device: torch.device, *, quick: bool) -> Report:
    """Profile a general step and a review in each variant of a device; on a GPU, in those that are captured."""
    counts: list[Count] = []
    for variant in variants_of(device):
        if device.type == "cuda" and not is_graph(variant):
            continue
        for kind in (GENERAL, REVIEW):
            counts += hot_spots(variant, kind, device, batch_size=32 if quick and device.type == "cpu" else 128)
            gc.collect()
    note = (
        f"Each figure is the mean of {STEPS[device.type]} steps of ResNet-20 under ResNet-56, k = 3, hidden 8. The time"
        " of an operation is without those that it calls. The profiler takes time too."
    )
    return Report((), notes=(note,), counts=tuple(counts))


def hot_spots(variant: Variant, kind: str, device: torch.device, batch_size: int) -> list[Count]:
    """Return the milliseconds per step of the longest operations of a kind of step, and of all others together."""
    steps = STEPS[device.type]
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    taken = _steps(variant, kind, device, batch_size, WARM_STEPS + steps)
    for _ in islice(taken, WARM_STEPS):
        pass
    with profile(activities=activities, acc_events=True) as profiled:
        for _ in islice(taken, steps):
            pass
        if device.type == "cuda":
            torch.cuda.synchronize()
    spent = {
        event.key: (event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total) / 1000 / steps
        for event in profiled.key_averages()
    }
    order = sorted(spent, key=lambda name: -spent[name])
    shown = {name: spent[name] for name in order[:MOST]} | {"all others": sum(spent[name] for name in order[MOST:])}
    return [Count(f"{kind}, {variant.name}: {name}", "ms", value) for name, value in shown.items()]


def _steps(variant: Variant, kind: str, device: torch.device, batch_size: int, count: int) -> Iterator[object]:
    """Take so many steps of a kind."""
    general, reviews = (count, 0) if kind == GENERAL else (1, count)
    workload = Workload(general=general, reviews=reviews, batch_size=batch_size)
    trainer = workload.trainer(variant, device)
    trainer.begin(workload.epoch)
    return trainer.steps()
