"""The data of experiments: what it is taken for, and whether all of it can be read."""

from __future__ import annotations

from collections.abc import Iterable

from tskd_tune.experiment.assembly import task_of
from tskd_tune.experiment.schema import Experiment
from tskd_tune.tasks.base import Task
from tskd_tune.tasks.summary import DataSummary


def summaries(experiments: Iterable[Experiment]) -> list[DataSummary]:
    """Return what the data of each task is taken for, in the order of the experiments.

    Raises:
        InputError: data is missing, or does not fit the options.
    """
    return [task.summary() for task in _tasks(experiments)]


def verify_data(experiments: Iterable[Experiment]) -> list[str]:
    """Read the data of each task once, and return a sentence for all that is odd about it; a second call is free.

    Images that were decoded are kept, and found by the trainings on this machine. Other machines of a cluster read
    the data when a training begins there.

    Raises:
        InputError: data is damaged; all of it is counted, and the first is named.
        RunError: a download failed, or a file vanished.
    """
    return [sentence for task in _tasks(experiments) for sentence in task.verify()]


def _tasks(experiments: Iterable[Experiment]) -> list[Task]:
    return list({id(task): task for task in map(task_of, experiments)}.values())
