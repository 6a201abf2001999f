"""The reference: a training loop as the field writes it, frozen so that figures of different days can be compared.

This file and `benchmarks.reference_networks` import nothing of ``tskd_tune`` and must not change with it. The loop
computes what TSKD computes, in the style of RepDistiller and its descendants: images are decoded and augmented one by
one with PIL in a ``DataLoader``, the teacher runs in every step whether or not its output is used, the loss and the
accuracies are read with ``.item()`` in every step, the snapshots run one after the other, and all is float32 with
channels first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.reference_networks import Features

PADDING = 4
TEMPERATURE, KD_WEIGHT, TASK_WEIGHT = 4.0, 0.9, 0.1
MOMENTUM, WEIGHT_DECAY, EXTRACTOR_LR = 0.9, 5e-4, 1e-3

Batch = tuple[Tensor, Tensor, Tensor, float]


# Data


class Images(Dataset[tuple[Tensor, int, int]]):
    """Images in memory, made into PIL images and augmented one by one when asked for.

    A batch carries the CPU seconds that it took its worker, so that no batch is charged that is not used.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], targets: Sequence[int], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        """Hold pixels ``[N, H, W, 3]``."""
        self._pixels, self._targets, self._started = pixels, targets, 0.0
        steps = [transforms.RandomCrop(pixels.shape[1], padding=PADDING), transforms.RandomHorizontalFlip()]
        self._transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        """Return N."""
        return len(self._targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        """Return one augmented image ``[3, H, W]``, its class and its index."""
        return self._transform(Image.fromarray(self._pixels[index])), self._targets[index], index

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int, int]]:
        """Return the samples of a batch."""
        self._started = time.process_time()
        return [self[index] for index in indices]

    def collate(self, samples: Sequence[tuple[Tensor, int, int]]) -> Batch:
        """Stack the samples, and add the CPU seconds since `__getitems__` began."""
        images, targets, indices = zip(*samples, strict=True)
        stacked = torch.stack(images), torch.tensor(targets), torch.tensor(indices)
        return *stacked, time.process_time() - self._started

    def loader(self, batch_size: int, batches: int, workers: int, device: torch.device) -> DataLoader[Any]:
        """Return a loader of so many batches of shuffled images."""
        sampler = torch.utils.data.RandomSampler(self, num_samples=batch_size * batches)
        pinned = device.type == "cuda"
        return DataLoader(
            self, batch_size, sampler=sampler, num_workers=workers, collate_fn=self.collate, pin_memory=pinned
        )


class AverageMeter:
    """A value and its running mean."""

    def __init__(self) -> None:
        self.value = self.sum = self.mean = 0.0
        self.count = 0

    def update(self, value: float, count: int) -> None:
        """Add the mean of ``count`` samples."""
        self.value, self.sum, self.count = value, self.sum + value * count, self.count + count
        self.mean = self.sum / self.count


# The loop


@dataclass(frozen=True)
class Habits:
    """What the loop computes.

    Attributes:
        reviews: how the maps of a review become its sequence; None: without a teacher's review.
        distils: whether Hinton's KD is added to the cross-entropy.
        teacher_always: whether the teacher also runs in steps that do not use its output, as the field's loops do.
        adam: whether Adam trains the extractors; otherwise the student's optimizer does.
    """

    reviews: Literal["increment", "feature_map"] | None = None
    distils: bool = False
    teacher_always: bool = True
    adam: bool = False


