"""Crops of JPEG files: their exactness is asserted, a difference is found, and every way gives a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import ImageOps

from benchmarks import photographs
from benchmarks.photographs import IMAGES, Alone, Plain, Streamed
from tskd_tune.tasks import build
from tskd_tune.tasks.base import Task

CPU = torch.device("cpu")
NAME = "500 x 375"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return photographs.written(tmp_path_factory.mktemp("files"), NAME, 6)


def task(files: list[Path]) -> Task:
    return build("imagenet", root=str(files[0].parents[2]), batch_size=4, workers=1)


def test_the_task_crops_as_torchvision_does_bit_for_bit_and_a_difference_is_found(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = files[0].parents[2]
    assert len(files) == 6 and all(20_000 < path.stat().st_size < 150_000 for path in files)
    assert photographs.largest_difference(task(files), root) == 0.0
    plain = photographs._transform()
    monkeypatch.setattr(photographs, "_transform", lambda: lambda image: plain(ImageOps.mirror(image)))
    assert photographs.largest_difference(task(files), root) > 0.1


def test_every_way_of_making_a_crop_gives_the_same_part_of_the_image(files: list[Path]) -> None:
    with torch.random.fork_rng(devices=[]):
        ours = photographs.ours_of(files)(files[1], 5)
        for other in (photographs.by_torchvision, photographs.by_draft):
            found = other(files[1], 5)
            assert found.shape == (3, 224, 224) and (found.float() - ours.float()).abs().mean() < 3
        assert 0 < Alone(photographs.by_transforms, files).run()[IMAGES].cpu < 1000


def test_both_loaders_give_the_time_of_a_thousand_images(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "WORKERS", 1)
    for contender in (Streamed(task(files).training(CPU), CPU, 6), Plain.of(files[0].parents[2], CPU, 6)):
        contender.prepare()
        spent = contender.run()[IMAGES]
        assert min(spent.cpu, spent.wall) > 0
