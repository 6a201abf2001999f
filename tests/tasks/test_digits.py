from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tskd_tune.errors import InputError
from tskd_tune.tasks import build
from tskd_tune.tasks import digits as module
from tskd_tune.tasks.digits import COUNTS, DigitImages
from tskd_tune.training.streams import Streams

CPU = torch.device("cpu")


def parts(validation: int = 0, split_seed: int = 0, train: int | None = None):
    return DigitImages(validation, split_seed, train).read()


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_the_known_counts_are_those_of_scikit_learn() -> None:
    assert np.bincount(load_digits().target).tolist() == COUNTS.tolist()


def test_the_values_cover_the_whole_byte() -> None:
    read = parts(validation=100)
    pixels = torch.cat([read.training.images, read.validation.images, read.test.images])
    assert pixels.shape == (1797, 1, 8, 8)
    values, counts = np.unique(pixels.numpy(), return_counts=True)
    assert values.tolist() == [round(level * 255 / 16) for level in range(17)]
    assert counts.tolist() == np.bincount(load_digits().images.astype(int).ravel()).tolist()


def test_every_image_keeps_its_class() -> None:
    data = load_digits()
    known = {np.rint(i * 255 / 16).astype(np.uint8).tobytes(): t for i, t in zip(data.images, data.target, strict=True)}
    read = parts(validation=50)
    for part in (read.training, read.validation, read.test):
        assert [known[image.numpy().tobytes()] for image in part.images] == part.targets.tolist()


def test_the_test_part_never_moves() -> None:
    first, second = parts(), parts(validation=200, split_seed=7, train=100)
    assert torch.equal(first.test.images, second.test.images)
    assert rows(first.test.images).isdisjoint(rows(first.training.images))


def test_a_small_training_part_leaves_the_validation_part_alone() -> None:
    whole, small = parts(validation=100), parts(validation=100, train=40)
    assert torch.equal(whole.validation.images, small.validation.images)
    assert rows(small.training.images) < rows(whole.training.images)
    assert torch.bincount(small.training.targets).tolist() == [4] * 10


def test_the_split_seed_moves_the_validation_part() -> None:
    assert rows(parts(100).validation.images) != rows(parts(100, split_seed=1).validation.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1199}, "task.validation: class '0' has 119 images"),
        ({"validation": 9}, "task.validation: 9 images cannot hold one of each"),
        ({"validation": 1000, "train": 201}, "task.train: class '0' has"),
    ],
)
def test_too_few_digits_are_refused_before_loading(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("digits", **options).facts()


def test_a_missing_scikit_learn_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="'digits' needs scikit-learn, which is not installed"):
        build("digits").facts()


def test_digits_are_not_mirrored_unless_asked() -> None:
    def images(**options: bool) -> torch.Tensor:
        task = build("digits", padding=0, **options)
        feed = task.training(CPU)
        batches = [feed.batch(draw) for draw in feed.draws(Streams(1, 0))]
        indices = torch.cat([batch.indices for batch in batches])
        return torch.cat([batch.images for batch in batches])[indices.argsort()]

    plain, mirrored = images(), images(flip=True)
    is_flipped = (mirrored == plain.flip(-1)).flatten(1).all(1) & ~(mirrored == plain).flatten(1).all(1)
    assert torch.equal(plain, images(flip=False))
    assert 500 < int(is_flipped.sum()) < 700
    assert torch.equal(torch.where(is_flipped.view(-1, 1, 1, 1), plain.flip(-1), plain), mirrored)


def test_damaged_digits_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut() -> None:
        raise EOFError("Compressed file ended")

    monkeypatch.setattr("sklearn.datasets.load_digits", cut)
    with pytest.raises(
        InputError, match=r"digits in scikit-learn cannot be read .Compressed.*install scikit-learn anew"
    ):
        build("digits").verify()
