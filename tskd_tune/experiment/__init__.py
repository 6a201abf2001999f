"""One run, from its options to its trainer; it needs neither ray, optuna nor wandb."""

from tskd_tune.experiment.schema import Experiment, Review, TeacherTraining, Training

__all__ = ["Experiment", "Review", "TeacherTraining", "Training"]
