"""Reading and writing the field's checkpoints: a state dict, bare or wrapped, with or without prefixes."""

from __future__ import annotations

import argparse
import io
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tskd_tune.errors import InputError
from tskd_tune.files import write_whole
from tskd_tune.networks.base import NETWORKS, Network
from tskd_tune.networks.wrapped import Wrapped

WRAPPERS = ("model", "state_dict", "student_best")
ACCURACIES = ("accuracy", "best_acc")
# What torch.nn.DataParallel, DistributedDataParallel and torch.compile put before every name.
SHELLS = ("module.", "_orig_mod.")
STUDENT = "student."
# Counters that checkpoints of torch 0.4 lack; nothing of the field's networks reads them.
COUNTER = "num_batches_tracked"
SHOWN = 3

_numpy_scalar = np.float64(0).__reduce__()[0]
# Harmless things that published checkpoints carry beside their tensors: parsed arguments and numpy's scalars.
HARMLESS: list[Any] = [
    argparse.Namespace,
    (_numpy_scalar, "numpy.core.multiarray.scalar"),
    (_numpy_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
]


@dataclass(frozen=True)
class StateFile:
    """What a checkpoint holds, on the CPU.

    Attributes:
        state: parameter and buffer names, as the network spells them -> tensors.
        accuracy: the top-1 accuracy that the file claims, as it stands there; None if it claims none.
        facts: everything beside the state: the epoch, the name, an optimizer's state.
        ignored: the names in the file that are not the student's: its teacher's, its extractors'.
    """

    state: Mapping[str, Tensor]
    accuracy: float | None
    facts: Mapping[str, Any]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class LoadReport:
    """What was loaded into a network: the number of its parameters, what the file claims and what was ignored."""

    parameters: int
    accuracy: float | None
    ignored: tuple[str, ...]


def read_state(path: Path, *, where: str = "teacher") -> StateFile:
    """Read a checkpoint in any of the field's layouts, without running code from it.

    ``{"model": state}`` and ``{"state_dict": state}`` are unwrapped; ``module.`` is stripped; of a file that
    holds a student beside other networks (``module.student.*``, ``student.*``) the student is taken.

    Args:
        path: the file.
        where: the part of the experiment that the file is for, which messages begin with.

    Raises:
        InputError: the file is missing, damaged, holds other objects than tensors, or is no checkpoint.
    """
    label = f"{where}: {path}"
    held, facts = _unwrapped(_loaded(path, label), label)
    state, ignored = _student(held, label)
    return StateFile(state, _accuracy(facts), facts, ignored)


def load_into(network: Network, path: Path, *, name: str, where: str = "teacher") -> LoadReport:
    """Load a checkpoint into a network, after it was found to fit completely.

    Args:
        network: the network, which is left as it was if the file does not fit.
        path: the file, in any layout that `read_state` reads.
        name: the network's name in the registry.
        where: the part of the experiment that the file is for, which messages begin with.

    Raises:
        InputError: as `read_state`, or names or shapes differ, or a value is not finite.
    """
    file = read_state(path, where=where)
    own = network.state_dict()
    title = network.title if isinstance(network, Wrapped) else name
    problems = _misfits(file.state, own, _title(title, own))
    if problems:
        raise InputError(f"{where}: {path}: {_few(problems)}; {_hint(file.state, own, title)}")
    broken = [key for key, tensor in file.state.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise InputError(f"{where}: {path}: {broken[0]} has values that are not finite; give another checkpoint")
    # Counters that the file lacks keep the network's own values.
    network.load_state_dict({**own, **{key: file.state[key] for key in own if key in file.state}})
    count = sum(parameter.numel() for parameter in network.parameters())
    return LoadReport(count, file.accuracy, file.ignored)


def write_state(path: Path, network: Network, *, facts: Mapping[str, Any]) -> None:
    """Write ``{"model": state dict, **facts}`` so that a reader finds the old file or the new one, never a part.

    Args:
        path: the file; its folder exists.
        network: the network, on any device.
        facts: what the field puts beside the model, ``accuracy``, ``epoch``, ``name``: numbers, strings, None,
            and lists and mappings of them.

    Raises:
        RunError: the disk is full, or the folder is gone or may not be written.
    """
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    content = io.BytesIO()
    torch.save({**facts, "model": state}, content)
    write_whole(path, content.getbuffer())


def _loaded(path: Path, label: str) -> Any:
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{label}: cannot be read ({error.strerror or error}); give a checkpoint's path") from error
    except pickle.UnpicklingError as error:
        raise InputError(f"{label}: {_refusal(error)}") from error
    except Exception as error:  # A damaged file fails anywhere in torch's reader, with any class of error.
        raise InputError(f"{label}: {_damage(error)}") from error


def _refusal(error: pickle.UnpicklingError) -> str:
    """Say which object was refused; torch's own words advise to load it all the same."""
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused is None:
        return _damage(error)
    return (
        f"holds a Python object ({refused[1]}) that could run code, so it was not loaded;"
        " save the network again as torch.save(network.state_dict(), path)"
    )


def _damage(error: Exception) -> str:
    first_line = (str(error) or type(error).__name__).partition("\n")[0]
    return f"is damaged or not a checkpoint ({first_line}); give a file that torch.save wrote, or copy it again"


def _unwrapped(payload: Any, label: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take the state out of its wrappers, and keep what stood beside it."""
    facts: dict[str, Any] = {}
    while isinstance(payload, Mapping):
        wrapper = next((key for key in WRAPPERS if isinstance(payload.get(key), Mapping)), None)
        if wrapper is None:
            break
        facts |= {key: value for key, value in payload.items() if key != wrapper}
        payload = payload[wrapper]
    return _checked(payload, label), facts


def _checked(payload: Any, label: str) -> dict[str, Tensor]:
    remedy = f"give a state dict, bare or under one of the keys {', '.join(WRAPPERS)}"
    if not isinstance(payload, Mapping):
        raise InputError(f"{label}: holds a {type(payload).__name__}, not a checkpoint; {remedy}")
    others = [str(key) for key, value in payload.items() if not isinstance(value, Tensor)]
    if others:
        raise InputError(f"{label}: not a checkpoint, {_few(others)} not being tensors; {remedy}")
    if not payload:
        raise InputError(f"{label}: holds no tensors; {remedy}")
    return {str(key): value for key, value in payload.items()}


def _student(held: dict[str, Tensor], label: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Spell names as the network does, and drop what is not the student's where a student is named."""
    spelled = {key: _bare(key) for key in held}
    named = [key for key, bare in spelled.items() if bare.startswith(STUDENT)]
    kept = named or list(held)
    state = {_bare(spelled[key].removeprefix(STUDENT)): held[key] for key in kept}
    if len(state) < len(kept):
        raise InputError(f"{label}: holds the same parameters twice, under several prefixes; save one network alone")
    return state, tuple(key for key in held if key not in set(kept))


def _bare(key: str) -> str:
    shell = next((shell for shell in SHELLS if key.startswith(shell)), None)
    return key if shell is None else _bare(key.removeprefix(shell))


def _accuracy(facts: Mapping[str, Any]) -> float | None:
    """Return the claimed accuracy, which the field's loops leave as a number, a numpy scalar or a tensor of one."""
    claims = [facts[key] for key in ACCURACIES if isinstance(facts.get(key), int | float | np.number | Tensor)]
    return float(claims[0]) if claims and np.asarray(claims[0]).size == 1 else None


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
    surplus = [f"{key} is no part of {title}" for key in given if key not in needed]
    return differing + missing + surplus


def _few(words: list[str]) -> str:
    rest = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _end_names(state: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return the names of the first convolution and of the last linear layer, as they stand in a state."""
    convolutions = [key for key, tensor in state.items() if tensor.ndim == 4]
    linear = [key for key, tensor in state.items() if tensor.ndim == 2 and key.endswith(".weight")]
    return (convolutions[0], linear[-1]) if convolutions and linear else None


def _ends(state: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Return the classes and the image channels of a state, if it has the two ends of a classifier."""
    names = _end_names(state)
    return None if names is None else (state[names[1]].shape[0], state[names[0]].shape[1])


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
    required = {entry.name: NETWORKS.options(entry.name).model_fields.values() for entry in NETWORKS}
    ready = [name for name, fields in required.items() if not any(field.is_required() for field in fields)]
    return next((name for name in ready if _registered_body(name) == given), None)


@cache
def _registered_body(name: str) -> dict[str, list[int]]:
    # On the CPU: the meta device would first import torch's compiler, which takes seconds.
    with torch.random.fork_rng(devices=[]):
        return _body(NETWORKS.build(name, 1, 1).state_dict())


def _body(state: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Return names and shapes without what a task sets: the channels of the images and the number of classes."""
    convolution, linear = _end_names(state) or ("", "")
    left_out = {convolution: 1, linear: 0, f"{linear.removesuffix('weight')}bias": 0}
    return {
        key: [size for dimension, size in enumerate(shape) if dimension != left_out.get(key)]
        for key, shape in _shapes(state).items()
    }
