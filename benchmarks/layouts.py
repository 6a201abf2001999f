"""The suite ``layouts``: a step of several networks whose images have their channels last, beside channels first."""

from __future__ import annotations

import gc
from dataclasses import replace
from itertools import product
from typing import Literal

import torch

from benchmarks.clocks import interleaved
from benchmarks.contenders import GENERAL, Ours
from benchmarks.environment import name_of
from benchmarks.exactness import Found, Limits, flat, judged, relative
from benchmarks.rows import Report, Row
from benchmarks.steps import QUICK_REPEATS, REPEATS
from benchmarks.variants import ENGINES
from benchmarks.workload import CLASSES, Variant, Workload, reproducible
from tskd_tune.training.trainer import Trainer

NETWORKS = ("resnet20", "resnet8x4", "wrn_16_2", "vgg8", "mobilenet_v2", "shufflenet_v2", "resnet18")
QUICK_NETWORKS = ("resnet20", "mobilenet_v2")
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def run(device: torch.device, *, quick: bool) -> Report:
    """Measure the suite.

    Raises:
        ExactnessError: the two memory formats differ by more than rounding.
    """
    on_gpu = device.type == "cuda"
    batch_size = 128 if on_gpu else 32
    workload = Workload(general=100 if on_gpu else -(-CLASSES // batch_size), batch_size=batch_size)
    repeats = QUICK_REPEATS if quick else REPEATS
    names = QUICK_NETWORKS if quick else NETWORKS
    rows = [
        _row(replace(workload, student=name), device, precision, repeats)
        for name, precision in product(names, PRECISIONS)
    ]
    note = (
        f"Plain training of images of 32 x 32, batches of {batch_size}; the reference is the same with channels first."
    )
    return Report(tuple(rows), notes=(note,))


def _row(workload: Workload, device: torch.device, precision: Precision, repeats: int) -> Row:
    first, last = _variants(device, precision)
    found = same_but_rounding(workload, first, last, device)
    timed = interleaved({variant.name: Ours(workload, variant, device) for variant in (first, last)}, repeats)
    gc.collect()
    return Row(
        suite="layouts",
        name=f"{workload.student}, {last.name}",
        device=name_of(device),
        precision=precision,
        layout=last.layout,
        unit="general step",
        clock="cpu" if device.type == "cpu" else "wall",
        ours=timed[last.name].median(GENERAL),
        reference=timed[first.name].median(GENERAL),
        exactness=found.exactness,
        compared=found.compared,
        difference=found.difference,
        prepare_seconds=timed[last.name].prepare_seconds,
        repeats=timed[last.name].pairs(GENERAL, timed[first.name]),
        more={"batch_size": workload.batch_size},
    )


def _variants(device: torch.device, precision: Precision) -> tuple[Variant, Variant]:
    """Return channels first and channels last; on a GPU, with captured steps."""
    options = ENGINES["graph"] if device.type == "cuda" else {}
    names = (f"{precision} NCHW", f"{precision} channels_last")
    first, last = (Variant(name, precision, name.endswith("last"), options) for name in names)
    return first, last


def same_but_rounding(workload: Workload, first: Variant, last: Variant, device: torch.device) -> Found:
    """Take the same step in both memory formats, and compare the loss and the changes of the weights.

    In a second step the difference of the first one is many times as large, because many activations of a new network
    lie near zero.

    Raises:
        ExactnessError: see `judged`.
    """
    with reproducible():
        trainers = [workload.trainer(variant, device) for variant in (first, last)]
        before = _weights(trainers[0])
        losses = [_loss(trainer) for trainer in trainers]
    theirs, ours = (_weights(trainer) for trainer in trainers)
    found = Limits(abs(losses[1] / losses[0] - 1), relative(ours, theirs, before))
    compared = "loss, and changes of all weights, in a step, with channels last and first"
    return judged(last.name, found, "rounding" if last.precision == "float32" else "changes results", compared)


def _loss(trainer: Trainer) -> float:
    trainer.begin()
    next(trainer.steps())
    trainer.compute.synchronize()
    return trainer.engine.means()["loss"]


def _weights(trainer: Trainer) -> torch.Tensor:
    return flat(trainer.student.parameters())
