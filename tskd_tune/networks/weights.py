"""Reading and writing checkpoints in the usual layouts: a state dict, bare or under a key, with or without prefixes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tskd_tune import saved
from tskd_tune.errors import InputError
from tskd_tune.files import write_whole
from tskd_tune.networks import layouts
from tskd_tune.networks.base import NETWORKS, Network
from tskd_tune.networks.layouts import Held, Spelled, named
from tskd_tune.networks.wrapped import Wrapped

ACCURACIES = ("accuracy", "best_acc")
# Counters that checkpoints of torch 0.4 lack; no network here uses them.
COUNTER = "num_batches_tracked"
VARIANCE = "running_var"
# How the name of a detector's scores ends.
SCORES = "box_predictor.cls_score.weight"
SHOWN = 3
NUMBERS = (int, float, np.integer, np.floating, np.ndarray, Tensor)
REMEDY = "give a state dict, bare or under a key such as model, state_dict or model_state_dict"


@dataclass(frozen=True)
class StateFile:
    """What a checkpoint holds, on the CPU.

    Attributes:
        state: parameter and buffer names, as the network spells them -> tensors.
        accuracy: the accuracy that the file states; None if it states none.
        facts: everything beside the state: the epoch, the name, an optimizer's state.
        ignored: the names in the file that do not belong to the student, such as those of a teacher.
    """

    state: Mapping[str, Tensor]
    accuracy: float | None
    facts: Mapping[str, object]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class LoadReport:
    """What was loaded: the number of parameters, the accuracy that the file states, and the names that were ignored."""

    parameters: int
    accuracy: float | None
    ignored: tuple[str, ...]


def read_state(path: Path, *, where: str = "teacher") -> StateFile:
    """Read a checkpoint in any of the usual layouts, without running code from the file.

    ``{"model": state}``, ``{"state_dict": state}`` and the like are unwrapped; ``module.`` is stripped; of a file
    that holds a student beside other networks (``module.student.*``, ``student.*``) the student is taken.

    Args:
        path: the file.
        where: the part of the experiment that the file is for, which messages begin with.

    Raises:
        InputError: the file is missing, damaged, holds other objects than tensors, or is no checkpoint.
    """
    held, given = _read(path, f"{where}: {path}")[0]
    return _state_file(held, given)


def load_into(network: Network, path: Path, *, name: str, where: str = "teacher") -> LoadReport:
    """Load a checkpoint into a network if all names and shapes fit.

    Args:
        network: the network; it is not changed if the file does not fit.
        path: the file, in any layout that `read_state` reads. Where it holds several networks, the one that fits is
            taken, and a prefix before all of its names, such as Lightning's ``model.``, is stripped.
        name: the network's name in the registry.
        where: the part of the experiment that the file is for, which messages begin with.

    Raises:
        InputError: as `read_state`, or names or shapes differ, or a value is not finite.
    """
    label = f"{where}: {path}"
    found = _read(path, label)
    own = network.state_dict()
    title = network.title if isinstance(network, Wrapped) else name
    file = _fitting_file(found, own, label)
    if file is None:
        raise InputError(f"{label}: {_misfit(found, own, title)}")
    for key, tensor in file.state.items():
        problem = _unusable(tensor, own.get(key)) or _impossible(key, tensor)
        if problem is not None:
            raise InputError(f"{label}: {key} {problem}")
    # Counters that the file lacks keep the network's own values.
    network.load_state_dict({**own, **{key: file.state[key] for key in own if key in file.state}})
    count = sum(parameter.numel() for parameter in network.parameters())
    return LoadReport(count, file.accuracy, file.ignored)


def write_state(path: Path, network: Network, *, facts: Mapping[str, object]) -> None:
    """Write ``{"model": state dict, **facts}`` so that a reader finds the old file or the new one, never a part.

    Args:
        path: the file; its folder exists.
        network: the network, on any device.
        facts: what the field puts beside the model, ``accuracy``, ``epoch``, ``name``: numbers, strings, None,
            and lists and mappings of them.

    Raises:
        RunError: the disk is full, or the folder is gone or may not be written.
    """
    state = {key: _usual(tensor.detach()) for key, tensor in network.state_dict().items()}
    content = io.BytesIO()
    torch.save({**facts, "model": state}, content)
    write_whole(path, content.getbuffer())


def _usual(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU in torch's usual memory format, also in the strides of sides of one pixel.

    Such strides change no place in memory, so ``contiguous`` keeps them, but torch chooses kernels by them.
    """
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)


