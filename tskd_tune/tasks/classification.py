"""Classification: cross-entropy, top-1 and top-5 accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from tskd_tune.contracts import Batch, Classified, exact
from tskd_tune.metrics import PERCENT, Metric, Part
from tskd_tune.plain import Json
from tskd_tune.tasks.base import Objective, TaskFacts
from tskd_tune.tasks.examples import Answering

TOP1 = Metric("top1", "top-1", PERCENT, "max")
TOP5 = Metric("top5", "top-5", PERCENT, "max")
LOSS = Metric("loss", "loss", "", "min", digits=4)


@final
class Classification(Objective[Classified]):
    """Cross-entropy of the logits; the metrics are top-1 and top-5 accuracy in percent, and the mean cross-entropy.

    Top-5 is left out where there are five classes or fewer, because top-5 would always be 100.
    """

    def metrics(self, facts: TaskFacts) -> tuple[Metric, ...]:
        """Return top-1, top-5 where there are more than five classes, and the loss."""
        return (TOP1, TOP5, LOSS) if facts.outputs > 5 else (TOP1, LOSS)

    def losses(self, output: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the logits, the mean over the batch, in float32 at least."""
        return {"task": F.cross_entropy(exact(output.logits), batch.targets)}

    def meter(self, facts: TaskFacts) -> Accuracy:
        """Return a new meter of `metrics`."""
        return Accuracy(self.metrics(facts))

    def answering(self, facts: TaskFacts, part: Part) -> ClassAnswers:
        """Return how the classes that a network gives are kept."""
        return ClassAnswers()

    def hit_metric(self) -> Metric:
        """Return top-1: the share of the samples whose most probable class is right."""
        return TOP1

    def hits(self, output: Classified, batch: Batch) -> Tensor:
        """Return whether the most probable class of each sample is right ``[B]``, as top-1 counts it."""
        return _right(output, batch)[:, 0]


@final
class ClassAnswers(Answering[Classified]):
    """The class of each sample that a network gives, its probability, and the true class."""

    kind = "classes"
    samples = 1000
    pixels = 48

    def blank(self, samples: int) -> dict[str, Tensor]:
        """Return zeros for some samples."""
        classes = {name: torch.zeros(samples, dtype=torch.int64) for name in ("truth", "answer")}
        return {**classes, "confidence": torch.zeros(samples)}

    def answers(self, output: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return the most probable class of each sample ``[B]``, its probability and the true class."""
        confidence, answer = exact(output.logits).softmax(1).max(1)
        return {"truth": batch.targets, "answer": answer, "confidence": confidence}

    def plain(self, kept: Mapping[str, Tensor]) -> dict[str, Json]:
        """Return three lists with one item for each sample; probabilities have three digits."""
        confidence = [round(value, 3) for value in kept["confidence"].tolist()]
        return {"truth": kept["truth"].tolist(), "answer": kept["answer"].tolist(), "confidence": confidence}


@final
class Accuracy:
    """Counts right answers and sums losses on the device; all sums are fetched once."""

    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        """Measure some of top-1, top-5 and the loss."""
        self._metrics = metrics
        self._sums: list[Tensor] = []
        self._samples = 0

    def update(self, output: Classified, batch: Batch) -> None:
        """Add the logits ``[B, classes]`` and the targets ``[B]`` of a batch."""
        logits, targets = output.logits, batch.targets
        best = _right(output, batch)
        losses = F.cross_entropy(exact(logits), targets, reduction="none").double()
        self._sums.append(torch.stack([best[:, 0].sum().double(), best.sum().double(), losses.sum()]))
        self._samples += len(targets)

    def merge(self, add: Callable[[Sequence[Tensor]], None], device: torch.device) -> None:
        """Take in the sums and the numbers of samples of all workers."""
        zeros = torch.zeros(3, dtype=torch.float64, device=device)
        count = torch.tensor(self._samples, device=device)
        sums = torch.stack([zeros, *self._sums]).sum(0)
        add([sums, count])
        self._sums, self._samples = [sums], int(count)

    def compute(self) -> dict[str, float]:
        """Return the metrics of all samples so far, of which there must be at least one."""
        first, five, loss = (torch.stack(self._sums).sum(0) / self._samples).tolist()
        values = {TOP1.name: 100 * first, TOP5.name: 100 * five, LOSS.name: loss}
        return {metric.name: values[metric.name] for metric in self._metrics}


def _right(output: Classified, batch: Batch) -> Tensor:
    """Return whether each of the five most probable classes, or of all if fewer, is right ``[B, min(5, classes)]``."""
    logits = output.logits
    return logits.topk(min(5, logits.shape[1]), dim=1).indices == batch.targets.unsqueeze(1)
