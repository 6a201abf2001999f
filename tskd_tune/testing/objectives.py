"""The contract of objectives, which define the losses and the metrics of a task."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from tskd_tune import networks
from tskd_tune.contracts import Batch, Classified
from tskd_tune.metrics import measured
from tskd_tune.records.kept.examples import Examples
from tskd_tune.tasks.base import Meter, Objective, TaskFacts
from tskd_tune.tasks.examples import Showing
from tskd_tune.testing.loss_cases import part_of
from tskd_tune.testing.workers import at_once, groups
from tskd_tune.training.evaluation import Mergeable
from tskd_tune.training.group import Group

SAMPLES, CLASSES, SIZE = 12, 7, 8


class ObjectiveContract:
    """The requirements for every objective: for its losses, and for the metrics that it declares and measures."""

    def objective(self) -> Objective[Classified]:
        """Return the objective under test."""
        raise NotImplementedError("override objective() with what makes the objective under test")

    @pytest.fixture
    def facts(self) -> TaskFacts:
        """Return the facts of the data with which the objective is tested."""
        return TaskFacts((3, SIZE, SIZE), CLASSES, (SAMPLES, 4, 4))

    @pytest.fixture
    def seen(self) -> tuple[Classified, Batch]:
        """Return a network's outputs for random images, and the batch of these images."""
        torch.manual_seed(0)
        images, indices = torch.randn(SAMPLES, 3, SIZE, SIZE), torch.arange(SAMPLES)
        return networks.build("resnet8", CLASSES).eval()(images), Batch(images, indices % CLASSES, indices)

    def test_metrics_are_declared_once_each(self, facts: TaskFacts) -> None:
        """There is a headline; names differ, and can be used in rows after the name of the set."""
        metrics = self.objective().metrics(facts)
        names = [metric.name for metric in metrics]
        assert names and len(set(names)) == len(names)
        for metric in metrics:
            assert measured("validation", metric) == f"val_{metric.name}"
            assert metric.name.isidentifier() and metric.title and metric.mode in ("max", "min")

    def test_losses_are_finite_scalars_with_a_gradient(self, seen: tuple[Classified, Batch]) -> None:
        """Each loss is a finite scalar with a gradient on the network."""
        losses = self.objective().losses(*seen)
        assert losses
        for loss in losses.values():
            assert loss.shape == () and bool(torch.isfinite(loss)) and loss.requires_grad

    def test_losses_are_means_over_the_batch(self, seen: tuple[Classified, Batch]) -> None:
        """The loss of a batch is the mean of the losses of its halves."""
        objective, (output, batch) = self.objective(), seen
        half = SAMPLES // 2
        whole, first, second = (
            objective.losses(*_part(output, batch, which))
            for which in (slice(None), slice(0, half), slice(half, SAMPLES))
        )
        for name, loss in whole.items():
            torch.testing.assert_close(loss, (first[name] + second[name]) / 2)

    def test_a_meter_measures_what_is_declared(self, facts: TaskFacts, seen: tuple[Classified, Batch]) -> None:
        """A meter gives exactly the declared metrics, in the declared order, all finite."""
        found = self._measured(facts, [_detached(*seen)])
        assert list(found) == [metric.name for metric in self.objective().metrics(facts)]
        assert bool(torch.tensor(list(found.values())).isfinite().all())

    def test_answers_are_kept_as_declared(self, facts: TaskFacts, seen: tuple[Classified, Batch]) -> None:
        """Where outputs can be shown, each sample has an answer, which the records of a run can read."""
        objective = self.objective()
        if not isinstance(objective, Showing):
            return
        output, batch = _detached(*seen)
        answering = objective.answering(facts, "test")
        given, blank = answering.answers(output, batch), answering.blank(SAMPLES)
        assert {name: values.shape for name, values in given.items()} == {
            name: values.shape for name, values in blank.items()
        }
        plain = {"kind": answering.kind, **answering.plain({name: values.cpu() for name, values in given.items()})}
        found = Examples.model_validate({"part": "test", "data": "d", "samples": [*range(SAMPLES)], "answers": plain})
        assert found.answers is not None and len(found.answers.truth) == SAMPLES

    def test_a_metric_does_not_depend_on_the_batches(self, facts: TaskFacts, seen: tuple[Classified, Batch]) -> None:
        """The metrics of a set do not depend on the sizes of the batches."""
        output, batch = _detached(*seen)
        parts = [_part(output, batch, which) for which in (slice(0, 5), slice(5, 6), slice(6, SAMPLES))]
        together, apart = self._measured(facts, [(output, batch)]), self._measured(facts, parts)
        assert together == pytest.approx(apart)

    def test_meters_that_are_merged_measure_all_samples(self, facts: TaskFacts, seen: tuple[Classified, Batch]) -> None:
        """Meters of two workers, one of which may have seen nothing, give the metrics of all samples when merged."""
        output, batch = _detached(*seen)
        for bound in (5, SAMPLES):
            meters = [self.objective().meter(facts) for _ in range(2)]
            for meter, which in zip(meters, (slice(0, bound), slice(bound, SAMPLES)), strict=True):
                if not isinstance(meter, Mergeable):
                    pytest.skip("each worker measures all samples")
                if which.start < which.stop:
                    meter.update(*_part(output, batch, which))
            merged = at_once([partial(_merged, meter, group) for meter, group in zip(meters, groups(), strict=True)])
            whole = self._measured(facts, [(output, batch)])
            assert merged[0] == merged[1] == pytest.approx(whole, rel=1e-12)

    def test_right_answers_are_better_than_wrong_ones(self, facts: TaskFacts, seen: tuple[Classified, Batch]) -> None:
        """Right answers have a better headline than wrong answers, by the headline's mode."""
        output, batch = _detached(*seen)
        right = 20 * torch.nn.functional.one_hot(batch.targets, CLASSES).float()
        headline = self.objective().metrics(facts)[0]
        good, bad = (
            self._measured(facts, [(_with_logits(output, logits), batch)])[headline.name] for logits in (right, -right)
        )
        assert headline.better(good, bad), f"{headline.name}: {good} for right answers, {bad} for wrong ones"

    def _measured(self, facts: TaskFacts, parts: list[tuple[Classified, Batch]]) -> dict[str, float]:
        meter = self.objective().meter(facts)
        for output, batch in parts:
            meter.update(output, batch)
        return meter.compute()


def _merged(meter: Meter[Classified], group: Group) -> dict[str, float]:
    assert isinstance(meter, Mergeable)
    meter.merge(group.add, torch.device("cpu"))
    found: dict[str, float] = meter.compute()
    return found


def _detached(output: Classified, batch: Batch) -> tuple[Classified, Batch]:
    return output.detached(), batch


def _with_logits(output: Classified, logits: Tensor) -> Classified:
    return Classified(logits, output.features, output.preactivations, output.embedding)


def _part(output: Classified, batch: Batch, which: slice) -> tuple[Classified, Batch]:
    return part_of(output, which), Batch(batch.images[which], batch.targets[which], batch.indices[which])