def _read(path: Path, label: str) -> list[tuple[Held, Spelled]]:
    """Return every state dict in a file, with the names of the file and of networks, the preferred one first."""
    payload = _loaded(path, label)
    found = layouts.states(payload)
    if not found:
        raise InputError(f"{label}: {_nothing(payload)}; {REMEDY}")
    once = [(held, given) for held in found if (given := layouts.spelled(held.tensors)) is not None]
    if not once:
        raise InputError(f"{label}: holds the same parameters twice, under several prefixes; save one network alone")
    return once


def _loaded(path: Path, label: str) -> object:
    try:
        return saved.read(path)
    except OSError as error:
        raise InputError(f"{label}: cannot be read ({error.strerror or error}); give a checkpoint's path") from error
    except saved.UnreadableError as error:
        raise InputError(f"{label}: {error}") from error


def _nothing(payload: object) -> str:
    if not isinstance(payload, Mapping):
        return f"holds one {type(payload).__name__}, not a mapping of names to tensors"
    inner = [one for value in payload.values() for one in (value.values() if isinstance(value, Mapping) else [value])]
    if any(isinstance(one, np.ndarray) and one.ndim for one in inner):
        return "holds numpy arrays and no tensors; convert each by torch.from_numpy, and save again"
    keys = _few([named(str(key)) for key in payload])
    return "holds no tensors of a network" + (f", only the keys {keys}" if keys else "")


def _state_file(held: Held, given: Spelled) -> StateFile:
    return StateFile(given.state, _accuracy(held.facts), held.facts, given.ignored)


def _fitting_file(found: list[tuple[Held, Spelled]], own: Mapping[str, Tensor], label: str) -> StateFile | None:
    """Return the first state that is the network's, whole, with or without prefixes; None if none is.

    Raises:
        InputError: several states fit, and no usual key or prefix says which of them is meant.
    """
    whole = [(held, given) for held, given in found if _fits(given.state, own)]
    unnamed = [named(held.key) for held, _ in whole if not layouts.is_preferred(held.key)]
    if len(unnamed) == len(whole) > 1:
        raise InputError(
            f"{label}: holds {len(whole)} networks that fit, under the keys {_few(unnamed)}; save one network alone"
        )
    for held, given in found:
        if _fits(given.state, own):
            return _state_file(held, given)
        prefixes = layouts.prefixes_of(_shapes(given.state), len(_shapes(own)))
        stripped = [layouts.without(prefix, given) for prefix in prefixes]
        fitting = [one for one in stripped if _fits(one.state, own)]
        if len(fitting) > 1 or (fitting and not own.keys() - given.state.keys()):
            raise InputError(f"{label}: holds more than one network that fits; save one network alone")
        beheaded = layouts.beheaded(given)
        if not fitting and beheaded is not None and _fits(beheaded.state, own):
            fitting = [beheaded]
        if fitting:
            return _state_file(held, fitting[0])
    return None


def _fits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    return _shapes(state) == _shapes(own)


def _misfit(found: list[tuple[Held, Spelled]], own: Mapping[str, Tensor], title: str) -> str:
    """Say how the first of the states differs from a network, and what to do."""
    given = found[0][1]
    prefix = "" if given.state.keys() & own.keys() else layouts.prefix_of(list(given.state))
    state = layouts.without(prefix, given).state
    problems = _few(_misfits(state, own, _title(title, own)))
    begins = f"every name begins with '{named(prefix)}'; without it, " if prefix else ""
    keys = [named(held.key) for held, _ in found if held.key]
    places = f"tensors lie under the keys {_few(keys)}; " if len(keys) > 1 else ""
    return f"{begins}{problems}; {places}{_hint(state, own, title)}"


def _unusable(given: Tensor, own: Tensor | None) -> str | None:
    """Say why the values of a tensor cannot be those of a network's; None if they can."""
    if given.is_meta:
        return "has a shape and no values (the meta device); save the network from the device that it was trained on"
    if given.is_quantized or given.layout is not torch.strided:
        return "is quantized or sparse; save it as tensor.dequantize() or tensor.to_dense()"
    if own is not None and own.is_floating_point() and not given.is_floating_point():
        return (
            f"is of {given.dtype}, but the network needs floating-point numbers; give the weights before quantization"
        )
    # Of the narrowest types torch tells nothing.
    if given.is_floating_point() and not bool(given.float().isfinite().all()):
        return "has values that are not finite; give another checkpoint"
    return None


