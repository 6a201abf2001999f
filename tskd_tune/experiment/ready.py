"""Prepares an experiment for training: obtains the teacher, loads the data and builds the parts."""

from __future__ import annotations

from tskd_tune.experiment.assembly import build
from tskd_tune.experiment.schema import Experiment
from tskd_tune.experiment.teacher import obtain
from tskd_tune.training.group import Group
from tskd_tune.training.teachers import TeacherCache
from tskd_tune.training.trainer import Trainer


def build_trainer(experiment: Experiment, group: Group | None = None) -> Trainer:
    """Build the trainer of an experiment; the teacher is read from the user's cache, or trained first.

    Args:
        experiment: the options.
        group: the workers that share each batch; None: this process trains alone.

    Raises:
        InputError: data, weights or options do not fit together.
    """
    return build(experiment, obtain(experiment, TeacherCache(), progress=lambda record: None), group)
