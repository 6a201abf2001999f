"""Carries out the steps of a training: the losses of a batch, their gradients, and one update.

Which step is taken when is not decided here; see `tskd_tune.training.steps`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from tskd_tune.contracts import Batch, Out, Output, Saved, weighted
from tskd_tune.distillers.base import Distiller
from tskd_tune.errors import DivergedError, RunError
from tskd_tune.method.branches import IN_ORDER, Branches
from tskd_tune.method.memory import Frozen
from tskd_tune.method.review import ReviewTerms
from tskd_tune.networks.base import Network
from tskd_tune.tasks.base import Draw, Feed, Objective
from tskd_tune.teaching.base import TeacherMethod
from tskd_tune.training.compute import Compute
from tskd_tune.training.exactness import Watch, matters
from tskd_tune.training.gradients import gradient_figures, student_gradients
from tskd_tune.training.reviewing import Reviewing
from tskd_tune.training.steps import StepKind


class Engine(Protocol):
    """What carries out the steps of an epoch and keeps the running sums of the losses on the device.

    Attributes:
        name: what a row calls the engine.
        reason: why this engine was chosen, in words; empty where a caller chose it.
        slow_steps: how many steps of a kind take longer than those after them.
    """

    name: str
    reason: str
    slow_steps: int

    @property
    def inexact(self) -> Collection[str]:
        """What rounds differently from run to run, in words, although the kernels are deterministic."""

    def begin(self) -> None:
        """Start the sums of an epoch at zero."""

    def step(self, feed: Feed, draw: Draw, kind: StepKind) -> None:
        """Make the batch of a draw on the device and take one step; only a look waits for the device."""

    def update(self, batch: Batch, kind: StepKind) -> Mapping[str, Tensor]:
        """Take one step on a batch that is on the device.

        Returns:
            The losses by name, as in `means`: scalars without gradient, on the device.
        """

    def means(self) -> dict[str, float]:
        """Return the mean of each loss over the steps of the epoch: the only time that an epoch waits for the device.

        ``loss`` is the sum of all losses, ``loss_<name>`` each of them, a mean over the steps that had it.
        """

    def shown(self) -> Mapping[str, float]:
        """Return what the look of the epoch showed, by name; empty without a look."""

    def state_dict(self) -> Saved:
        """Return the sums, so that an epoch can go on in another process."""

    def load_state_dict(self, state: Saved) -> None:
        """Go on with saved sums."""

    def forget(self) -> None:
        """Rely no longer on where the tensors of the training are: a state was loaded."""


def refuse_divergence(epoch: int, means: Mapping[str, float]) -> None:
    """Refuse an epoch with a loss that is not finite.

    Raises:
        DivergedError: a mean is infinite or no number.
    """
    if not all(math.isfinite(mean) for mean in means.values()):
        found = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items())
        raise DivergedError(
            f"epoch {epoch}: the loss is not finite ({found}); lower training.lr or review.lambda,"
            " or use a transform whose norm is not none"
        )


@dataclass(frozen=True)
class Parts(Generic[Out]):
    """What a step computes with.

    Attributes:
        student: the network that is trained; a teacher, where a teacher is trained.
        teacher: the network above the student; None where there is none.
        distiller: the losses beside the task's.
        review: the reviews, if any.
        objective: the losses of the task.
        compute: where and how precisely a step is computed.
        optimizers: what updates the parameters.
    """

    student: Network[Out]
    teacher: nn.Module | None
    distiller: Distiller[Out] | TeacherMethod[Out]
    review: Reviewing | None
    objective: Objective[Out]
    compute: Compute
    optimizers: Sequence[torch.optim.Optimizer]


EngineFactory: TypeAlias = Callable[["Parts[Out]"], Engine]
"""Makes the engine of a training from what its steps compute with."""


@dataclass(frozen=True)
class _Computed(Generic[Out]):
    """What a batch gave before the review.

    Attributes:
        output: what the student computed.
        taught: what the teacher computed; None if nobody needs it.
        own: the losses of the objective, by name, with the weight that the distiller gives them.
        beside: the losses of the distiller, by name.
        memories: what the snapshots computed, oldest first; empty without a review.
    """

    output: Out
    taught: Output | None
    own: Mapping[str, Tensor]
    beside: Mapping[str, Tensor]
    memories: Sequence[Output]

    @property
    def losses(self) -> dict[str, Tensor]:
        """All losses, those of the objective first."""
        return {**self.own, **self.beside}


class EagerEngine(Generic[Out]):
    """Carries out each operation of a step when Python reaches it.

    Attributes:
        parts: what a step computes with.
    """

    name = "eager"
    slow_steps = 1

    def __init__(self, parts: Parts[Out], reason: str = "") -> None:
        """Compute with ``parts``; ``reason`` says why by this engine."""
        self.reason = reason
        self.parts = parts
        self._student: Callable[[Tensor], Out] = parts.student
        if parts.compute.compiles:
            self._student = torch.compile(parts.student, dynamic=False)  # the last batch is shorter
        self._branches: Branches = IN_ORDER
        self._watch, self._watched = Watch(), set[StepKind]()
        self._sums: dict[str, Tensor] = {}
        self.begin()

    def begin(self) -> None:
        """Start the sums of an epoch at zero."""
        for total in self._sums.values():
            total.zero_()
        self._counts: dict[str, int] = {}
        self._shown: dict[str, float] = {}

    @property
    def inexact(self) -> Collection[str]:
        """What differs in rounding from run to run, in words; see `tskd_tune.training.exactness`."""
        return self._watch.found

    def forget(self) -> None:
        """Do nothing: each step finds the tensors anew."""

    def step(self, feed: Feed, draw: Draw, kind: StepKind) -> None:
        """Make the batch of a draw on the device and take one step on it."""
        self.update(feed.batch(draw), kind)

    def update(self, batch: Batch, kind: StepKind) -> dict[str, Tensor]:
        """Take one step on a batch.

        Returns:
            The losses by name, as in `means`: scalars without gradient, on the device.
        """
        with self._watching(kind):
            found = self._descend(batch, kind)
        self._count(found)
        return found

    def _descend(self, batch: Batch, kind: StepKind) -> dict[str, Tensor]:
        """Take one step on a batch, and add its losses to the sums; a captured graph consists of these operations."""
        self._branches.begin()
        for optimizer in self.parts.optimizers:
            optimizer.zero_grad(set_to_none=True)
        losses = self._losses(batch, kind)
        total = torch.stack(list(losses.values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        self._branches.join()
        if kind.decays:
            self._reviewing.keep_decaying()
        for optimizer in self.parts.optimizers:
            optimizer.step()
        found = {"loss": total.detach()} | {f"loss_{name}": loss.detach() for name, loss in losses.items()}
        self._add(found)
        return found

    def means(self) -> dict[str, float]:
        """Return the mean of each loss over the steps of the epoch; this waits for the device, once."""
        if not self._counts:
            return {}
        totals = torch.stack([self._sums[name].double() for name in self._counts]).tolist()
        return {name: total / count for (name, count), total in zip(self._counts.items(), totals, strict=True)}

    def shown(self) -> Mapping[str, float]:
        """Return what the look of the epoch showed, by name; empty without a look."""
        return self._shown

    def state_dict(self) -> Saved:
        """Return the sums, so that an epoch can go on in another process."""
        sums = {name: self._sums[name] for name in self._counts}
        return {"sums": sums, "counts": dict(self._counts), "shown": dict(self._shown)}

    def load_state_dict(self, state: Saved) -> None:
        """Go on with saved sums."""
        device = self.parts.compute.device
        self._sums = {name: total.to(device, copy=True) for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])
        self._shown = dict(state["shown"])

    def _watching(self, kind: StepKind) -> AbstractContextManager[object]:
        """Watch the first step of each kind: Python then sees each operation, which takes time."""
        if kind in self._watched or not matters(self.parts.compute):
            return nullcontext()
        self._watched.add(kind)
        return self._watch

    @property
    def _reviewing(self) -> Reviewing:
        assert self.parts.review is not None
        return self.parts.review

    def _add(self, found: Mapping[str, Tensor]) -> None:
        for name, loss in found.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(loss)
            self._sums[name] += loss

    def _count(self, names: Iterable[str]) -> None:
        for name in names:
            self._counts[name] = self._counts.get(name, 0) + 1

    def _losses(self, batch: Batch, kind: StepKind) -> dict[str, Tensor]:
        """Return the losses of a batch, scalars by name, each with its weight."""
        with self.parts.compute.autocast():
            found = self._computed(batch, kind)
        return found.losses | ({"review": self._review_loss(found, kind)} if kind.review else {})

    def _computed(self, batch: Batch, kind: StepKind) -> _Computed[Out]:
        parts = self.parts
        images = parts.compute.arrange(batch.images)
        taught: Output | None = None
        with self._branches.fork() as apart:
            if isinstance(parts.teacher, Frozen) and self._asks_teacher(kind):
                # A frozen teacher that serves only the review need not compute its heads.
                taught = apart(partial(parts.teacher, images, heads=bool(parts.distiller.needs)), images)
            memories = self._reviewing.memory.recall(images, apart) if kind.review else []
            # A look follows the gradients of several losses, which a compiled network lets go after the first.
            output: Out = parts.student(images) if kind.look else self._student(images)
        weight = parts.distiller.task_weight
        own = {name: weight * loss for name, loss in parts.objective.losses(output, batch).items()}
        if taught is None and parts.teacher is not None and self._asks_teacher(kind):
            taught = parts.teacher(images)  # after the student: a teacher that learns may draw random numbers
        beside = parts.distiller(output, taught, batch) if parts.distiller.needs else {}
        return _Computed(output, taught, own, beside, memories)

    def _asks_teacher(self, kind: StepKind) -> bool:
        return bool(self.parts.distiller.needs) or kind.review

    def _review_loss(self, found: _Computed[Out], kind: StepKind) -> Tensor:
        if found.taught is None:
            raise RunError("review: a review compares the student with a teacher, but this training has none")
        terms = self._terms(found.output, found.taught, found.memories)
        if kind.look:
            self._shown = self._look(found, terms)
        if kind.detached:
            terms = self._terms(found.output.detached(), found.taught, found.memories)
        return weighted(self._reviewing.weight, terms.loss)

    def _terms(self, output: Output, taught: Output, memories: Sequence[Output]) -> ReviewTerms:
        review = self._reviewing
        # Maps and losses are exact under autocast too; it narrows the extractors alone.
        with self.parts.compute.autocast():
            terms: ReviewTerms = review.loss(output, taught, memories, review.shuffle, self._branches)
        return terms

    def _look(self, found: _Computed[Out], terms: ReviewTerms) -> dict[str, float]:
        """Find lambda where it is ``auto``, and return what the gradients of the losses do to the student."""
        review = self._reviewing
        parameters = [parameter for parameter in self.parts.student.parameters() if parameter.requires_grad]
        gradients = student_gradients({**found.losses, "review": terms.loss}, parameters)
        others = float(torch.stack([gradients[name] for name in found.losses]).sum(dim=0).norm())
        weight = review.settle(others, float(gradients["review"].norm()))
        gradients["review"] = weight * gradients["review"]
        shown = {"review_loss": float(terms.loss.detach()), "teacher_gap": float(terms.teacher_gap), "lambda": weight}
        return shown | gradient_figures(gradients, of_task=found.own) | {"grad_norm_others": others}
