"""A small data set in COCO's layout: images of noise with a colored rectangle for each object; ids have gaps."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tskd_tune.contracts import Batch, Boxes, Detected

CATEGORIES = [{"id": 3, "name": "red"}, {"id": 7, "name": "green"}, {"id": 20, "name": "blue"}]
SIDES = (20, 50, 110)
"""The sides of the objects of an image: a small one, a medium one and a large one."""


def write_coco(root: Path, train: int = 14, test: int = 6) -> Path:
    """Write a data set with one object of each class in each image, whose sizes change; return its folder."""
    for number, (part, count) in enumerate((("train2017", train), ("val2017", test)), 1):
        _write_part(root, part, 1000 * number, count)
    return root


def _write_part(root: Path, part: str, first: int, count: int) -> None:
    (root / part).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    stream = np.random.default_rng(first)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        height, width = 120 + 4 * number, 160 - 3 * number
        identity, name = first + 5 * number, f"{first + 5 * number:012}.png"
        pixels = stream.integers(60, 120, (height, width, 3), dtype=np.uint8)
        images.append({"id": identity, "file_name": name, "height": height, "width": width})
        for label, category in enumerate(CATEGORIES):
            side = SIDES[(label + number) % 3]
            x, y = (int(stream.integers(0, length - side)) for length in (width, height))
            pixels[y : y + side, x : x + side, label] = 250
            annotations.append(
                {
                    "id": 10 * (first + len(annotations)) + 1,
                    "image_id": identity,
                    "category_id": category["id"],
                    "bbox": [float(x), float(y), float(side), float(side)],
                    "area": 0.9 * side * side,
                    "iscrowd": 0,
                }
            )
        Image.fromarray(pixels).save(root / part / name)
    content = {"images": images[::-1], "annotations": annotations, "categories": CATEGORIES[::-1]}
    file_of(root, part).write_text(json.dumps(content))


def file_of(root: Path, part: str) -> Path:
    """Return the file of annotations of a part."""
    return root / "annotations" / f"instances_{part}.json"


def edit(root: Path, part: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a file of annotations, in place."""
    content = json.loads(file_of(root, part).read_text())
    change(content)
    file_of(root, part).write_text(json.dumps(content))


class Guessing(nn.Module):
    """A detector that knows the truth, shifts and scores it at random, and adds boxes that are wrong."""

    takes_batch = True

    def __init__(self, classes: int, shift: float = 1.5, wrong: int = 4) -> None:
        super().__init__()
        self.classes, self.shift, self.wrong = classes, shift, wrong

    def forward(self, images: torch.Tensor, batch: Batch[Boxes]) -> Detected:
        corners, labels, scores = [], [], []
        rows = zip(batch.targets.of_images(), batch.targets.labels, batch.indices.tolist(), batch.sizes, strict=True)
        for boxes, classes, index, size in rows:
            random = torch.Generator().manual_seed(index)
            limits = size.flip(0).repeat(2).float()
            noise = torch.rand(self.wrong, 4, generator=random) * limits
            false = torch.cat([noise[:, :2].minimum(noise[:, 2:]), noise[:, :2].maximum(noise[:, 2:])], dim=1)
            moved = boxes + self.shift * torch.randn(boxes.shape, generator=random)
            moved = torch.cat([moved[:, :2], moved[:, 2:].maximum(moved[:, :2] + 1)], dim=1)
            corners.append(torch.cat([moved, false]))
            random_labels = torch.randint(0, self.classes, (self.wrong,), generator=random)
            labels.append(torch.cat([classes[: len(boxes)], random_labels]))
            scores.append(torch.rand(len(corners[-1]), generator=random).round(decimals=1))  # with ties
        found = Boxes.padded(corners, labels, scores)
        return Detected({}, {}, {}, found, found, lambda boxes: boxes.corners)


def real_coco(factory: pytest.TempPathFactory) -> Path:
    """Unpack 128 + 128 real images that lie beside the repository, or in TSKD_TUNE_COCO_ZIP; return their folder."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "coco256-320.zip"
    given = Path(os.environ.get("TSKD_TUNE_COCO_ZIP", beside))
    if not given.is_file():
        pytest.skip(f"there is no {given.name} in ../shared/data: name the file by TSKD_TUNE_COCO_ZIP")
    folder = factory.mktemp("real")
    with zipfile.ZipFile(given) as packed:
        packed.extractall(folder)
    return folder
