"""One run, from the options to the trainer; this package imports neither ray, optuna nor wandb."""

from tskd_tune.experiment.descent import TeacherTraining, Training
from tskd_tune.experiment.review import Review
from tskd_tune.experiment.schema import Experiment

__all__ = ["Experiment", "Review", "TeacherTraining", "Training"]
