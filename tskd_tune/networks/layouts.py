"""The usual layouts of checkpoints: the key of the tensors, and the prefixes of their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from tskd_tune.errors import printable

State = Mapping[str, Tensor]
# Keys that hold a network, in order of preference. Other keys are searched after these.
WRAPPERS = (
    *("model", "state_dict", "student_best", "student", "model_state_dict", "model_state", "net", "network"),
    *("net_state_dict", "params", "weights", "module", "model_ema", "state_dict_ema", "ema", "params_ema", "teacher"),
)
# Prefixes that torch.nn.DataParallel, DistributedDataParallel and torch.compile put before names.
SHELLS = ("module.", "_orig_mod.")
STUDENT = "student."
# A counter beside the parameters of torch.optim.swa_utils.AveragedModel.
AVERAGED = "n_averaged"
DEPTH = 4
# Letters of a long name that a message shows at either end.
SHOWN = 80
DOT = re.compile(r"\.")


@dataclass(frozen=True)
class Held:
    """A state dict in a file.

    Attributes:
        key: its place in the file, such as ``student_best.model``; empty for a bare state dict.
        tensors: name in the file -> tensor.
        facts: all other values beside it, on all levels.
    """

    key: str
    tensors: State
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Spelled:
    """A state dict with the names of a network, and the names of the file that were left out."""

    state: State
    ignored: tuple[str, ...]


def states(payload: object) -> list[Held]:
    """Return every state dict in the content of a file, the preferred one first."""
    return list(_states(payload, "", DEPTH))


def _states(payload: object, key: str, depth: int) -> Iterator[Held]:
    if not isinstance(payload, Mapping) or not depth:
        return
    payload = {name: value for name, value in payload.items() if isinstance(name, str)}
    for name in [*(name for name in WRAPPERS if name in payload), *(n for n in payload if n not in WRAPPERS)]:
        for held in _states(payload[name], f"{key}.{name}" if key else name, depth - 1):
            beside = {other: value for other, value in payload.items() if other != name}
            yield replace(held, facts={**beside, **held.facts})
    tensors = {name: value for name, value in payload.items() if isinstance(value, Tensor)}
    if any(value.ndim for value in tensors.values()):
        yield Held(key, tensors, {name: value for name, value in payload.items() if name not in tensors})


def spelled(tensors: State) -> Spelled | None:
    """Remove prefixes from names; if some names begin with ``student.``, keep only these.

    Returns:
        None if the same parameters occur twice, under several prefixes.
    """
    averaged = [AVERAGED] if AVERAGED in tensors and len(tensors) > 1 else []
    bare = {key: _bare(key) for key in tensors if key not in averaged}
    named = [key for key, name in bare.items() if name.startswith(STUDENT)]
    kept = named or list(bare)
    state = {_bare(bare[key].removeprefix(STUDENT)): tensors[key] for key in kept}
    if len(state) < len(kept):
        return None
    used = set(kept)
    return Spelled(state, tuple(key for key in tensors if key not in used))


def _bare(key: str) -> str:
    shell = next((shell for shell in SHELLS if key.startswith(shell)), None)
    return key.replace("._orig_mod.", ".") if shell is None else _bare(key.removeprefix(shell))


def prefix_of(names: list[str]) -> str:
    """Return the longest common prefix of whole parts, such as ``model.``; empty if there is none."""
    parts = [name.split(".")[:-1] for name in names]
    common = 0
    while all(len(part) > common and part[common] == parts[0][common] for part in parts):
        common += 1
    return "".join(f"{part}." for part in parts[0][:common])


def prefixes_of(names: Iterable[str], count: int) -> list[str]:
    """Return every prefix of whole parts that exactly ``count`` names begin with, in the order of the names."""
    found = Counter(name[: dot.end()] for name in names for dot in DOT.finditer(name))
    return [prefix for prefix, times in found.items() if times == count]


def beheaded(given: Spelled) -> Spelled | None:
    """Remove the first part of every name, as in mmpretrain's ``backbone.conv1.weight`` and ``head.fc.weight``.

    Returns:
        None if a name has one part only, or if the same name would occur twice.
    """
    state = {name.partition(".")[2]: tensor for name, tensor in given.state.items()}
    return None if "" in state or len(state) < len(given.state) else Spelled(state, given.ignored)


def named(key: str) -> str:
    """Return a name of a file as a message can show it: printable, and without its middle where it is long."""
    text = printable(key) or "''"
    return text if len(text) <= 2 * SHOWN else f"{text[:SHOWN]}...{text[-SHOWN:]}"


def is_preferred(key: str) -> bool:
    """Tell whether a place in a file is one of the usual places of a network, so that no other place counts."""
    return not key or any(part in WRAPPERS for part in key.split("."))


def without(prefix: str, given: Spelled) -> Spelled:
    """Keep the names that begin with a prefix, and remove the prefix."""
    state = {name.removeprefix(prefix): tensor for name, tensor in given.state.items() if name.startswith(prefix)}
    return Spelled(state, (*given.ignored, *(name for name in given.state if not name.startswith(prefix))))
