"""Checks whether this machine has the resources of a trial, without Ray."""

from __future__ import annotations

import os
import sys

import torch

from tskd_tune.errors import InputError
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.on_ray.ray_address import is_named


def refuse_here(sweep: Sweep) -> None:
    """Refuse resources that this machine does not have, unless a cluster is there, which may have them.

    A cluster is there if the user named one, or if this process already uses one (``ray.init``).

    Raises:
        InputError: a trial takes more CPU cores or GPUs than this machine has.
    """
    if is_named() or _is_connected():
        return
    workers = sweep.resources.worker_count
    wanted = {"cpu": float(sweep.resources.cpu * workers), "gpu": sweep.resources.gpu or 0.0}
    there = {"cpu": os.cpu_count() or 1, "gpu": torch.cuda.device_count() if wanted["gpu"] else 0}
    problems = [
        f"resources.{name}: a trial asks for {amount:g}, but this machine has {there[name]}; lower resources.{name}, or"
        " give --address of a cluster that has it"
        for name, amount in wanted.items()
        if amount > there[name]
    ]
    if problems:
        with sweep.places.named():
            raise InputError("\n".join(problems))


def _is_connected() -> bool:
    ray = sys.modules.get("ray")  # not imported here: a command that is refused need not wait for it
    return ray is not None and bool(ray.is_initialized())
