"""What all optimizers of a training have in common: rates that change in place, and states that another device reads.

On a GPU, learning rates and step counts are tensors where torch has such a form of the optimizer, and SGD is fused: one
kernel updates all parameters, and a captured graph reads the rate that is set later. On a CPU they are numbers. The
device alone decides, never the engine, so a training has the same bits with and without graphs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Final

import torch
from torch import Tensor, nn

from tskd_tune.contracts import Saved

CPU = torch.device("cpu")
FIRST_RATE = "first_lr"
"""The key, in each group of an optimizer, of the rate that falls from epoch to epoch."""

ZEROS = (
    *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RAdam, torch.optim.Adamax),
    *(torch.optim.Adadelta, torch.optim.RMSprop, torch.optim.Adafactor),
)
STARTS: Final[Mapping[type[torch.optim.Optimizer], Mapping[str, float | str]]] = {
    **{kind: {} for kind in ZEROS},
    torch.optim.NAdam: {"mu_product": 1.0},
    torch.optim.Adagrad: {"sum": "initial_accumulator_value"},
}
"""Class -> what of its state does not begin with zeros: a number, or the option that has the number."""


def adam(
    parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, device: torch.device
) -> torch.optim.Optimizer:
    """Build Adam over parameters, which are on the device."""
    made = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, capturable=in_tensors(device))
    return prepared(made, device)


def in_tensors(device: torch.device) -> bool:
    """Tell whether the optimizers of a device keep rates and counts in tensors, which captured graphs need."""
    return device.type == "cuda"


def flags(kind: type[torch.optim.Optimizer], device: torch.device) -> dict[str, bool | None]:
    """Return the options of a class of torch that follow from the device."""
    if kind is torch.optim.SGD:
        return {"fused": True if in_tensors(device) else None}
    if "capturable" not in inspect.signature(kind).parameters:
        return {}
    # Where torch loops over the parameters instead (foreach=False), some optimizers read the rate from the GPU.
    return {"capturable": in_tensors(device), "foreach": True if device.type == "cuda" else None}


def capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether a captured graph can hold the steps of an optimizer of a GPU."""
    return all(_in_tensors(group) for group in optimizer.param_groups)


def prepared(optimizer: torch.optim.Optimizer, device: torch.device) -> torch.optim.Optimizer:
    """Remember the first rate of a new optimizer, and bring the optimizer into the form of its device."""
    # A capturable optimizer would warn at each training's first step, which is taken without a graph.
    optimizer._warned_capturable_if_run_uncaptured = True
    for group in optimizer.param_groups:
        group[FIRST_RATE] = group["lr"]
        if _in_tensors(group):
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
    _begin_momentum(optimizer)
    return optimizer


def _in_tensors(group: Mapping[str, Any]) -> bool:
    return bool(group.get("capturable") or group.get("fused"))


def set_share(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every rate to a share of the first one; a rate in a tensor is filled in place."""
    for group in optimizer.param_groups:
        rate = group[FIRST_RATE] * share
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def forget(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> None:
    """Set what an optimizer remembers of a parameter to what it begins with, in place where torch's classes are known.

    A class from outside makes its state anew at its next step.
    """
    if type(optimizer) not in STARTS:
        optimizer.state.pop(parameter, None)
        return
    starts = STARTS[type(optimizer)]
    groups = (group for group in optimizer.param_groups if any(parameter is one for one in group["params"]))
    for group in groups:
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                start = starts.get(name, 0.0)
                value.fill_(group[start] if isinstance(start, str) else start)


def kept_after_a_step(optimizer: torch.optim.Optimizer, like: Tensor) -> Saved:
    """Return what an optimizer keeps of a parameter after a step, by a step on zeros of its shape, on the CPU."""
    kind = type(optimizer)
    stand_in = nn.Parameter(torch.zeros(like.shape, dtype=like.dtype))
    stand_in.grad = torch.zeros_like(stand_in)
    known = inspect.signature(kind).parameters
    options = {name: value for name, value in optimizer.defaults.items() if name in known}
    twin = kind([stand_in], **{**options, **flags(kind, CPU)})
    twin.step()
    return dict(twin.state[stand_in])


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
            if isinstance(remembered.get("step"), Tensor) and not group.get("capturable"):
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
