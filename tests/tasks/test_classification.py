from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tskd_tune.contracts import Batch, Classified
from tskd_tune.errors import InputError
from tskd_tune.tasks.base import Task, TaskFacts
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.image_source import ImageParts, ImageSource, Labeled
from tskd_tune.tasks.images import Augmentation, Normalization
from tskd_tune.tasks.resident import Resident
from tskd_tune.testing import ObjectiveContract
from tskd_tune.training.compute import Compute
from tskd_tune.training.evaluation import evaluate

CPU = torch.device("cpu")


class Flat(ImageSource):
    """Images whose every pixel is their own class, ten gray levels apart."""

    def __init__(self, classes: int = 8, samples: tuple[int, int, int] = (13, 0, 16)) -> None:
        self.classes = classes
        self.samples = samples
        self.reads = 0

    def facts(self) -> TaskFacts:
        return TaskFacts((1, 4, 4), self.classes, self.samples)

    def read(self) -> ImageParts:
        self.reads += 1
        return ImageParts(*(self.part(n) for n in self.samples), Normalization((0.0,), (10 / 255,)))

    def part(self, samples: int) -> Labeled:
        targets = torch.arange(samples) % self.classes
        return Labeled((targets * 10).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4), targets)

    def identity(self) -> Mapping[str, Any]:
        return {"classes": self.classes, "samples": self.samples}


def task(source: Flat | None = None, batch_size: int = 4, padding: int = 0, flip: bool = False) -> Task:
    return Task(source or Flat(), Classification(), Resident(Augmentation(padding, flip), batch_size))


class Answers(nn.Module):
    def __init__(self, answer: Callable[[Tensor], Classified]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> Classified:
        return self.answer(images)


def measured(made: Task, answer: Callable[[Tensor], Classified], part: Any = "test") -> dict[str, float]:
    return evaluate(Answers(answer), made.evaluation(part, CPU), made.meter(), Compute(CPU))


def output(logits: Tensor) -> Classified:
    return Classified(logits, {}, {}, logits)


def classes_of(images: Tensor) -> Tensor:
    return images[:, 0, 0, 0].round().long()


def test_the_criterion_is_the_mean_cross_entropy_and_its_gradient() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.2, -1.0]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([2, 0])
    loss = Classification().losses(output(logits), Batch(torch.zeros(2), targets, targets))["task"]
    shares = logits.detach().exp() / logits.detach().exp().sum(1, keepdim=True)
    expected = -(math.log(shares[0, 2]) + math.log(shares[1, 0])) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-14)
    loss.backward()
    hot = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(logits.grad, (shares - hot) / 2, rtol=1e-13, atol=0)


def test_the_criterion_of_half_precision_is_single_precision() -> None:
    targets = torch.tensor([1])
    logits = torch.tensor([[0.0, 9.0]], dtype=torch.bfloat16)
    loss = Classification().losses(output(logits), Batch(torch.zeros(1), targets, targets))["task"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-9)), rel=1e-3)


def test_an_evaluation_counts_ranks() -> None:
    def fifth_at_best(images: Tensor) -> Classified:
        """Four wrong classes above the right one, or five for class 0."""
        right = classes_of(images)
        logits = torch.zeros(len(images), 8)
        for row, label in enumerate(right.tolist()):
            above = 5 if label == 0 else 4
            for step in range(1, above + 1):
                logits[row, (label + step) % 8] = 9.0
            logits[row, label] = 1.0
        return output(logits)

    metrics = measured(task(), fifth_at_best, "test")
    assert metrics["top1"] == 0
    assert metrics["top5"] == 87.5
    part = [math.log(8 * 0 + 4 * math.exp(9) + math.e + 3) - 1] * 14 + [math.log(5 * math.exp(9) + math.e + 2) - 1] * 2
    assert metrics["loss"] == pytest.approx(sum(part) / 16, rel=1e-6)


def test_an_evaluation_weighs_every_image_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(task(), lambda images: output(images[:, 0, 0, :1] * torch.arange(8.0)), "test")
    monkeypatch.setattr("tskd_tune.tasks.images.CPU_EVALUATION_VALUES", 16 * 5)
    in_parts = measured(task(), lambda images: output(images[:, 0, 0, :1] * torch.arange(8.0)), "test")
    assert in_parts == pytest.approx(dict(whole), rel=1e-6)


def test_an_evaluation_asks_for_no_gradient() -> None:
    weight = torch.ones(8, requires_grad=True)

    def forward(images: Tensor) -> Classified:
        logits = images[:, 0, 0, :1] * weight
        assert not logits.requires_grad
        return output(logits)

    assert measured(task(), forward, "test")["top1"] == 12.5


def test_top5_is_left_out_where_it_would_always_be_full() -> None:
    def forward(images: Tensor) -> Classified:
        return output(torch.zeros(len(images), 5))

    assert set(measured(task(Flat(classes=5)), forward, "test")) == {"top1", "loss"}


def test_a_part_without_images_is_not_evaluated() -> None:
    with pytest.raises(InputError, match=r"no validation set to evaluate; set task.validation above 0"):
        measured(task(), output, "validation")


def test_a_training_part_is_not_padded_for_evaluation() -> None:
    made = task(Flat(samples=(13, 8, 16)), padding=2)
    seen: list[Tensor] = []

    def forward(images: Tensor) -> Classified:
        seen.append(images)
        return output(torch.zeros(len(images), 8))

    measured(made, forward, "validation")
    assert torch.equal(classes_of(torch.cat(seen)), torch.arange(8))
    assert torch.cat(seen).shape == (8, 1, 4, 4)


def test_the_fingerprint_holds_data_and_augmentation_but_not_the_batch_size() -> None:
    plain = task().fingerprint()
    assert task(batch_size=9).fingerprint() == plain
    others = [task(padding=1), task(flip=True), task(Flat(classes=9)), task(Flat(samples=(14, 0, 16)))]
    assert len({plain, *(other.fingerprint() for other in others)}) == 5


def test_a_source_that_only_counts_has_a_summary_and_is_read_once_to_be_verified() -> None:
    source = Flat()
    made = task(source)
    assert made.summary().lines() == [
        "data: images",
        "  8 classes: 0, 1, 2, 3, 4, 3 more",
        "  images: 13 training, 0 validation, 16 test",
        "  sizes: 4 x 4",
    ]
    found = made.verify()
    assert made.verify() == found and source.reads == 1
    [said] = found
    assert said.startswith("task: the training set holds 16 of the 16 test images too, pixel for pixel")


class TestClassification(ObjectiveContract):
    def objective(self) -> Classification:
        return Classification()