class Loop:
    """Trains a student step by step."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        snapshots: Sequence[nn.Module],
        extractors: nn.ModuleList,
        habits: Habits,
        *,
        lr: float,
        lambda_: float,
        device: torch.device,
    ) -> None:
        """Take networks on the device; teacher and snapshots stay as they are."""
        self.student, self.teacher = student.train(), teacher.eval()
        self.snapshots = [snapshot.eval() for snapshot in snapshots]
        self.extractors, self.habits, self.lambda_, self.device = extractors, habits, lambda_, device
        sgd = [*student.parameters(), *([] if habits.adam else extractors.parameters())]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SGD(sgd, lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        ]
        if habits.adam:
            self.optimizers.append(torch.optim.Adam(extractors.parameters(), lr=EXTRACTOR_LR))
        self.meters = [AverageMeter() for _ in range(3)]

    def step(self, images: Tensor, targets: Tensor, *, review: bool) -> None:
        """Take one step on a batch that the loader gave."""
        images, targets = self.moved(images, targets)
        taught = self.taught(images) if self._asks_teacher(review) else None
        past = self.recalled(images) if review else []
        logits, loss = self.loss(images, targets, taught, past)
        self.backward(loss)
        self.update()
        self.measure(logits, targets, loss)

    def moved(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Bring a batch to the device."""
        return images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)

    def taught(self, images: Tensor) -> tuple[Tensor, Features]:
        """Run the teacher."""
        with torch.no_grad():
            logits, features = self.teacher(images)
        return logits, features

    def recalled(self, images: Tensor) -> list[Features]:
        """Run the snapshots one after the other."""
        with torch.no_grad():
            return [snapshot(images)[1] for snapshot in self.snapshots]

    def loss(
        self, images: Tensor, targets: Tensor, taught: tuple[Tensor, Features] | None, past: Sequence[Features]
    ) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, classes]`` and the sum of all losses."""
        logits, features = self.student(images)
        loss = F.cross_entropy(logits, targets)
        if self.habits.distils and taught is not None:
            ours, theirs = F.log_softmax(logits / TEMPERATURE, 1), F.softmax(taught[0] / TEMPERATURE, 1)
            gap = F.kl_div(ours, theirs, reduction="batchmean") * TEMPERATURE**2
            loss = TASK_WEIGHT * loss + KD_WEIGHT * gap
        if past and taught is not None:
            loss = loss + self.lambda_ * self._review(features, taught[1], past)
        return logits, loss

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """Change the weights."""
        for optimizer in self.optimizers:
            optimizer.step()

    def measure(self, logits: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Read the loss and the accuracies, which waits for the device."""
        count = len(targets)
        hits = logits.topk(5, 1).indices == targets[:, None]
        values = loss.item(), hits[:, :1].float().sum().item() / count, hits.float().sum().item() / count
        for meter, value in zip(self.meters, values, strict=True):
            meter.update(value, count)

    def evaluate(self, loader: Iterable[Batch]) -> float:
        """Return the share of images that the student classifies correctly, in evaluation mode, batch by batch."""
        self.student.eval()
        meter = AverageMeter()
        with torch.no_grad():
            for images, targets, *_ in loader:
                images, targets = self.moved(images, targets)  # noqa: PLW2901
                logits, _ = self.student(images)
                meter.update((logits.argmax(1) == targets).float().mean().item(), len(targets))
        self.student.train()
        return meter.mean

    def _asks_teacher(self, review: bool) -> bool:
        return self.habits.teacher_always or self.habits.distils or review

    def _review(self, student: Features, teacher: Features, past: Sequence[Features]) -> Tensor:
        losses = []
        for tap, extractor in enumerate(self.extractors):
            today, goal = attention(student[tap]), attention(teacher[tap])
            maps = [*(attention(features[tap]) for features in past), today]
            if self.habits.reviews == "increment":
                maps = [(later - earlier).abs() for earlier, later in pairwise(maps)]
            prediction = extractor([map_.unsqueeze(1) for map_ in maps]).squeeze(1)
            losses.append((prediction - (goal - today).abs()).square().mean())
        return torch.stack(losses).sum()


def attention(features: Tensor) -> Tensor:
    """Return the attention map ``[B, H, W]`` of length 1."""
    return F.normalize(features.pow(2).sum(1).flatten(1)).view(-1, *features.shape[2:])
