"""Prepares an experiment for training: obtains the teacher, loads the data and builds the parts."""

from __future__ import annotations

from tskd_tune.experiment.assembly import build
from tskd_tune.experiment.schema import Experiment
from tskd_tune.experiment.teacher import obtain
from tskd_tune.training.teachers import TeacherCache
from tskd_tune.training.trainer import Trainer


def build_trainer(experiment: Experiment) -> Trainer:
    """Build the trainer of an experiment; the teacher is read from the user's cache, or trained first.

    Raises:
        InputError: data, weights or options do not fit together.
    """
    return build(experiment, obtain(experiment, TeacherCache(), progress=lambda record: None))
