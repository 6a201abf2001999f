"""The memory: the last k snapshots of the student, and their outputs on a batch (TSKD, Section 3.2, Algorithm 1)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, pairwise
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tskd_tune.contracts import AnyBatch, Output, Saved, inputs_of
from tskd_tune.errors import RunError
from tskd_tune.method.branches import Apart, at_once
from tskd_tune.method.folding import FoldedNetwork, Points

BatchNormMode = Literal["eval", "train"]


class Frozen(nn.Module):
    """A network that is never trained: its parameters have no gradient, and ``train()`` does not change its modes.

    Args:
        network: maps images to an `Output`.
        take: freeze the given network itself; otherwise freeze a deep copy and leave the given network unchanged.
        batch_norm: ``eval``: all modules stay in eval mode; ``train``: batch norms use the statistics of the batch and
            go on updating their running statistics, all other modules stay in eval mode.
        fold: where the network is tapped, if only that is ever needed without ``heads``: then a folded network computes
            it (`tskd_tune.method.folding`); None: no folding. It has no effect on batch norms in train mode, and on a
            network that cannot be folded.
    """

    def __init__(
        self,
        network: nn.Module,
        take: bool = False,
        *,
        batch_norm: BatchNormMode = "eval",
        fold: Points | None = None,
    ) -> None:
        super().__init__()
        self._batch_norm = batch_norm
        self.network = network if take else copy.deepcopy(network)
        self.network.requires_grad_(False)
        # A detector takes images of many sizes, each of which would be traced, in vain.
        self._points = fold if batch_norm == "eval" and not self.takes_batch else None
        self._folded: dict[object, FoldedNetwork | None] = {}
        self.network.register_load_state_dict_post_hook(self._follow)  # type: ignore[no-untyped-call]
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Keep the modes, whatever ``mode`` is."""
        super().train(False)
        if self._batch_norm == "train":
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.train(True)
        return self

    def forward(self, images: Tensor, batch: AnyBatch | None = None, *, heads: bool = True) -> Output:
        """Map images ``[B, channels, H, W]`` to their output, without gradient; a detector is given the batch too.

        Without ``heads``, a network that can end at its last tap does so, unless batch norms of its heads go on
        updating their running statistics.
        """
        folded = None if heads else self._folded_for(images)
        if folded is not None:
            return folded(images)
        cut = not heads and self._batch_norm == "eval" and getattr(self.network, "cuttable", False)
        with torch.no_grad():
            given = (images,) if batch is None else inputs_of(self.network, images, batch)
            output: Output = self.network(*given, heads=False) if cut else self.network(*given)
        return output

    @property
    def takes_batch(self) -> bool:
        """Whether the network is given the batch beside its images."""
        return getattr(self.network, "takes_batch", False)

    def refold(self) -> None:
        """Let the folded network follow the values of the network, in place."""
        for folded in self._folded.values():
            if folded is not None:
                folded.refold()

    def _follow(self, *ignored: object) -> None:
        self.refold()

    def _folded_for(self, images: Tensor) -> FoldedNetwork | None:
        """Return the folded network for images of this shape, made when it is first asked for; None without one."""
        if self._points is None:
            return None
        kind = images.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else images.dtype
        key = dtype, images.device, images.shape[1:]
        if key not in self._folded:
            self._folded[key] = FoldedNetwork.of(self.network, self._points, images.to(dtype))
        return self._folded[key]


