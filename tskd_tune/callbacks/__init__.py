"""Callbacks hear the events of a sweep, each in a thread of its own: they can neither slow nor break the sweep."""

from tskd_tune.callbacks import command, mlflow, tensorboard, wandb_artifacts  # noqa: F401 (each import registers its callback)
from tskd_tune.callbacks.base import CALLBACKS, Callback, Heard, refuse_unready
from tskd_tune.callbacks.hearing import heard

__all__ = ["CALLBACKS", "Callback", "Heard", "heard", "refuse_unready"]
