"""What is timed before a training: random images as large as those of the task, or a part of a large batch."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import small_coco

from tskd_tune.sweeps.estimating.stopwatch import Stopwatch
from tskd_tune.tasks import build
from tskd_tune.tasks.base import Draw
from tskd_tune.testing.tasks import CPU
from tskd_tune.training.compute import Compute


def timed(watch: Stopwatch) -> float:
    """Return the seconds of a step of a training whose steps take a second each, as the clock counts its readings."""
    trainer = SimpleNamespace(engine=SimpleNamespace(slow_steps=1), begin=lambda epoch: None, steps=watch.draws)
    return watch.time(cast("Any", trainer), 0, 100.0)


@pytest.mark.parametrize(("side", "images"), [(64, 4), (800, 1)])
def test_images_of_different_sizes_are_timed_in_the_size_of_a_usual_batch(
    tmp_path: Path, side: int, images: int
) -> None:
    root = small_coco.write_coco(tmp_path, train=8, test=2)
    task = build("coco", root=str(root), batch_size=4, short_side=side, long_side=1333, workers=0)
    clock = count()
    watch = Stopwatch(task, Compute(CPU), lambda: float(next(clock)))
    assert tuple(watch.batch(Draw({})).images.shape) == (images, *task.facts().usual)
    assert timed(watch) == 4 / images


def test_images_of_one_size_are_timed_in_whole_batches() -> None:
    clock = count()
    watch = Stopwatch(build("synthetic", batch_size=16, size=8), Compute(CPU), lambda: float(next(clock)))
    assert watch.batch(Draw({})).images.shape[1:] == (3, 8, 8)
    assert timed(watch) == 1