class Memory(nn.Module):
    """The last k snapshots of a student, in k slots; slot 0 holds the oldest.

    The memory is no part of the student, and none of its parameters is trainable. Each slot is allocated once. When all
    are full, the memory copies every snapshot in place to the slot before, so the tensors that a captured graph reads
    stay where they are.

    >>> memory = Memory(k=2)
    >>> student = nn.Linear(1, 1)
    >>> for epoch in (0, 5, 10):
    ...     memory.memorize(student)
    >>> len(memory), memory.full, memory.memorized
    (2, True, 3)

    Args:
        k: how many snapshots the memory holds.
        replacement: for the control with random memories: makes the network that is kept instead of the i-th memorized
            one, i counting from 0, on the device of the student.
        batch_norm: mode of the snapshots' batch norms. ``eval``: their own running statistics; ``train``: the
            statistics of the batch, as in the authors' code.
        fold: where snapshots are tapped, to fold them; see `Frozen`.
    """

    def __init__(
        self,
        k: int,
        replacement: Callable[[int], nn.Module] | None = None,
        fold: Points | None = None,
        *,
        batch_norm: BatchNormMode = "eval",
    ) -> None:
        super().__init__()
        self.k = k
        self._replacement = replacement
        self._batch_norm = batch_norm
        self._fold = fold
        self._slots = nn.ModuleList()
        self._pending: Frozen | None = None
        self._is_pending = False
        self.memorized = 0

    def __len__(self) -> int:
        """Return how many snapshots are held."""
        return len(self._slots)

    @property
    def full(self) -> bool:
        """Whether k snapshots are held, as a review needs."""
        return len(self) == self.k

    def prepare(self, network: nn.Module) -> None:
        """Copy the network as it is now; the next call of `memorize` keeps this copy."""
        if self._pending is None:
            self._pending = Frozen(network, batch_norm=self._batch_norm)
        else:
            _copy(network, self._pending.network)
        self._is_pending = True

    def memorize(self, network: nn.Module) -> None:
        """Keep a snapshot: of the network as it is now, or as it was when `prepare` was called.

        When k snapshots are held, the oldest one leaves.
        """
        kept = self._pending.network if self._is_pending and self._pending is not None else network
        self._keep(kept if self._replacement is None else self._replacement(self.memorized))
        self._is_pending = False
        self.memorized += 1

    def recall(self, images: Tensor, apart: Apart = at_once, batch: AnyBatch | None = None) -> list[Output]:
        """Return the features of the k snapshots on images ``[B, channels, H, W]``, oldest first, without gradient.

        Args:
            images: the images of the batch.
            apart: does the work of each snapshot beside that of the others.
            batch: the batch, for networks that take it.

        Raises:
            RunError: fewer than k snapshots are held.
        """
        if not self.full:
            raise RunError(
                f"review: the memory holds {len(self)} of {self.k} snapshots; memorize {self.k} epochs before the "
                "first review"
            )
        return [apart(partial(slot, images, batch, heads=False), images) for slot in self._slots]

    def snapshot_state(self) -> Saved:
        """Return what a resume needs.

        Returns:
            ``memorized``, the number of snapshots that were ever taken; ``snapshots``, the state dicts of those that
            are held, oldest first; and between `prepare` and `memorize` the state dict ``pending``. The tensors are the
            memory's own, not copies.
        """
        snapshots = [dict(slot.network.state_dict()) for slot in self._frozen()]
        state: Saved = {"memorized": self.memorized, "snapshots": snapshots}
        if self._is_pending and self._pending is not None:
            state["pending"] = dict(self._pending.network.state_dict())
        return state

    def restore(self, state: Saved, template: nn.Module) -> None:
        """Become the memory that `snapshot_state` described.

        Args:
            state: what `snapshot_state` returned.
            template: a network of the snapshots' architecture, on their device; it is copied, not changed.

        Raises:
            RunError: the state is of another k or of another architecture; the memory is not changed.
        """
        memorized, snapshots = state["memorized"], state["snapshots"]
        if len(snapshots) != min(memorized, self.k):
            raise RunError(
                f"review: the saved memory holds {len(snapshots)} snapshots of {memorized} memorized ones, which does "
                f"not fit k = {self.k}; resume with the k that the run was started with"
            )
        restored = [self._restored(snapshot, template) for snapshot in snapshots]
        pending = self._restored(state["pending"], template) if "pending" in state else None
        self._slots = nn.ModuleList(restored)
        self._is_pending, self._pending = pending is not None, pending
        self.memorized = memorized

    def _restored(self, snapshot: Mapping[str, Tensor], template: nn.Module) -> Frozen:
        frozen = self._frozen_copy(template)
        try:
            frozen.network.load_state_dict(snapshot)
        except RuntimeError as error:
            first = str(error).partition("\n\t")[2].partition("\n")[0].rstrip(".") or str(error)
            raise RunError(
                f"review: a saved snapshot does not fit the student ({first}); resume with the student that the run "
                "was started with"
            ) from error
        return frozen

    def _keep(self, network: nn.Module) -> None:
        if not self.full:
            self._slots.append(self._frozen_copy(network))
            return
        networks = [slot.network for slot in self._frozen()]
        for older, newer in pairwise([*networks, network]):
            _copy(newer, older)
        for slot in self._frozen():
            slot.refold()

    def _frozen_copy(self, network: nn.Module) -> Frozen:
        return Frozen(network, batch_norm=self._batch_norm, fold=self._fold)

    def _frozen(self) -> list[Frozen]:
        return [slot for slot in self._slots if isinstance(slot, Frozen)]


@torch.no_grad()
def _copy(source: nn.Module, target: nn.Module) -> None:
    """Copy the values of all parameters and buffers in place."""
    for new, old in zip(_tensors(source), _tensors(target), strict=True):
        old.copy_(new)


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return chain(network.parameters(), network.buffers())
