"""Carries out the steps of a training: the losses of a batch, their gradients, and one update.

Which step is taken when is not decided here; see `tskd_tune.training.steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Generic

import torch
from torch import Tensor

from tskd_tune.contracts import AnyBatch, Out, Output, Saved, inputs_of, weighted
from tskd_tune.errors import RunError
from tskd_tune.method.branches import IN_ORDER, Branches
from tskd_tune.method.memory import Frozen
from tskd_tune.method.padding import Padding
from tskd_tune.method.review import ReviewTerms
from tskd_tune.tasks.base import Draw, Feed
from tskd_tune.tasks.shards import part_of
from tskd_tune.training.batch_norms import BatchNorms
from tskd_tune.training.exactness import Watch, matters
from tskd_tune.training.foreign import training_losses
from tskd_tune.training.looking import Aside, Look, add_up
from tskd_tune.training.means import Means
from tskd_tune.training.parts import Parts
from tskd_tune.training.pieces import Piece, pieces
from tskd_tune.training.reviewing import Reviewing
from tskd_tune.training.steps import StepKind


@dataclass(frozen=True)
class _Computed(Generic[Out]):
    """What a batch gave before the review.

    Attributes:
        output: what the student computed.
        taught: what the teacher computed; None if nobody needs it.
        own: the losses of the objective, by name, with the weight that the distiller gives them.
        beside: the losses of the distiller, by name.
        memories: what the snapshots computed, oldest first; empty without a review.
        padding: the true sizes of the images; None where no image is padded.
    """

    output: Out
    taught: Output | None
    own: Mapping[str, Tensor]
    beside: Mapping[str, Tensor]
    memories: Sequence[Output]
    padding: Padding | None

    @property
    def losses(self) -> dict[str, Tensor]:
        """All losses, those of the objective first."""
        twice = self.beside.keys() & {*self.own, "review"}
        if twice:
            raise RunError(
                f"distiller: its loss '{min(twice)}' has the name of a loss of the task or the review; rename"
                " the loss, or give this part of 'combined' another label"
            )
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
        self._student: Callable[..., Out] = parts.student
        if parts.compute.compiles and not parts.student.takes_batch:  # a detector's shapes change with each batch
            self._student = torch.compile(parts.student, dynamic=False)  # the last batch is shorter
        self._branches: Branches = IN_ORDER
        self._watch, self._watched = Watch(), set[StepKind]()
        self._means = Means()
        self._norms: BatchNorms | None = None
        self._piece = Piece(0, 0, 1.0)
        self.begin()

    def begin(self) -> None:
        """Start the sums of an epoch at zero."""
        self._means.begin()
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

    def update(self, batch: AnyBatch, kind: StepKind) -> dict[str, Tensor]:
        """Take one step on a batch.

        Returns:
            The losses by name, as in `means`: scalars without gradient, on the device.
        """
        with self._watching(kind):
            found = self._descend(batch, kind)
        self._means.count(found)
        return found

    def _descend(self, batch: AnyBatch, kind: StepKind) -> dict[str, Tensor]:
        """Take one step on a batch, and add its losses to the sums; a captured graph consists of these operations."""
        for optimizer in self.parts.optimizers:
            optimizer.zero_grad(set_to_none=True)
        cut = self._pieces(len(batch.images))
        self._norms = self._statistics(cut)
        if self.parts.distiller.needs:
            self.parts.distiller.begin_step(self._whole(batch) if len(cut) > 1 else None)
        found = self._looked_at(batch, kind, cut) if kind.look else self._added_up(batch, kind, cut)
        if self._norms is not None:
            self._norms.finish()
        found = self._settled(found)
        if kind.decays:
            self._reviewing.keep_decaying()
        for optimizer in self.parts.optimizers:
            optimizer.step()
        self._means.add(found)
        return found

    def _added_up(self, batch: AnyBatch, kind: StepKind, cut: Sequence[Piece]) -> dict[str, Tensor]:
        """Add up the gradients of the pieces of a batch, and return the losses."""
        sums: dict[str, Tensor] = {}
        for piece in cut:
            self._branches.begin()
            computed = self._computed_piece(batch, kind, piece)
            losses = computed.losses
            if kind.review:
                terms = self._review_terms(computed, kind.detached)
                losses["review"] = weighted(self._reviewing.weight, self._own(terms.loss))
            add_up(sums, self._descended(losses))
            self._branches.join()
        return sums

    def _looked_at(self, batch: AnyBatch, kind: StepKind, cut: Sequence[Piece]) -> dict[str, Tensor]:
        """Do the same and look at the gradient of each loss; the review's is weighted when lambda is known."""
        look, aside, sums = Look(self.parts.student), Aside(self.parts.optimizers), dict[str, Tensor]()
        for piece in cut:
            self._branches.begin()
            computed = self._computed_piece(batch, kind, piece)
            terms = self._review_terms(computed, detached=False)
            review, gap = self._own(terms.loss), self._own(terms.teacher_gap)
            look.add({**computed.losses, "review": review}, {"review_loss": review, "teacher_gap": gap})
            if piece is cut[-1]:
                self._shown = look.shown(self._reviewing, computed.own, self._totals)
            if kind.detached:
                review = self._own(self._review_terms(computed, detached=True).loss)
            if len(cut) == 1:
                return self._descended({**computed.losses, "review": weighted(self._reviewing.weight, review)}, True)
            aside.add(review)
            add_up(sums, self._descended(computed.losses) | {"loss_review": review.detach()})
            self._branches.join()
        aside.settle(self._reviewing.weight)
        sums["loss_review"] = weighted(self._reviewing.weight, sums["loss_review"])
        return {**sums, "loss": sums["loss"] + sums["loss_review"]}

    def _descended(self, losses: Mapping[str, Tensor], joins: bool = False) -> dict[str, Tensor]:
        """Add the gradient of losses to those of the parameters, and return the losses by their names in histories."""
        total = torch.stack(list(losses.values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        if joins:
            self._branches.join()
        return {"loss": total.detach()} | {f"loss_{name}": loss.detach() for name, loss in losses.items()}

    def means(self) -> dict[str, float]:
        """Return the mean of each loss over the steps of the epoch; this waits for the device, once."""
        return self._means.read()

    def shown(self) -> Mapping[str, float]:
        """Return what the look of the epoch showed, by name; empty without a look."""
        return self._shown

    def state_dict(self) -> Saved:
        """Return the sums, so that an epoch can go on in another process."""
        return {**self._means.state_dict(), "shown": dict(self._shown)}

    def load_state_dict(self, state: Saved) -> None:
        """Go on with saved sums."""
        self._means.load_state_dict(state, self.parts.compute.device)
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

    def _computed_piece(self, batch: AnyBatch, kind: StepKind, piece: Piece) -> _Computed[Out]:
        """Compute a piece of a batch, up to the losses without the review's."""
        self._piece = piece
        if self._norms is not None:
            self._norms.begin(piece.parts)
        whole = (piece.start, piece.stop) == (0, len(batch.images))
        with self.parts.compute.autocast():
            return self._computed(batch if whole else part_of(batch, piece.start, piece.stop), kind)

    def _computed(self, batch: AnyBatch, kind: StepKind) -> _Computed[Out]:
        parts = self.parts
        images = parts.compute.arrange(batch.images)
        taught: Output | None = None
        with self._networks(), self._branches.fork() as apart:
            if isinstance(parts.teacher, Frozen) and self._asks_teacher(kind):
                # A frozen teacher that serves only the review need not compute its heads.
                given = inputs_of(parts.teacher, images, batch)
                taught = apart(partial(parts.teacher, *given, heads=bool(parts.distiller.needs)), images)
            memories = self._reviewing.memory.recall(images, apart, batch) if kind.review else []
            # A look follows the gradients of several losses, which a compiled network lets go after the first.
            student = parts.student if kind.look else self._student
            output: Out = student(*inputs_of(parts.student, images, batch))
        parts.compute.keep_arranged(output)
        weight = parts.distiller.task_weight
        own = {name: self._own(weight * loss) for name, loss in self._of_task(output, batch).items()}
        if taught is None and parts.teacher is not None and self._asks_teacher(kind):
            with self._networks():
                # After the student: a teacher that learns may draw random numbers.
                taught = parts.teacher(*inputs_of(parts.teacher, images, batch))
            parts.compute.keep_arranged(taught)
        beside = self._beside(output, taught, batch) if parts.distiller.needs else {}
        return _Computed(output, taught, own, beside, memories, Padding.of(batch))

    def _of_task(self, output: Out, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return the losses of the objective."""
        objective = self.parts.objective
        where = f"task: the objective {type(objective).__name__}"
        losses = training_losses(objective.losses(output, batch), where)
        if not losses:
            raise RunError(f"{where} gave no loss, so nothing would be trained; return at least one loss")
        if "review" in losses:
            raise RunError(f"{where} gave a loss with the name 'review', which the review's loss has; rename the loss")
        return losses

    def _networks(self) -> AbstractContextManager[object]:
        """Return the context in which networks compute a piece of a batch."""
        return nullcontext() if self._norms is None else self._norms

    # What follows is the identity for one worker; `tskd_tune.training.parallel_engine` has others.

    def _pieces(self, samples: int) -> tuple[Piece, ...]:
        """Cut what this worker has of a batch, so many samples."""
        compute = self.parts.compute
        return pieces(samples, compute.accumulate, compute.norm_groups)

    def _statistics(self, cut: Sequence[Piece]) -> BatchNorms | None:
        """Return what batch norms compute with in a step; None: with the whole batch, as torch does."""
        return BatchNorms(None, len(cut)) if len(cut) > 1 or cut[0].parts else None

    def _own(self, loss: Tensor) -> Tensor:
        """Return what a mean over the samples of the piece contributes to the mean over the batch of all workers."""
        return loss if self._piece.share == 1 else loss * self._piece.share

    def _beside(self, output: Out, taught: Output | None, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return what the losses of the distiller contribute to those of the batch."""
        return {name: self._own(loss) for name, loss in self._distilled(output, taught, batch).items()}

    def _distilled(self, output: Output | None, taught: Output | None, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return the losses of the distiller, whose batch norms take statistics of what it gets."""
        with nullcontext() if self._norms is None else self._norms.beside():
            found = self.parts.distiller(output, taught, batch)
        where = f"the distiller or teacher method {type(self.parts.distiller).__name__}"
        return training_losses(found, where, may_rest=True)

    def _whole(self, batch: AnyBatch) -> AnyBatch:
        """Return the batch of a step as a distiller gets it that computes the batch in micro-batches."""
        return batch

    def _settled(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Complete the gradients of a step after the backward pass, and return the complete losses."""
        return found

    def _totals(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sum of what all workers have, without gradient."""
        return {name: value.detach() for name, value in values.items()}

    def _asks_teacher(self, kind: StepKind) -> bool:
        return bool(self.parts.distiller.needs) or kind.review

    def _review_terms(self, found: _Computed[Out], detached: bool) -> ReviewTerms:
        """Compare a piece with teacher and snapshots; ``detached``: so that the extractors alone learn."""
        if found.taught is None:
            raise RunError("review: a review compares the student with a teacher, but this training has none")
        output = found.output.detached() if detached else found.output
        return self._terms(found, output, found.taught)

    def _terms(self, found: _Computed[Out], output: Output, taught: Output) -> ReviewTerms:
        review = self._reviewing
        # Maps and losses are exact under autocast too; it narrows the extractors alone.
        with self.parts.compute.autocast():
            terms: ReviewTerms = review.loss(
                output, taught, found.memories, review.shuffle, self._branches, padding=found.padding
            )
        return terms
