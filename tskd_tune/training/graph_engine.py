"""Carries out steps as captured graphs: a kind of step is captured the third time that it is met, and then replayed.

A step of a small network is bound by Python, which launches some hundred kernels. A captured graph launches all of them
at once. Nothing is trained twice: the first two steps of a kind are taken operation by operation, in the training's
own stream, so that all memory that outlives a step exists; the third one is captured, and counts when it is replayed
for the first time. A look, which reads values, is never captured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from tskd_tune.contracts import Batch, Out, Saved
from tskd_tune.tasks.base import Draw, Feed
from tskd_tune.training.capture import Again, Capture, CudaCapture
from tskd_tune.training.compute import Compute
from tskd_tune.training.cuda_branches import CudaBranches
from tskd_tune.training.engine import EagerEngine
from tskd_tune.training.parts import Parts
from tskd_tune.training.steps import StepKind

WARM_UPS = 2
"""How many steps of a kind are taken eagerly before one is captured."""

Captures = Callable[[Compute], Capture]
"""Makes what captures the steps of one training."""


@dataclass(frozen=True)
class _Captured:
    """A captured step.

    Attributes:
        draw: the tensors that the step reads its draw from, on the device.
        again: takes the step again.
        names: the losses of the step, by their names in the means of an epoch.
        gradients: the parameters with a gradient, each with the tensor that the step writes its gradient to.
    """

    draw: Draw
    again: Again
    names: Sequence[str]
    gradients: Sequence[tuple[nn.Parameter, Tensor]]

    def fill(self, draw: Draw) -> None:
        """Copy a draw to where the step reads it."""
        for name, tensor in draw.tensors.items():
            self.draw.tensors[name].copy_(tensor, non_blocking=True)


class GraphEngine(EagerEngine[Out]):
    """Takes the same steps as `EagerEngine`, with the same bits."""

    name = "graphs"
    slow_steps = WARM_UPS + 2  # and a look, and the step that is captured

    def __init__(self, parts: Parts[Out], reason: str = "", captures: Captures = CudaCapture) -> None:
        """Compute with ``parts``; ``captures`` makes what captures the steps."""
        super().__init__(parts, reason)
        self._capture = captures(parts.compute)
        if parts.compute.device.type == "cuda":
            self._branches = CudaBranches(parts.compute)
        self.forget()

    @property
    def captured(self) -> int:
        """How many kinds of steps are captured."""
        return len(self._captured)

    def forget(self) -> None:
        """Capture each kind of step anew: the tensors of the training are no longer where they were."""
        self._met: Counter[Hashable] = Counter()
        self._captured: dict[Hashable, _Captured] = {}
        self._latest: _Captured | None = None

    def step(self, feed: Feed, draw: Draw, kind: StepKind) -> None:
        """Take a step: eagerly, or as a graph that was captured before."""
        key = (feed, kind, draw.signature)
        captured = self._captured.get(key)
        if kind.look or (captured is None and self._met[key] < WARM_UPS):
            self._met[key] += 1
            super().step(feed, draw, kind)
            return
        if captured is None:
            captured = self._captured[key] = self._captured_now(feed, draw, kind)
        else:
            captured.fill(draw)
            captured.again()
        self._means.count(captured.names)
        self._show_gradients(captured)

    def update(self, batch: Batch, kind: StepKind) -> dict[str, Tensor]:
        """Take one step on a batch, eagerly; see `EagerEngine.update`."""
        self._latest = None
        return super().update(batch, kind)

    def load_state_dict(self, state: Saved) -> None:
        """Go on with saved sums."""
        super().load_state_dict(state)
        self.forget()  # the sums are other tensors now

    def _captured_now(self, feed: Feed, draw: Draw, kind: StepKind) -> _Captured:
        device = self.parts.compute.device
        static = Draw({name: tensor.to(device, copy=True) for name, tensor in draw.tensors.items()})
        names: list[str] = []
        self._latest = None
        again = self._capture(
            lambda: names.extend(self._descend(feed.batch(static), kind)), self.parts.distiller.generators()
        )
        optimized = (group["params"] for optimizer in self.parts.optimizers for group in optimizer.param_groups)
        gradients = [(one, one.grad) for group in optimized for one in group if one.grad is not None]
        return _Captured(static, again, names, gradients)

    def _show_gradients(self, captured: _Captured) -> None:
        """Let each parameter have the gradient of the step, which observers read."""
        if self._latest is captured:
            return
        for optimizer in self.parts.optimizers:
            optimizer.zero_grad(set_to_none=True)
        for parameter, gradient in captured.gradients:
            parameter.grad = gradient
        self._latest = captured
