"""A teacher's own past, shown again while the student trains: it evolves, but does not learn beside its student.

So a teacher that changes is told apart from one that is trained with its student (a control of online distillation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from tskd_tune.errors import InputError
from tskd_tune.networks.weights import read_state

State = Mapping[str, Tensor]
# Where a teacher's file has the snapshots of its training, beside its final state.
TRAJECTORY = "trajectory"


def snapshot_epochs(epochs: int, count: int) -> list[int]:
    """Return the epochs, from 0, at whose end a teacher is kept for a replay: evenly spaced, the last among them."""
    return [-(-(number + 1) * epochs // count) - 1 for number in range(count)]


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the network's state, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def read_trajectory(path: Path, count: int) -> list[State]:
    """Read the snapshots that a teacher's file holds, oldest first.

    Raises:
        InputError: there are none, not so many, or they are of another network than the file's.
    """
    file = read_state(path)
    held = file.facts.get(TRAJECTORY)
    snapshots = held if isinstance(held, list) and all(isinstance(state, Mapping) for state in held) else []
    if len(snapshots) != count:
        raise InputError(
            f"teacher.replay: {path} holds {len(snapshots)} snapshots of its training, not {count};"
            + (f" set replay: {len(snapshots)}" if snapshots else " leave replay out, or set weights: auto")
        )
    shapes = _shapes(file.state)
    if any(_shapes(state) != shapes for state in snapshots):
        raise InputError(f"teacher.replay: {path} holds snapshots of another network; give another checkpoint")
    return snapshots


class Replay:
    """Which snapshot a frozen teacher is in an epoch of its student: a function of the epoch alone."""

    def __init__(self, network: nn.Module, snapshots: Sequence[State], epochs: int) -> None:
        """Show ``snapshots`` through the network, in order and for as long each, over ``epochs`` epochs."""
        self._network = network
        self._snapshots = snapshots
        self._epochs = epochs

    def number(self, epoch: int) -> int:
        """Return which snapshot an epoch sees, both from 0."""
        return epoch * len(self._snapshots) // self._epochs

    def begin_epoch(self, epoch: int) -> None:
        """Load the epoch's snapshot into the network."""
        self._network.load_state_dict(self._snapshots[self.number(epoch)])


def _shapes(state: Mapping[str, object]) -> dict[str, object]:
    return {name: getattr(value, "shape", None) for name, value in state.items()}
