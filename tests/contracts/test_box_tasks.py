"""The task of detection keeps the promises of every task, on a small data set in COCO's layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import small_coco
from torch import nn

from tskd_tune.tasks import TaskFacts, build
from tskd_tune.testing import TaskContract
from tskd_tune.testing.tasks import Make

OPTIONS: Mapping[str, Any] = {
    "batch_size": 4,
    "validation": 4,
    "short_side": 64,
    "long_side": 96,
    "flip": False,
    "workers": 0,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_coco.write_coco(tmp_path_factory.mktemp("coco"))
    small_coco.write_coco(folder / "other", train=9, test=5)
    return folder


class TestCoco(TaskContract):
    component = "coco"
    unseen: ClassVar[frozenset[str]] = frozenset({"root", "workers", "prefetch", "without_boxes"})
    unaugmented: ClassVar[Mapping[str, Any]] = {"flip": False}
    flips: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "train": {"train": "other/train2017", "train_annotations": "other/annotations/instances_train2017.json"},
        "test": {"test": "other/val2017", "test_annotations": "other/annotations/instances_val2017.json"},
        "train_annotations": {
            "train": "other/train2017",
            "train_annotations": "other/annotations/instances_train2017.json",
        },
        "test_annotations": {"test": "other/val2017", "test_annotations": "other/annotations/instances_val2017.json"},
        "batch_size": {"batch_size": 3},
        "validation": {"validation": 2},
        "split_seed": {"split_seed": 1},
        "short_side": {"short_side": 48},
        "long_side": {"long_side": 70},
        "multi_scale": {"multi_scale": [48, 56]},
        "flip": {"flip": True},
        "pad_to": {"pad_to": 16},
    }

    @pytest.fixture
    def make(self, name: str, root: Path) -> Make:
        return lambda **over: build(name, **{"root": str(root), **OPTIONS, **over})

    def network(self, facts: TaskFacts) -> nn.Module:
        return small_coco.Guessing(facts.outputs)

    def test_its_constructor_reads_nothing(self) -> None:
        build("coco", root="/nowhere/at/all")
