"""The only loop: what an epoch is, is what the plan says of its number.

Student and teacher each run at most once a batch; the distiller and the review are functions of their two
outputs, and a network that nobody asks for in an epoch does not run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tskd_tune.contracts import Batch, Output
from tskd_tune.distillers.base import Distiller, Need
from tskd_tune.errors import DivergedError
from tskd_tune.method.review import ReviewTerms
from tskd_tune.metrics import Part
from tskd_tune.networks.base import Network
from tskd_tune.tasks.base import Feed, Task
from tskd_tune.teaching.base import TeacherMethod
from tskd_tune.training.compute import Compute
from tskd_tune.training.evaluation import evaluate
from tskd_tune.training.gradients import gradient_figures, student_gradients
from tskd_tune.training.optim import Recipe
from tskd_tune.training.replay import Replay
from tskd_tune.training.reviewing import Reviewing
from tskd_tune.training.streams import EpochStreams, draw_anew, drawing, generator

TestReading = Literal["never", "last", "every_epoch"]
Record = dict[str, Any]
# What networks, distillers and outsiders' parts draw from global generators while they train: dropout, dropped paths.
NETWORK_STREAM = "network"


@dataclass(frozen=True)
class Schedule:
    """How long a training is and when the test part is read.

    Attributes:
        epochs: the number of epochs.
        seed: fixes data order, augmentation and what networks draw (dropout), as functions of (seed, epoch).
        test: ``last``: at the last epoch only; ``every_epoch``: for comparison with papers that pick the best;
            ``never``: for a search, whose winners are confirmed by another training.
    """

    epochs: int
    seed: int
    test: TestReading = "last"


class Trainer:
    """Trains one student, epoch by epoch; its state at an epoch's end is all that a resume needs."""

    def __init__(
        self,
        task: Task,
        student: Network,
        teacher: nn.Module | None,
        distiller: Distiller | TeacherMethod,
        review: Reviewing | None,
        *,
        recipe: Recipe,
        schedule: Schedule,
        compute: Compute,
        replay: Replay | None = None,
    ) -> None:
        """Compose a training.

        Args:
            task: the data, the loss and the metric.
            student: what is trained; a teacher, where there is none above it.
            teacher: frozen unless the distiller asks for a trainable one.
            distiller: the losses beside the task's; those of a teacher's own training are a `TeacherMethod`.
            review: the reviews, if any.
            recipe: the optimizer's.
            schedule: the training's length, its seed and when the test part is read.
            compute: where and how precisely it is computed.
            replay: which of its snapshots a frozen teacher is in an epoch; None: always the same.
        """
        self.task = task
        self.compute = compute
        self.student = compute.place(student)
        self.teacher = None if teacher is None else compute.place(teacher)
        self.distiller = compute.place(distiller)
        self.review = review
        self.replay = replay
        if review is not None:
            compute.place(review.loss)
        self.recipe = recipe
        self.schedule = schedule
        self.optimizers = self._optimizers()
        self.history: list[Record] = []

    @cached_property
    def feed(self) -> Feed:
        """The training set on the device, which is read when it is first asked for."""
        return self.task.training(self.compute.device)

    @property
    def next_epoch(self) -> int:
        """The number of the epoch that `epoch` trains next."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        """Whether every epoch has been trained."""
        return self.next_epoch >= self.schedule.epochs

    def epoch(self) -> Record:
        """Train the next epoch, memorize and evaluate as planned, and return its history record.

        Raises:
            DivergedError: the loss is not finite.
            RunError: lambda cannot be settled, or a file vanished.
        """
        epoch = self.next_epoch
        numbers = drawing(self.schedule.seed, NETWORK_STREAM, epoch, device=self.compute.device)
        with numbers, self.compute.deterministic():
            record = self._whole_epoch(epoch)
        self.history.append(record)
        return record

    def step(self, batch: Batch, epoch: int, number: int, *, review: bool) -> tuple[dict[str, Tensor], Record]:
        """Train on the epoch's ``number``-th batch.

        Returns:
            The losses, detached scalars; and of a review's first batch what it showed (see `Trainer.epoch`).
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with self.compute.autocast():
            losses, output, taught = self._losses(batch, review)
        shown: Record = {}
        if review:
            assert taught is not None
            terms = self._review(output, taught, batch)
            shown = self._look(losses, terms, epoch) if number == 0 else {}
            if number < self._reviewing().extractors.warmup_steps:
                terms = self._review(output.detached(), taught, batch)
            losses["review"] = self._reviewing().strength.at(epoch) * terms.loss
        total = torch.stack(list(losses.values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        if self.review is not None and not review:
            self.review.keep_decaying(epoch)
        for optimizer in self.optimizers:
            optimizer.step()
        return {"loss": total.detach()} | {f"loss_{name}": loss.detach() for name, loss in losses.items()}, shown

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resume needs, as tensors and plain values.

        No generator's state is needed: whatever is drawn in an epoch is a function of the seed and the epoch.
        """
        return {
            "history": self.history,
            "student": self.student.state_dict(),
            "teacher": self.teacher.state_dict() if self.teacher is not None and self._teacher_changes() else None,
            "distiller": self.distiller.state_dict(),
            "review": None if self.review is None else self.review.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the end of the epoch at which the state was taken."""
        self.student.load_state_dict(state["student"])
        if self.teacher is not None and state["teacher"] is not None:
            self.teacher.load_state_dict(state["teacher"])
        self.distiller.load_state_dict(state["distiller"])
        if self.review is not None:
            self.review.load_state_dict(state["review"], self.student)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.history = [dict(record) for record in state["history"]]

    def _whole_epoch(self, epoch: int) -> Record:
        started = time.perf_counter()
        self._begin(epoch)
        if self.review is not None and self.review.snapshots_early(epoch):
            self.review.memory.prepare(self.student)
        record = self._train(epoch)
        self.compute.synchronize()
        trained = time.perf_counter()
        if self.review is not None and self.review.plan.memorizes(epoch):
            self.review.memory.memorize(self.student)
        record |= self._evaluate(epoch)
        record["seconds"] = trained - started
        record["eval_seconds"] = time.perf_counter() - trained
        return record

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        groups = [list(self.student.parameters()), list(self.distiller.parameters())]
        own = None
        if self.review is not None:
            own = self.review.own_optimizer()
            groups.append([] if own is not None else self.review.parameters())
        if self.teacher is not None and self._teacher_is_online():
            groups.append(list(self.teacher.parameters()))
        optimizer = self.recipe.optimizer(groups)
        return [optimizer] if own is None else [optimizer, own]

    def _begin(self, epoch: int) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("first_lr", group["lr"]) * self.recipe.share(epoch)
        self.student.train()
        self.distiller.train()
        if self.teacher is not None:
            learns = isinstance(self.distiller, Distiller) and self.distiller.trains_teacher(epoch)
            self.teacher.train(learns).requires_grad_(learns)  # a frozen teacher stays as it is
        if self.replay is not None:
            self.replay.begin_epoch(epoch)
        self.distiller.begin_epoch(epoch, generator(self.schedule.seed, "distiller", epoch))
        if self.review is not None:
            self.review.begin_epoch(epoch, self.optimizers)
            self._shuffle = generator(self.schedule.seed, "sequence_order", epoch)

    def _train(self, epoch: int) -> Record:
        reviewed_steps = self._reviewed_steps(epoch)
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        shown: Record = {}
        for number, draw in enumerate(self.feed.draws(EpochStreams(self.schedule.seed, epoch))):
            batch = self.feed.batch(draw)
            # Anew at each step, so an arm whose losses draw numbers too leaves the student's numbers as they are.
            draw_anew(self.schedule.seed, NETWORK_STREAM, epoch, number, device=self.compute.device)
            losses, of_first = self.step(batch, epoch, number, review=number < reviewed_steps)
            shown |= of_first
            for name, loss in losses.items():
                sums[name] = sums[name] + loss if name in sums else loss
                counts[name] = counts.get(name, 0) + 1
        means = {name: float(total) / counts[name] for name, total in sums.items()}
        self._refuse_divergence(epoch, means)
        return self._heading(epoch) | means | shown

    def _heading(self, epoch: int) -> Record:
        phase = "general" if self.review is None else self.review.plan.phase(epoch)
        return {"seed": self.schedule.seed, "epoch": epoch, "phase": phase, "lr": self.recipe.rate(epoch)}

    def _reviewed_steps(self, epoch: int) -> int:
        if self.review is None or not self.review.plan.reviews(epoch):
            return 0
        return self.review.plan.review_steps(self.task.steps())

    def _losses(self, batch: Batch, review: bool) -> tuple[dict[str, Tensor], Output, Output | None]:
        images = self.compute.arrange(batch.images)
        output: Output = self.student(images)
        weight = self.distiller.task_weight
        losses = {name: weight * loss for name, loss in self.task.objective.losses(output, batch).items()}
        taught: Output | None = None
        if self.teacher is not None and (self.distiller.needs or review):
            taught = self.teacher(images)
        if self.distiller.needs:
            losses |= self.distiller(output, taught, batch)
        return losses, output, taught

    def _review(self, output: Output, taught: Output, batch: Batch) -> ReviewTerms:
        review = self._reviewing()
        with self.compute.autocast():
            memories = review.memory.recall(self.compute.arrange(batch.images))
        terms: ReviewTerms = review.loss(output, taught, memories, self._shuffle)
        return terms

    def _look(self, losses: Mapping[str, Tensor], terms: ReviewTerms, epoch: int) -> Record:
        """Settle lambda, and show what the first batch of a review says of the losses."""
        review = self._reviewing()
        parameters = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        gradients = student_gradients({**losses, "review": terms.loss}, parameters)
        others = float(torch.stack([gradients[name] for name in losses]).sum(dim=0).norm())
        review.strength = review.strength.found(others, float(gradients["review"].norm()))
        weight = review.strength.at(epoch)
        gradients["review"] = weight * gradients["review"]
        shown = {"review_loss": float(terms.loss.detach()), "teacher_gap": float(terms.teacher_gap), "lambda": weight}
        return shown | gradient_figures(gradients) | {"grad_norm_others": others}

    def _evaluate(self, epoch: int) -> Record:
        _, validation, _ = self.task.facts().samples
        when = {"never": (), "last": (self.schedule.epochs - 1,), "every_epoch": (epoch,)}
        tested = epoch in when[self.schedule.test]
        parts: dict[str, Part] = {"val": "validation"} if validation else {}
        parts |= {"test": "test"} if tested else {}
        networks: dict[str, nn.Module] = {"": self.student}
        if self.teacher is not None and self._teacher_is_online() and tested:
            networks["teacher_"] = self.teacher
        return {
            f"{part}_{whose}{name}": value
            for part in parts
            for whose, network in networks.items()
            for name, value in self._metrics(network, parts[part]).items()
        }

    def _metrics(self, network: nn.Module, part: Part) -> Mapping[str, float]:
        return evaluate(network, self.task.evaluation(part, self.compute.device), self.task.meter(), self.compute)

    def _teacher_is_online(self) -> bool:
        """Tell whether the teacher is trained beside the student, in some epochs at least."""
        return Need.TRAINABLE_TEACHER in self.distiller.needs

    def _teacher_changes(self) -> bool:
        """Tell a teacher that learns, or whose batch norms move, from one that stays as its file has it."""
        assert self.teacher is not None
        return self._teacher_is_online() or any(module.training for module in self.teacher.modules())

    def _reviewing(self) -> Reviewing:
        assert self.review is not None
        return self.review

    def _refuse_divergence(self, epoch: int, means: Mapping[str, float]) -> None:
        if not all(math.isfinite(mean) for mean in means.values()):
            found = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items())
            raise DivergedError(
                f"epoch {epoch}: the loss is not finite ({found}); lower training.lr or review.lambda,"
                " or use a transform whose norm is not none"
            )
