"""The tasks: each is a data set with an objective and a way of feeding."""

from __future__ import annotations

from typing import Any

from tskd_tune.metrics import Metric, Part
from tskd_tune.tasks import cifar, cinic10, coco, digits, image_folder, imagenet, quadratic, synthetic, tiny_imagenet
from tskd_tune.tasks.base import TASKS, Task, TaskFacts

__all__ = [
    "TASKS",
    "Metric",
    "Part",
    "Task",
    "TaskFacts",
    "build",
    "cifar",
    "cinic10",
    "coco",
    "digits",
    "image_folder",
    "imagenet",
    "quadratic",
    "synthetic",
    "tiny_imagenet",
]


def build(name: str, **options: Any) -> Task:
    """Build a task by name; nothing is read before it is asked for.

    Raises:
        InputError: there is no such task.
        pydantic.ValidationError: an option is unknown or out of its bounds.
    """
    return TASKS.build(name, **options)
