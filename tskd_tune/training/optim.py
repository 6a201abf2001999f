"""Stochastic gradient descent as the field uses it; the learning rate depends on the epoch number alone.

On a GPU, learning rates and step counts are tensors, and descent is fused: one kernel updates all parameters, and a
captured graph reads the rate that is set later. On a CPU they are numbers. The device alone decides, never the engine,
so a training has the same bits with and without graphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tskd_tune.contracts import Saved

CPU = torch.device("cpu")
FIRST_RATE = "first_lr"
"""The key, in each group of an optimizer, of the rate that falls from epoch to epoch."""


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent with drops of the learning rate.

    Attributes:
        lr: the first learning rate.
        milestones: the epochs at which the rate drops by ``gamma``.
        convention: ``at``: a milestone is the first epoch at the lower rate; ``after``: the last at the higher.
    """

    lr: float
    milestones: Sequence[int]
    gamma: float
    momentum: float
    nesterov: bool
    weight_decay: float
    convention: Literal["at", "after"] = "at"

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch."""
        late = 1 if self.convention == "after" else 0
        return self.lr * self.gamma ** sum(epoch >= milestone + late for milestone in self.milestones)

    def share(self, epoch: int) -> float:
        """Return the epoch's learning rate as a share of the first."""
        return self.rate(epoch) / self.lr

    def optimizer(self, groups: Iterable[Sequence[nn.Parameter]], device: torch.device = CPU) -> torch.optim.Optimizer:
        """Build the optimizer over the non-empty groups of parameters, which are on the device."""
        named: list[dict[str, Any]] = [{"params": list(group)} for group in groups if group]
        descent = torch.optim.SGD(
            named,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True if in_tensors(device) else None,
        )
        return prepared(descent, device)


def adam(
    parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, device: torch.device
) -> torch.optim.Optimizer:
    """Build Adam over parameters, which are on the device."""
    made = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, capturable=in_tensors(device))
    # Adam would warn at each training's first step, which is taken without a graph.
    made._warned_capturable_if_run_uncaptured = True
    return prepared(made, device)


def in_tensors(device: torch.device) -> bool:
    """Tell whether the optimizers of a device keep rates and counts in tensors, which captured graphs need."""
    return device.type == "cuda"


def prepared(optimizer: torch.optim.Optimizer, device: torch.device) -> torch.optim.Optimizer:
    """Remember the first rate of a new optimizer, and bring the optimizer into the form of its device."""
    for group in optimizer.param_groups:
        group[FIRST_RATE] = group["lr"]
        if in_tensors(device):
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
    _begin_momentum(optimizer)
    return optimizer


def set_share(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every rate to a share of the first one; a rate in a tensor is filled in place."""
    for group in optimizer.param_groups:
        rate = group[FIRST_RATE] * share
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def optimizer_state(optimizer: torch.optim.Optimizer) -> Saved:
    """Return the state of an optimizer, with rates as numbers: another kind of device can go on with the state."""
    state = optimizer.state_dict()
    groups = [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Saved) -> None:
    """Go on with what was remembered of each parameter; options and rates stay those of this optimizer.

    The rate follows from the number of the epoch. What is loaded lies in new tensors, so graphs must be captured anew.
    """
    own = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    groups = [{**mine, "params": saved["params"]} for mine, saved in zip(own, state["param_groups"], strict=True)]
    # Torch keeps tensors that need no conversion, and would go on to change those of the training that saved them.
    optimizer.load_state_dict({"state": deepcopy(state["state"]), "param_groups": groups})
    for group, mine in zip(optimizer.param_groups, own, strict=True):
        group.update(mine)  # loading copied the tensors, which graphs read
        for parameter in group["params"]:
            remembered = optimizer.state.get(parameter, {})
            if "step" in remembered and not group["capturable"]:
                remembered["step"] = remembered["step"].cpu()
    _begin_momentum(optimizer)


def _begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Begin the momentum of fused descent with zeros, which give the first step that no momentum gives.

    Fused descent decides from the absence of momentum whether a step is the first. A graph would keep this decision.
    """
    for group in optimizer.param_groups:
        if group.get("fused") and group.get("momentum"):
            for parameter in group["params"]:
                remembered = optimizer.state[parameter]
                if remembered.get("momentum_buffer") is None:
                    remembered["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
