"""The variants in which the suites measure the package: number format, memory format and engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from benchmarks.workload import Variant
from tskd_tune.training.compiling import why_not_compiled

FORMATS = (
    Variant("float32 NCHW"),
    Variant("float32 channels_last", channels_last=True),
    Variant("bfloat16 channels_last", "bfloat16", channels_last=True),
)
ENGINES: Mapping[str, Mapping[str, object]] = {"eager": {"graphs": "never"}, "graph": {"graphs": "always"}}
FASTEST: Mapping[str, Mapping[str, object]] = {
    "graph, fastest kernels": {"graphs": "always", "kernels": "fastest", "compile": "never"},
    "graph, fastest kernels, compiled": {"graphs": "always", "kernels": "fastest", "compile": "auto"},
}


def variants_of(device: torch.device, *, quick: bool = False) -> tuple[Variant, ...]:
    """Return the variants of a device: on a GPU each format eagerly and as a graph, and the fastest format faster.

    In short there is none that is compiled, which alone takes half a minute; `left_out` says where none can be.
    """
    if device.type == "cpu":
        return FORMATS
    chosen = []
    for engine, options in {**ENGINES, **FASTEST}.items():
        if options.get("compile") == "auto" and (quick or left_out(device)):
            continue
        formats = FORMATS if engine in ENGINES else FORMATS[-1:]
        chosen += [replace(each, name=f"{each.name}, {engine}", options=options) for each in formats]
    return tuple(chosen)


def left_out(device: torch.device) -> tuple[str, ...]:
    """Say why no variant of a device is compiled; nothing where one can be."""
    if device.type == "cpu" or not torch.cuda.is_available():
        return ()
    obstacle = why_not_compiled(device)
    return () if obstacle is None else (f"No variant is compiled: {obstacle}.",)


def is_exact(variant: Variant) -> bool:
    """Tell whether a variant gives the same bits each time."""
    return variant.options.get("kernels", "deterministic") == "deterministic"


def is_graph(variant: Variant) -> bool:
    """Tell whether a variant captures its steps in graphs."""
    return variant.options.get("graphs") == "always"
