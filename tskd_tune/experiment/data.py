"""Checks the data of experiments: how the data is interpreted, and whether all data can be read."""

from __future__ import annotations

from collections.abc import Iterable

from tskd_tune.experiment.assembly import task_of
from tskd_tune.experiment.schema import Experiment
from tskd_tune.tasks.base import Task
from tskd_tune.tasks.summary import DataSummary


def summaries(experiments: Iterable[Experiment]) -> list[DataSummary]:
    """Return how the data of each task is interpreted, in the order of the experiments.

    Raises:
        InputError: data is missing, or does not fit the options.
    """
    return [task.summary() for task in _tasks(experiments)]


def verify_data(experiments: Iterable[Experiment]) -> list[str]:
    """Read the data of each task once, and return one sentence per unusual finding; a second call costs no time.

    Decoded images are kept for the trainings on this machine. Other machines of a cluster read the data when a
    training begins there.

    Raises:
        InputError: data is damaged; the message gives the number of problems and the first problem.
        RunError: a download failed, or a file disappeared.
    """
    return [sentence for task in _tasks(experiments) for sentence in task.verify()]


def _tasks(experiments: Iterable[Experiment]) -> list[Task]:
    return list({id(task): task for task in map(task_of, experiments)}.values())
