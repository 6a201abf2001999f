"""An estimate sees how fast files are read, on the batches of the task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detecting import METHODS, detection
from PIL import Image
from small_coco import write_coco

from tskd_tune.contracts import Batch
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of
from tskd_tune.sweeps.estimating import estimate
from tskd_tune.sweeps.estimating.loading import Loading, Loads, loading_of
from tskd_tune.sweeps.estimating.stopwatch import Pace, by_epochs, seconds
from tskd_tune.training.streams import Streams


def one_batch() -> Batch:
    return Batch(torch.zeros(4, 3, 8, 8), torch.zeros(4), torch.arange(4))


def test_workers_read_beside_a_step_and_a_training_reads_between_steps() -> None:
    pace = Pace(general=0.2, review=0.9, image=0.01)
    beside = pace.loaded(Loading([one_batch()], 0.4, workers=2))
    assert (beside.general, beside.review, beside.image) == (0.4, 0.9, 0.1)
    between = pace.loaded(Loading([one_batch()], 0.4, workers=0))
    assert between.general == pytest.approx(0.6) and between.image == pytest.approx(0.11)
    assert pace.loaded(None) == pace


def test_a_training_that_waits_for_its_files_is_said() -> None:
    loads = Loads(1.0, lambda: 0.0)
    slow = Loading([one_batch()], 0.4, workers=2)
    loads.saw(slow, 0.5)
    assert loads.words() == ""
    loads.saw(slow, 0.2)
    assert "the reading of files bounds the speed (a step alone takes 0.2 s)" in loads.words()
    assert slow.words() == "2 workers read a batch in 0.4 s while the training takes a step"


def test_a_task_that_reads_all_data_before_is_not_read(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny()
    assert loading_of(task_of(experiment), experiment.training.compute(), 1.0, lambda: 0.0) is None


def test_images_of_a_folder_are_read_without_measuring_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "data"))
    stream = np.random.default_rng(5)
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(12):
            pixels = stream.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number:02}.png")
    task = {"name": "image_folder", "root": str(tmp_path / "set"), "size": 8, "batch_size": 4, "feed": "streamed"}
    experiment = Experiment.read(
        {"task": {**task, "workers": 0}, "student": "resnet8", "review": None, "training": {"device": "cpu"}}
    )
    ticks = iter(range(100))
    made = task_of(experiment)
    found = loading_of(made, experiment.training.compute(), 2.5, lambda: float(next(ticks)))
    assert found is not None and found.workers == 0 and len(found.batches) == 4
    assert found.seconds > 0 and found.batches[0].images.shape == (4, 3, 8, 8)
    assert not (tmp_path / "data").exists(), "nothing was measured"
    assert len(list(made.training(torch.device("cpu")).draws(Streams(0)))) == made.steps()


def test_a_detection_training_is_timed_on_its_own_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "cache"))  # other tests have trained this teacher
    data = write_coco(tmp_path / "data", train=8, test=2)
    experiment = Experiment.read(
        detection(data, **METHODS["detection_kd"], review={"k": 2, "delta": 1, "plan": {"node": 1}})
    )
    found = estimate.of_experiment(experiment, budget=0.1)
    assert "with batches of the data" in found.how and "to read a batch takes" in found.how
    assert found.device == "cpu" and 0 < found.device_hours == pytest.approx(found.hours)
    assert found.teachers == 1 and found.teacher_hours > 0


def test_nodes_of_steps_are_timed_as_epochs_and_counted_by_their_steps(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny(review={"plan": {"node": 4}})  # 18 steps, of which 4 review; 56 images are evaluated
    timed = by_epochs(experiment)
    assert timed.plan() is not None and timed.plan().node == "epoch"  # type: ignore[union-attr]
    assert by_epochs(tiny()) == tiny()
    assert seconds(experiment, Pace(2.0, 7.0, 0.25)) == 14 * 2.0 + 4 * 7.0 + 56 * 0.25
