"""From which samples batch norms take their statistics while networks train.

From the whole batch, whatever the number of workers: then workers share their statistics in each batch norm. Or from
equal parts of the batch, each alone, as plain data parallelism does: then workers need not share anything, and a
training on one GPU can have the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tskd_tune.contracts import exact
from tskd_tune.errors import RunError
from tskd_tune.training.group import Group

_NAMES = tuple(signature(F.batch_norm).parameters)


class BatchNorms(TorchFunctionMode):
    """Within a block, batch norms that train compute their statistics from parts of a batch, or with other workers.

    Attributes:
        running: the running statistics that this worker moved by its own samples alone, by their ``id``.
    """

    def __init__(self, group: Group | None, pieces: int = 1) -> None:
        """Belong to one step of a training.

        Args:
            group: the workers that share the batch; None: there is one.
            pieces: in how many pieces the batch is computed, one after the other.
        """
        super().__init__()
        self._group = group
        self._count = pieces
        self._parts: list[int] = []
        self._beside = False
        self.running: dict[int, Tensor] = {}
        self._begun = 0
        self._met: dict[int, _Moving] = {}

    def begin(self, parts: Sequence[int] = ()) -> None:
        """Begin a piece of the batch: running statistics are again as they were before the step.

        Args:
            parts: the sizes of the parts of the piece, each of which has its own statistics; empty: one part that all
                workers share.
        """
        self._parts = list(parts)
        self._begun += 1
        for moving in self._met.values():
            moving.put_back()

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Let the batch norms of a distiller compute, which take statistics of all that the distiller gets."""
        if self._count == 1:
            yield
            return
        self._beside = True
        try:
            with self:
                yield
        finally:
            self._beside = False

    @torch.no_grad()
    def finish(self) -> None:
        """End the step: running statistics are the mean of what each piece made of them."""
        for moving in self._met.values():
            moving.put_back()
            moving.running.copy_(moving.total / self._count)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take the place of ``torch.nn.functional.batch_norm``, by which every batch norm computes."""
        if func is F.batch_norm:
            return self._batch_norm(**dict(zip(_NAMES, args, strict=False)), **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        *,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        def alone(part: Tensor, mean: Tensor | None, variance: Tensor | None) -> Tensor:
            return F.batch_norm(part, mean, variance, weight, bias, training, momentum, eps)

        running = [one for one in (running_mean, running_var) if one is not None]
        if not training:
            return alone(input, running_mean, running_var)
        for one in running if self._count > 1 else ():
            if id(one) not in self._met:
                self._met[id(one)] = _Moving(one, self._begun - 1)
        if self._beside or (self._group is None and not self._parts):
            return alone(input, running_mean, running_var)
        if self._parts:
            return self._by_parts(input, running, alone)
        shared: tuple[Tensor, ...] = _Shared.apply(input, weight, bias, (eps, self._group))
        normalized, *statistics = shared
        with torch.no_grad():
            for one, new in zip(running, statistics, strict=False):
                one.lerp_(new.to(one.dtype), momentum)
        return normalized

    def _by_parts(self, values: Tensor, running: list[Tensor], alone: Callable[..., Tensor]) -> Tensor:
        """Normalize each part alone; the running statistics move to the mean of the parts'."""
        if len(values) != sum(self._parts):
            raise RunError(
                f"training.batch_norm_groups: a batch norm got {len(values)} samples of a batch of {sum(self._parts)};"
                " set training.batch_norm_groups: 1 for this network"
            )
        moved = [[one.clone() for one in running] for _ in self._parts]
        parts = torch.split(values, self._parts)
        found = torch.cat([alone(part, *(own or (None, None))) for part, own in zip(parts, moved, strict=True)])
        with torch.no_grad():
            for place, one in enumerate(running):
                one.copy_(torch.stack([own[place] for own in moved]).mean(0))
        self.running |= {id(one): one for one in running}
        return found


class _Moving:
    """Running statistics in a step of several pieces.

    Attributes:
        running: the buffer of the batch norm.
        total: the sum of what the pieces that have ended made of the buffer.
    """

    def __init__(self, running: Tensor, missed: int) -> None:
        """Meet a buffer, which ``missed`` pieces left as it was."""
        self.running = running
        self._before = running.clone()
        self.total = self._before * missed

    @torch.no_grad()
    def put_back(self) -> None:
        """End a piece."""
        self.total += self.running
        self.running.copy_(self._before)


class _Shared(torch.autograd.Function):
    """A batch norm over the samples of all workers; returns the values, the mean and the unbiased variance."""

    @staticmethod
    def forward(
        context: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, shared: tuple[float, Group]
    ) -> tuple[Tensor, Tensor, Tensor]:
        eps, group = shared
        wide, dims = exact(values), [0, *range(2, values.dim())]
        variances, means = torch.var_mean(wide, dims, correction=0)
        count = means.new_tensor([values.numel() / values.shape[1]])
        found = group.gathered(torch.cat([means, variances, count]).unsqueeze(0), [1] * group.world)
        means, variances, counts = torch.split(found, [values.shape[1], values.shape[1], 1], dim=1)
        total = counts.sum()
        mean = (means * counts).sum(0) / total
        variance = ((variances + (means - mean).square()) * counts).sum(0) / total
        context.save_for_backward(values, weight, mean, variance, total)
        context.group, context.dims, context.eps, context.has_bias = group, dims, eps, bias is not None
        normalized = F.batch_norm(wide, mean, variance, weight, bias, False, 0.0, eps).to(values.dtype)
        unbiased = variance * (total / (total - 1))
        context.mark_non_differentiable(mean, unbiased)
        return normalized, mean, unbiased

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, mean, variance, total = context.saved_tensors
        shape = [1, -1] + [1] * (values.dim() - 2)
        scale = (variance + context.eps).rsqrt()
        normalized = (exact(values) - mean.view(shape)) * scale.view(shape)
        gradient = exact(gradients[0])
        sums = torch.stack([gradient.sum(context.dims), (gradient * normalized).sum(context.dims)])
        own = sums.clone()
        context.group.add([sums])
        through_mean, through_scale = ((one / total).view(shape) for one in sums)
        factor = scale if weight is None else scale * weight
        passed = (gradient - through_mean - normalized * through_scale) * factor.view(shape)
        of_weight = None if weight is None else own[1].to(weight.dtype)
        of_bias = own[0].to(own.dtype) if context.has_bias else None
        return passed.to(values.dtype), of_weight, of_bias, None
