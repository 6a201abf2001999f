"""Replay: snapshots of the teacher's own training teach one after the other while the student trains.

The teacher changes, but does not learn from the student. This control separates the effect of a changing teacher from
the effect of a teacher that is trained together with the student (online distillation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from tskd_tune.errors import InputError
from tskd_tune.networks.weights import read_state

State = Mapping[str, Tensor]
# The key of the snapshots in a teacher's file, beside the final state.
TRAJECTORY = "trajectory"


def snapshot_epochs(epochs: int, count: int) -> list[int]:
    """Return the epochs, from 0, at whose end a snapshot is kept: evenly spaced, including the last epoch."""
    return [-(-(number + 1) * epochs // count) - 1 for number in range(count)]


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the network's state, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def read_trajectory(path: Path, count: int) -> list[State]:
    """Read the snapshots in a teacher's file, oldest first.

    Raises:
        InputError: the file holds another number of snapshots, or snapshots of another network.
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
    """Loads one snapshot after the other into a frozen teacher; the epoch number alone decides which."""

    def __init__(self, network: nn.Module, snapshots: Sequence[State], epochs: int) -> None:
        """Divide ``epochs`` epochs evenly among ``snapshots``, in order."""
        self._network = network
        self._snapshots = snapshots
        self._epochs = epochs

    def number(self, epoch: int) -> int:
        """Return the number of the snapshot that teaches in an epoch; both count from 0."""
        return epoch * len(self._snapshots) // self._epochs

    def begin_epoch(self, epoch: int) -> None:
        """Load the epoch's snapshot into the network."""
        self._network.load_state_dict(self._snapshots[self.number(epoch)])


def _shapes(state: Mapping[str, object]) -> dict[str, object]:
    return {name: getattr(value, "shape", None) for name, value in state.items()}
