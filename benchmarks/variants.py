"""The variants in which the suites measure the package: number format, memory format and engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from benchmarks.workload import Variant
from tskd_tune.experiment.descent import Training


@dataclass(frozen=True)
class Variants:
    """What is measured on a device.

    Attributes:
        variants: the variants.
        notes: a sentence for each that was left out.
    """

    variants: tuple[Variant, ...]
    notes: tuple[str, ...] = ()


FORMATS = (
    Variant("float32 NCHW"),
    Variant("float32 channels_last", channels_last=True),
    Variant("bfloat16 channels_last", "bfloat16", channels_last=True),
)
ENGINES: Mapping[str, Mapping[str, object]] = {"eager": {"graphs": "never"}, "graph": {"graphs": "always"}}
FASTEST: Mapping[str, Mapping[str, object]] = {
    "graph, fastest kernels": {"graphs": "always", "kernels": "fastest"},
    "graph, fastest kernels, compiled": {"graphs": "always", "kernels": "fastest", "compile": "always"},
}


def variants_of(device: torch.device) -> Variants:
    """Return the variants of a device: on a GPU each format eagerly and as a graph, and the fastest format faster."""
    if device.type == "cpu":
        return Variants(FORMATS)
    chosen, notes = [], []
    for engine, options in {**ENGINES, **FASTEST}.items():
        missing = sorted(set(options) - set(Training.model_fields))
        if missing:
            notes.append(f"Left out: '{engine}', because this version has no training.{missing[0]}.")
            continue
        formats = FORMATS if engine in ENGINES else FORMATS[-1:]
        chosen += [replace(each, name=f"{each.name}, {engine}", options=options) for each in formats]
    return Variants(tuple(chosen or FORMATS), tuple(notes))