def _impossible(key: str, given: Tensor) -> str | None:
    """Say why no training can have left the values of a tensor; None if one can."""
    if key.endswith(VARIANCE) and bool((given.float() < 0).any()):
        return "has values below 0, but is a variance; the file is damaged: give another checkpoint"
    return None


def _accuracy(facts: Mapping[str, object]) -> float | None:
    """Return the claimed accuracy, which the field's loops leave as a number, a numpy scalar or a tensor of one.

    A claim that is no finite number is none.
    """
    claim = next((facts[key] for key in ACCURACIES if isinstance(facts.get(key), NUMBERS)), None)
    if not isinstance(claim, NUMBERS):
        return None
    try:
        number = float(claim.item() if isinstance(claim, Tensor | np.ndarray) else claim)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # text, a complex number, a tensor without values
        return None
    return number if isfinite(number) else None


def _shapes(state: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in state.items() if not key.endswith(COUNTER)}


def _misfits(state: Mapping[str, Tensor], own: Mapping[str, Tensor], title: str) -> list[str]:
    """Say how a file's names and shapes differ from a network's, shapes first."""
    given, needed = _shapes(state), _shapes(own)
    differing = [
        f"{key} has shape {given[key]} but {title} needs {needed[key]}"
        for key in needed
        if key in given and given[key] != needed[key]
    ]
    missing = [f"{key} is missing, which {title} needs" for key in needed if key not in given]
    surplus = [f"{named(key)} is no part of {title}" for key in given if key not in needed]
    return differing + missing + surplus


def _few(words: list[str]) -> str:
    rest = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _end_names(state: Mapping[str, Tensor]) -> tuple[str, list[str]] | None:
    """Return the names of the first convolution and of the last linear layers, as they stand in a state.

    A detector ends with two: its scores and its shifts of boxes.
    """
    convolutions = [key for key, tensor in state.items() if tensor.ndim == 4]
    linear = [key for key, tensor in state.items() if tensor.ndim == 2 and key.endswith(".weight")]
    return (convolutions[0], linear[-2:] if _detects(state) else linear[-1:]) if convolutions and linear else None


def _detects(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state is of a detector."""
    return any(key.endswith(SCORES) for key in state)


def _ends(state: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Return the classes and the image channels of a state, if it has the two ends of a classifier or a detector."""
    names = _end_names(state)
    if names is None:
        return None
    # A detector has a row for the background too.
    return state[names[1][0]].shape[0] - _detects(state), state[names[0]].shape[1]


def head_classes(state: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes that the last layer of a state is for; None without one."""
    ends = _ends(state)
    return None if ends is None else ends[0]


def _title(name: str, state: Mapping[str, Tensor]) -> str:
    ends = _ends(state)
    return f"{name} with {ends[0]} classes" if ends else name


def _hint(state: Mapping[str, Tensor], own: Mapping[str, Tensor], title: str) -> str:
    """Say what to do: name the network that the file is of, or give another file."""
    ends, remedy = _ends(state), f"give a checkpoint of {_title(title, own)}"
    if ends is None:
        return remedy
    size = f"{ends[0]} classes for images of {ends[1]} channels"
    if _body(state) == _body(own):
        return f"the file has {size}: give one that was trained on this task"
    fitting = _fitting(state)
    return remedy if fitting is None else f"the file is a {fitting} with {size}: set name: {fitting}, or {remedy}"


def _fitting(state: Mapping[str, Tensor]) -> str | None:
    """Return the registered network whose names and shapes are those of a state, whatever its classes and channels."""
    given = _body(state)
    kin = [one for one in NETWORKS if getattr(one.factory, "takes_batch", False) == _detects(state)]
    required = {entry.name: NETWORKS.options(entry.name).model_fields.values() for entry in kin}
    ready = [name for name, fields in required.items() if not any(field.is_required() for field in fields)]
    return next((name for name in ready if _registered_body(name) == given), None)


@cache
def _registered_body(name: str) -> dict[str, list[int]]:
    # On the CPU: the meta device would first import torch's compiler, which takes seconds.
    with torch.random.fork_rng(devices=[]):
        return _body(NETWORKS.build(name, 1, 1).state_dict())


def _body(state: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Return names and shapes without what a task sets: the channels of the images and the number of classes."""
    convolution, linear = _end_names(state) or ("", [])
    biases = [f"{name.removesuffix('weight')}bias" for name in linear]
    left_out = {convolution: 1, **dict.fromkeys([*linear, *biases], 0)}
    return {
        key: [size for dimension, size in enumerate(shape) if dimension != left_out.get(key)]
        for key, shape in _shapes(state).items()
    }
