"""Experiments of detection that take seconds: a small data set with rectangles, and small detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SMALL = {
    "name": "faster_rcnn_mobilenet_v2_fpn",
    **{"pyramid_width": 16, "head_width": 32, "anchor_sizes": [8, 16, 32, 64, 96]},
    **{"regions": 32, "train_proposals": 64, "test_proposals": 64},
}

LEVELS = ["fpn0", "fpn1", "fpn2", "fpn3", "fpn_pool"]
METHODS: dict[str, dict[str, Any]] = {
    "detection_kd": {"distiller": {"name": "detection_kd"}},
    "fitnet": {"distiller": {"name": "fitnet", "stage": "stage4", "activation": "none", "weight": 1.0}},
    "fgfi": {"distiller": {"name": "fgfi", "anchors": [16.0, 32.0, 64.0], "warmup": 2}},
    "review_kd": {"distiller": {"name": "review_kd", "stages": LEVELS, "weight": 1.0, "warmup": 0}},
}
REVIEW = {"k": 2, "delta": 1, "lambda": 0.4}


def detection(root: Path, **over: Any) -> dict[str, Any]:
    """Return an experiment on a folder in COCO's layout, as plain data, with some of its keys replaced."""
    task = {"name": "coco", "root": str(root), "batch_size": 4, "short_side": 96, "long_side": 128, "workers": 0}
    teacher = {**SMALL, "training": {"epochs": 1, "lr": 0.01}}
    plain: dict[str, Any] = {"task": task, "teacher": teacher, "student": SMALL, "distiller": {"name": "none"}}
    return plain | {"review": None, "training": {"epochs": 3, "lr": 0.01, "device": "cpu"}} | over
