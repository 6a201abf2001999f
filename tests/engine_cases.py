"""Trainings whose captured steps are compared with eager ones, on a CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tskd_tune.training.trainer import Trainer


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state.detach().clone()]
    inner = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    return [tensor for value in inner for tensor in tensors(value)]


def ended(trainer: Trainer) -> Trainer:
    while not trainer.finished:
        trainer.epoch()
    return trainer


def train_into(trainer: Trainer, epochs: int, steps: int) -> None:
    """Train some epochs, and the first steps of the next one."""
    for _ in range(epochs):
        trainer.epoch()
    if steps:
        trainer.begin()
        taken = trainer.steps()
        for _ in range(steps):
            next(taken)


def of_extractors(**options: Any) -> dict[str, Any]:
    return {"review": {"extractor": {"training": options}}}


LONG = {"training": {"epochs": 9, "milestones": [2, 7]}, "task": {"train": 28}}  # batches of 8, 8, 8 and 4
CASES: dict[str, dict[str, Any]] = {
    "reviews, memories that shift, rates that drop": {"distiller": "kd"},
    "no review": {"review": None},
    "nesterov": {"training": {"nesterov": True}, "review": None},
    "no momentum": {"training": {"momentum": 0.0}, "review": None},
    "a loss that warms up": {"distiller": {"name": "review_kd", "warmup": 8}, "review": None},
    "a generator": {"distiller": {"name": "crd", "negatives": 4}},
    "a teacher that learns in some epochs": {"distiller": "ekd", "teacher": {"weights": "untrained"}, "review": None},
    "snapshots of the teacher": {"teacher": {"replay": 3, "training": {"epochs": 3}}, "distiller": "kd"},
    "batch norms of frozen networks": {
        "teacher": {"batch_norm": "train"},
        "review": {"memory": {"batch_norm": "train"}},
    },
    "lambda that is found and rises": {"review": {"lambda": {"auto": 0.1}, "lambda_warmup": 7}},
    "snapshots at the start": {"review": {"plan": {"moment": "epoch_start"}}},
    "part of an epoch": {"review": {"plan": {"review_fraction": 0.6}}},
    "extractors that decay": of_extractors(decay_when_frozen=True),
    "extractors that begin anew": of_extractors(reset=True),
    "extractors that warm up": of_extractors(warmup_steps=2),
    "extractors with Adam": of_extractors(optimizer="own", weight_decay=0.1, reset=True),
    "random memories": {"review": {"sequence_order": "random_memory"}},
    "micro-batches": {"training": {"accumulate": 2}, "distiller": "kd", "review": {"lambda": {"auto": 0.1}}},
    "channels last": {"training": {"channels_last": True}, "distiller": "at"},
    "half precision": {"training": {"precision": "bfloat16"}, "distiller": "kd"},
}
