"""Handwritten digits: 1797 images of 8 x 8 pixels that come with scikit-learn."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt

from tskd_tune.errors import InputError
from tskd_tune.plain import Json
from tskd_tune.tasks.base import TASKS, Task, TaskFacts, summary_of
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.image_source import ImageParts, ImageSource, Labeled
from tskd_tune.tasks.images import Augmentation, Normalization
from tskd_tune.tasks.options import BatchSize, HeldOut, Padding, SplitSeed
from tskd_tune.tasks.resident import Resident
from tskd_tune.tasks.splits import TEST_SEED, quotas, stratified
from tskd_tune.tasks.summary import DataSummary

NAMES = [str(digit) for digit in range(10)]
COUNTS = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
TEST = 597


@TASKS.register("digits", source="scikit-learn's load_digits; UCI, Optical Recognition of Handwritten Digits")
def digits(
    *,
    batch_size: BatchSize = 64,
    validation: HeldOut = 0,
    split_seed: SplitSeed = 0,
    train: PositiveInt | None = None,
    padding: Padding = 1,
    flip: bool = False,
) -> Task:
    """Ten handwritten digits, gray, 8 x 8: 1200 images to train and 597 to test, with no download.

    Args:
        train: number of training images that are used, to make the task hard; null: all that are not held out.
        flip: mirror a random half of the training images, anew in every epoch, which makes some digits unreadable.
    """
    return Task(
        DigitImages(validation, split_seed, train), Classification(), Resident(Augmentation(padding, flip), batch_size)
    )


class DigitImages(ImageSource):
    """The digits, split by fixed seeds; values 0 to 16 become 0 to 255, rounded to the nearest."""

    def __init__(self, validation: int, split_seed: int, train: int | None) -> None:
        """Take the sizes of the sets; ``train: None`` uses all images that are not held out."""
        self._validation = validation
        self._split_seed = split_seed
        self._train = train

    def facts(self) -> TaskFacts:
        """Compute the facts from the known number of images per digit; check only that scikit-learn is installed."""
        if find_spec("sklearn") is None:
            raise InputError("task: 'digits' needs scikit-learn, which is not installed; install scikit-learn")
        left = COUNTS - quotas(COUNTS.tolist(), TEST, option="test", names=NAMES, spare=1)
        taken = quotas(left.tolist(), self._validation, option="validation", names=NAMES, spare=1)
        rest = left - taken
        used = int(rest.sum())
        if self._train is not None:
            used = int(quotas(rest.tolist(), self._train, option="train", names=NAMES, spare=0).sum())
        return TaskFacts(inputs=(1, 8, 8), outputs=10, samples=(used, self._validation, TEST))

    def summary(self) -> DataSummary:
        """Return the summary, from the known number of images per digit."""
        return summary_of(self.facts(), "digits, in scikit-learn", NAMES)

    def read(self) -> ImageParts:
        """Read the digits out of scikit-learn."""
        self.facts()
        data = _digits()
        pixels = np.rint(data.images * 255 / 16).astype(np.uint8)
        everything = Labeled(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(data.target.astype(np.int64)))
        test, pool = _take(everything, TEST, TEST_SEED, "test")
        validation, training = _take(pool, self._validation, self._split_seed, "validation")
        if self._train is not None:
            training, _ = _take(training, self._train, self._split_seed, "train", spare=0)
        return ImageParts(training, validation, test, Normalization.of(training.images))

    def identity(self) -> Mapping[str, Json]:
        """Return the name and the options that decide the split."""
        return {
            "data": "digits",
            "validation": self._validation,
            "split_seed": self._split_seed,
            "train": self._train,
        }


def _digits() -> Any:
    from sklearn.datasets import load_digits

    try:
        return load_digits()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"task: the digits in scikit-learn cannot be read ({error}); install scikit-learn anew"
        ) from error


def _take(samples: Labeled, total: int, seed: int, option: str, spare: int = 1) -> tuple[Labeled, Labeled]:
    taken, left = stratified(samples.targets.numpy(), total, seed=seed, option=option, names=NAMES, spare=spare)
    return samples.at(taken), samples.at(left)
