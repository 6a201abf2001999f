from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from tskd_tune.errors import InputError
from tskd_tune.tasks import build
from tskd_tune.tasks.synthetic import SyntheticImages


def parts(noise: float = 30.0, seed: int = 0, samples: tuple[int, int, int] = (64, 16, 32), classes: int = 4):
    return SyntheticImages(classes=classes, shape=(3, 8, 8), samples=samples, noise=noise, seed=seed).read()


def test_classes_can_be_learned() -> None:
    """The nearest class mean of the training part names the test images."""
    read = parts()
    training, test = (part.images.flatten(1).float() for part in (read.training, read.test))
    means = torch.stack([training[read.training.targets == label].mean(0) for label in range(4)])
    assert torch.equal(torch.cdist(test, means).argmin(1), read.test.targets)


def test_noise_is_what_was_asked_for() -> None:
    quiet = parts(noise=0.0)
    for label in range(4):
        images = quiet.training.images[quiet.training.targets == label]
        assert torch.equal(images, images[:1].expand_as(images))
    assert torch.equal(quiet.test.images[:4], quiet.training.images[:4])
    spread = (parts(noise=10.0).training.images.float() - quiet.training.images.float()).std().item()
    assert spread == pytest.approx(10, rel=0.1)


def test_classes_are_balanced() -> None:
    assert torch.bincount(parts().training.targets).tolist() == [16] * 4


def test_the_seed_decides_everything() -> None:
    first, again, other = parts(), parts(), parts(seed=1)
    assert torch.equal(first.training.images, again.training.images)
    assert torch.equal(first.test.images, again.test.images)
    assert not torch.equal(first.training.images, other.training.images)


def test_a_training_part_without_one_of_each_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"task.train: 3 images cannot hold one of each of 4 classes"):
        build("synthetic", train=3).facts()


def test_one_class_is_refused() -> None:
    with pytest.raises(ValidationError, match="classes"):
        build("synthetic", classes=1)
