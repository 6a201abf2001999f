"""Refuses what a network computed if it is no output that the other parts can read."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tskd_tune.contracts import Classified, Output
from tskd_tune.errors import InputError


def refuse_output(output: object, title: str) -> None:
    """Refuse what a network computed from one image, if it is no output of `tskd_tune.contracts`.

    Args:
        output: what its forward gave.
        title: the network, as the beginning of a message.

    Raises:
        InputError: with the part that is wrong.
    """
    if not isinstance(output, Output):
        raise InputError(
            f"{title}: its forward gave a value of the type {type(output).__name__}, but must give an output of"
            " tskd_tune.contracts; return Classified(logits, features, preactivations, embedding)"
        )
    _refuse_maps("features", output.features, title)
    _refuse_maps("preactivations", output.preactivations, title)
    if isinstance(output, Classified):
        _refuse_tensor("the logits", output.logits, title)
        _refuse_tensor("the embedding", output.embedding, title)


def _refuse_maps(name: str, maps: object, title: str) -> None:
    if not isinstance(maps, Mapping):
        raise InputError(
            f"{title}: the {name} of its output are a value of the type {type(maps).__name__}, but must be a mapping"
            " of the names of stages to tensors"
        )
    for stage, map_ in maps.items():
        _refuse_tensor(f"the {name} of '{stage}'", map_, title)


def _refuse_tensor(name: str, value: object, title: str) -> None:
    if isinstance(value, Tensor) and value.dim() > 1 and len(value) == 1:
        return
    found = f"a tensor of the shape {[*value.shape]}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    raise InputError(
        f"{title}: of one image, {name} in its output is {found}, but must be a tensor [1, ...]: the batch comes first"
    )
