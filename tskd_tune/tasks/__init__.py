"""What is learned: a data set with its loss and its metric."""

from __future__ import annotations

from typing import Any

from tskd_tune.tasks import cifar, digits, image_folder, synthetic
from tskd_tune.tasks.base import TASKS, Part, Task, TaskFacts

__all__ = ["TASKS", "Part", "Task", "TaskFacts", "build", "cifar", "digits", "image_folder", "synthetic"]


def build(name: str, **options: Any) -> Task:
    """Build a task by name; nothing is read before it is asked for.

    Raises:
        InputError: there is no such task.
        pydantic.ValidationError: an option is unknown or out of its bounds.
    """
    return TASKS.build(name, **options)
