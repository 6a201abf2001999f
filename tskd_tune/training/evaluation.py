"""Measures networks on the parts of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from tskd_tune.contracts import AnyBatch, Out, Output, inputs_of
from tskd_tune.errors import RunError
from tskd_tune.metrics import Part, measured
from tskd_tune.plain import Json
from tskd_tune.tasks.base import PLACES, Feed, Meter, Task
from tskd_tune.tasks.examples import Answers, Breakdown, Detailed, Showing
from tskd_tune.tasks.hits import Hits, Scored
from tskd_tune.tasks.shards import Shard, sharded
from tskd_tune.training.compute import Compute
from tskd_tune.training.foreign import numbers_by_name
from tskd_tune.training.schedule import Schedule

Out_contra = TypeVar("Out_contra", bound=Output, contravariant=True)


@runtime_checkable
class Mergeable(Protocol):
    """A meter whose sums can be added to those of meters that saw other samples."""

    def merge(self, add: Callable[[Sequence[Tensor]], None], device: torch.device) -> None:
        """Take in what all workers have collected; called once, after the last batch. A worker may have no batch.

        Args:
            add: replaces tensors on the device, in place, by their sums over the workers.
            device: where the networks compute.
        """


class Keeper(Protocol[Out_contra]):
    """Keeps something of each sample that is evaluated."""

    def update(self, output: Out_contra, batch: AnyBatch) -> None:
        """Take what a network computed from a batch; nothing waits for the device."""

    def merge(self, add: Callable[[Sequence[Tensor]], None]) -> None:
        """Take in what all workers have kept; ``add`` is as in `Mergeable.merge`."""


def evaluate(
    network: nn.Module, feed: Feed, meter: Meter[Out], compute: Compute, keepers: Sequence[Keeper[Out]] = ()
) -> dict[str, float]:
    """Return the metrics of a network on the samples of a feed, in order and without augmentation.

    The network is put into evaluation mode. The device is waited for once, when the meter computes. A feed without
    batches measures nothing. Several workers measure a share of each batch, and all get the metrics of the whole part;
    a meter that cannot be merged makes each of them measure everything. What ``keepers`` keep of single samples is that
    of the whole part, too.
    """
    network.eval()
    if feed.steps() == 0:
        return {}
    shares = compute.group is not None and isinstance(meter, Mergeable)
    own = sharded(feed, Shard(compute.rank, compute.world)) if shares else feed
    with torch.no_grad(), compute.autocast():
        for draw in own.draws():
            if shares and compute.rank > 0 and not draw.sizes:
                continue  # too few samples for a share: worker 0 alone measures them
            batch = own.batch(draw)
            output = network(*inputs_of(network, compute.arrange(batch.images), batch))
            meter.update(output, batch)
            for keeper in keepers:
                keeper.update(output, batch)
    if compute.group is not None and isinstance(meter, Mergeable):
        meter.merge(compute.group.add, compute.device)
        for keeper in keepers:
            keeper.merge(compute.group.add)
    found = meter.compute()
    if compute.group is not None:
        compute.group.confirm()
    return numbers_by_name(found, f"task: the meter {type(meter).__name__}")


@dataclass(frozen=True, eq=False)
class Shown(Generic[Out]):
    """What an evaluation leaves for people to look at.

    Attributes:
        answers: the answers to single samples; None where the objective has no way to show them.
        breakdowns: the metrics by conditions; empty where the meter has none.
        hits: whether each sample is right; None where the objective cannot say so.
    """

    answers: Answers[Out] | None
    breakdowns: tuple[Breakdown, ...]
    hits: Hits[Out] | None = None

    def plain(self) -> dict[str, Json] | None:
        """Return the answers as plain data; this waits for the device."""
        return None if self.answers is None else self.answers.plain()


class Evaluations(Generic[Out]):
    """Measures networks on the validation and the test set of a task, and keeps what the last of each can show."""

    def __init__(self, task: Task[Out], compute: Compute, schedule: Schedule) -> None:
        """Open no set yet."""
        self._task = task
        self._compute = compute
        self._schedule = schedule
        self._feeds: dict[Part, Feed] = {}  # opened once: a streamed feed starts processes
        self._shown: dict[tuple[nn.Module, Part], Shown[Out]] = {}

    def metrics(self, network: nn.Module, part: Part) -> Mapping[str, float]:
        """Return the metrics of a network on a part; see `evaluate`."""
        if part not in self._feeds:
            self._feeds[part] = self._task.evaluation(part, self._compute.device)
        feed, meter, answers = self._feeds[part], self._task.meter(), self._answers(part)
        objective = self._task.objective
        hits: Hits[Out] | None = Hits(objective, feed.targets) if isinstance(objective, Scored) else None
        keepers: list[Keeper[Out]] = [one for one in (answers, hits) if one is not None]
        found = evaluate(network, feed, meter, self._compute, keepers)
        lacking = [metric.name for metric in self._task.facts().metrics if found and metric.name not in found]
        if lacking:
            raise RunError(
                f"task: the objective {type(objective).__name__} declares the metric '{lacking[0]}', but its meter"
                f" measured {', '.join(found)}; name the metric and its value alike"
            )
        breakdowns = tuple(meter.breakdowns()) if isinstance(meter, Detailed) else ()
        self._shown[network, part] = Shown(answers, breakdowns, hits)
        return found

    def planned(self, epoch: int, student: nn.Module, teacher: nn.Module | None) -> dict[str, float]:
        """Return what the schedule measures at the end of an epoch, by the names of histories.

        Args:
            epoch: counted from 0.
            student: is measured on each part that is planned.
            teacher: a teacher that is trained beside the student, which is measured where the test set is; or None.
        """
        tested, has_validation = self._schedule.tests(epoch), self._task.facts().samples[1] > 0
        planned: dict[Part, bool] = {
            "validation": has_validation and self._schedule.validates(epoch),
            "test": tested,
        }
        networks = [student] if teacher is None or not tested else [student, teacher]
        return {
            measured(part, name, teacher=network is not student): value
            for part in filter(planned.get, planned)
            for network in networks
            for name, value in self.metrics(network, part).items()
        }

    def has(self, network: nn.Module, part: Part) -> bool:
        """Tell whether a network was evaluated on a part."""
        return (network, part) in self._shown

    def shown(self, network: nn.Module, part: Part) -> Shown[Out]:
        """Return what the last evaluation of a network on a part shows; measure it, in this process, if there was none.

        After a resume there is none of a training that had ended.
        """
        if (network, part) not in self._shown:
            alone = Evaluations(self._task, replace(self._compute, group=None), self._schedule)
            alone.metrics(network, part)
            self._shown[network, part] = alone._shown[network, part]
        return self._shown[network, part]

    def _answers(self, part: Part) -> Answers[Out] | None:
        objective = self._task.objective
        if not isinstance(objective, Showing):
            return None
        facts = self._task.facts()
        return Answers(objective.answering(facts, part), facts.samples[PLACES[part]], self._compute.device)
