"""Finds parts that do not fit together, before any data is read and before any training."""

from __future__ import annotations

import json

import torch

from tskd_tune.errors import InputError, TskdTuneError, reason
from tskd_tune.experiment.assembly import assemble, assemble_teacher, task_of, teacher_network
from tskd_tune.experiment.footprint import batch_of, refuse_absurd
from tskd_tune.experiment.networks import AUTO
from tskd_tune.experiment.schema import Experiment
from tskd_tune.tasks.base import Task, TaskFacts
from tskd_tune.tasks.stand_ins import stand_in_batch, stand_in_targets
from tskd_tune.teaching import method_needs
from tskd_tune.training.streams import generator
from tskd_tune.training.trainer import Trainer

# In training, batch norm needs more than one value per channel; one image of one pixel has one value per channel.
FEWEST_SAMPLES = 2


# Options of the optimizer and factors of losses: every valid value fits every part.
OF_NO_PART = ("lr", "momentum", "weight_decay", "gamma", "milestones", "milestone_convention", "lambda")


def parts_of(experiment: Experiment) -> str:
    """Return a key for `verify`: experiments that differ only in seed, preset, rates and factors have the same key."""
    plain = {key: value for key, value in experiment.plain().items() if key not in ("seed", "preset")}
    return json.dumps(_without_factors(plain), sort_keys=True)


def _without_factors(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_factors(inner) for key, inner in value.items() if key not in OF_NO_PART}
    return value


def verify(experiment: Experiment) -> None:
    """Build every part without data or weights, and try a step if a batch has only one image.

    Raises:
        InputError: the task's files are missing, a part does not fit another part or the memory, a batch is too small,
            or nothing would be measured.
    """
    task = task_of(experiment)
    facts = task.facts()
    if experiment.evaluation.test == "never" and not facts.samples[1]:
        raise InputError(
            "evaluation.test: is 'never' and there is no validation set, so nothing would be measured; set"
            " task.validation to a number of training images, or evaluation.test to last"
        )
    refuse_absurd(experiment, task)
    teacher = teacher_network(experiment, facts) if experiment.needs_teacher else None
    targets = stand_in_targets(facts)
    trainer = assemble(experiment, task, teacher, targets)
    for observer in trainer.observers:
        observer.check(trainer)
    _refuse_small_batches(experiment, task, trainer, f"distiller '{experiment.distiller.name}'")
    recipe = experiment.teacher if teacher is not None else None
    if recipe is not None and (recipe.weights == AUTO or recipe.fine_tune is not None):
        method = recipe.training.method
        if method_needs(method) or batch_of(task) < FEWEST_SAMPLES:
            trainer = assemble_teacher(experiment, task, targets)
            _refuse_small_batches(experiment, task, trainer, f"teacher's method '{method.name}'")


def _refuse_small_batches(experiment: Experiment, task: Task, trainer: Trainer, method: str) -> None:
    """Refuse batches that are too small for a component or raise an error in a step."""
    size = batch_of(task)
    images = f"a batch has {size} image{'' if size == 1 else 's'}"
    least = trainer.distiller.smallest_batch
    if size < least:
        raise InputError(
            f"task.batch_size: {images}, but the {method} compares at least {least} images of a batch; raise"
            " task.batch_size, or choose another method"
        )
    if size >= FEWEST_SAMPLES:
        return
    try:
        _step(experiment, trainer, task.facts(), size)
    except TskdTuneError:
        raise
    except Exception as error:  # such as batch norm of a single value
        raise InputError(
            f"task.batch_size: {images}, and a step of training fails on it ({reason(error)}); raise task.batch_size"
        ) from error


def _step(experiment: Experiment, trainer: Trainer, facts: TaskFacts, size: int) -> None:
    """Train one step on random images; the trainer is not used afterwards."""
    with torch.random.fork_rng():
        trainer.student.train()
        trainer.distiller.train()
        trainer.distiller.begin_epoch(0, generator(experiment.seed, "distiller", 0))
        trainer.engine.update(stand_in_batch(facts, size, trainer.compute.device), trainer.kind(epoch=0, step=0))
