"""The memory: the last k frozen students, and what they say of today's images (TSKD, Section 3.2 and Algorithm 1)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tskd_tune.contracts import Output
from tskd_tune.errors import RunError

BatchNormMode = Literal["eval", "train"]


class Frozen(nn.Module):
    """A network that does not learn: no gradient, and no call of ``train`` wakes it.

    Args:
        network: maps images to an `Output`.
        take: freeze the given network itself; otherwise a deep copy, and the given one is left as it is.
        batch_norm: ``eval``: every part stays in eval mode; ``train``: batch norms use the statistics of the batch
            and go on moving their own, every other part stays in eval mode.
    """

    def __init__(self, network: nn.Module, take: bool = False, *, batch_norm: BatchNormMode = "eval") -> None:
        super().__init__()
        self._batch_norm = batch_norm
        self.network = network if take else copy.deepcopy(network)
        self.network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Keep the modes as they were made, whatever is asked."""
        super().train(False)
        if self._batch_norm == "train":
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.train(True)
        return self

    def forward(self, images: Tensor) -> Output:
        """Map images ``[B, channels, H, W]`` to their output, which carries no gradient."""
        with torch.no_grad():
            output: Output = self.network(images)
        return output


class Memory(nn.Module):
    """The last k snapshots of a student.

    It is no part of the student, and none of its parameters is trainable.

    Args:
        k: how many snapshots it holds.
        replacement: for the control arm of random memories: gives the network that is kept instead of the i-th
            memorized one, i counting from 0; on the device of the student.
        batch_norm: mode of the snapshots' batch norms. ``eval``: their own running statistics; ``train``: the
            statistics of the batch, as in the authors' code.
    """

    def __init__(
        self,
        k: int,
        replacement: Callable[[int], nn.Module] | None = None,
        *,
        batch_norm: BatchNormMode = "eval",
    ) -> None:
        super().__init__()
        self.k = k
        self._replacement = replacement
        self._batch_norm = batch_norm
        self._snapshots = nn.ModuleList()
        self.memorized = 0

    def __len__(self) -> int:
        """Return how many snapshots are held."""
        return len(self._snapshots)

    @property
    def full(self) -> bool:
        """Whether k snapshots are held, so that a review can read them."""
        return len(self) == self.k

    def memorize(self, network: nn.Module) -> None:
        """Keep a snapshot of the network as it is now; the oldest one leaves when k are held."""
        kept = network if self._replacement is None else self._replacement(self.memorized)
        self._keep(Frozen(kept, batch_norm=self._batch_norm))
        self.memorized += 1

    def recall(self, images: Tensor) -> list[Output]:
        """Return what the k snapshots find in images ``[B, channels, H, W]``, oldest first, without gradient.

        Raises:
            RunError: fewer than k snapshots are held.
        """
        if not self.full:
            raise RunError(
                f"review: the memory holds {len(self)} of {self.k} snapshots; memorize {self.k} epochs before the "
                "first review"
            )
        return [snapshot(images) for snapshot in self._snapshots]

    def snapshot_state(self) -> dict[str, Any]:
        """Return what a resume needs as plain data: ``{memorized, snapshots: [state dict, ...]}``, oldest first."""
        snapshots = [dict(snapshot.network.state_dict()) for snapshot in self._frozen()]
        return {"memorized": self.memorized, "snapshots": snapshots}

    def restore(self, state: Mapping[str, Any], template: nn.Module) -> None:
        """Become the memory that `snapshot_state` described.

        Args:
            state: what `snapshot_state` returned.
            template: a network of the snapshots' architecture, on their device; it is copied, not changed.

        Raises:
            RunError: the state is of another k or of another architecture; the memory is then left as it was.
        """
        memorized, snapshots = state["memorized"], state["snapshots"]
        if len(snapshots) != min(memorized, self.k):
            raise RunError(
                f"review: the saved memory holds {len(snapshots)} snapshots of {memorized} memorized ones, which does "
                f"not fit k = {self.k}; resume with the k that the run was started with"
            )
        restored = [self._restored(snapshot, template) for snapshot in snapshots]
        self._snapshots = nn.ModuleList(restored)
        self.memorized = memorized

    def _restored(self, snapshot: Mapping[str, Tensor], template: nn.Module) -> Frozen:
        frozen = Frozen(template, batch_norm=self._batch_norm)
        try:
            frozen.network.load_state_dict(snapshot)
        except RuntimeError as error:
            first = str(error).partition("\n\t")[2].partition("\n")[0].rstrip(".") or str(error)
            raise RunError(
                f"review: a saved snapshot does not fit the student ({first}); resume with the student that the run "
                "was started with"
            ) from error
        return frozen

    def _keep(self, snapshot: Frozen) -> None:
        kept = [*self._frozen(), snapshot]
        self._snapshots = nn.ModuleList(kept[-self.k :])

    def _frozen(self) -> list[Frozen]:
        return [snapshot for snapshot in self._snapshots if isinstance(snapshot, Frozen)]
