"""A detector leaves boxes, pictures and AP by conditions, and the report shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_coco

from tskd_tune import local
from tskd_tune.experiment import Experiment
from tskd_tune.records.kept.examples import BoxAnswers, examples_of, examples_of_teacher, pictures_of

pytestmark = pytest.mark.slow


def test_a_detector_is_shown_with_its_boxes(tmp_path: Path) -> None:
    root = small_coco.write_coco(tmp_path / "data", train=4, test=4)
    task = {"name": "coco", "root": str(root), "batch_size": 2, "short_side": 64, "long_side": 96, "workers": 0}
    document = {
        "task": task,
        "teacher": {"name": "faster_rcnn_resnet18_fpn", "training": {"epochs": 1, "lr": 0.001}},
        "student": {"name": "faster_rcnn_resnet18_fpn"},
        "distiller": {"name": "fitnet"},
        "review": None,
        "training": {"epochs": 1, "lr": 0.001, "device": "cpu"},
    }
    run = local.start(Experiment.read(document), "one", tmp_path / "runs", lambda event: None, track=False)
    (row,) = run.rows()
    assert row.status == "done" and not [one for one in row.warnings if "examples" in one]
    found = examples_of(run, row)
    assert found is not None and isinstance(found.answers, BoxAnswers)
    assert [len(boxes) for boxes in found.answers.truth] == [3] * 4
    assert [one.name for one in found.breakdowns] == ["iou", "size", "class"]
    assert row.metrics["test_ap50"] == found.breakdowns[0].values[0]
    pictures = pictures_of(run, found.data)
    assert pictures is not None and len(pictures.images) == 4 and pictures.names[0] == "2000"
    assert row.teacher is not None and row.teacher.key is not None
    assert examples_of_teacher(run, found.data, row.teacher.key) is not None
    page = (run.path / "report.html").read_text()
    assert "AP by IoU, size and class" in page and "Images with boxes" in page and "Image 2000" in page
