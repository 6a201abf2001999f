"""How networks are trained: the options under ``training`` and ``teacher.training``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from tskd_tune.errors import InputError
from tskd_tune.registry import NO_IDENTITY, Component, Options, WasDefault
from tskd_tune.teaching import TEACHER_METHODS
from tskd_tune.training.compute import Compute, DeviceName, Kernels, Precision
from tskd_tune.training.engines import Graphs
from tskd_tune.training.milestones import scaled_milestones
from tskd_tune.training.optimizers import FIRST_RATES, OPTIMIZERS, refuse_unfit
from tskd_tune.training.rates import RATE_SCHEDULES, Drops
from tskd_tune.training.recipe import Recipe, Rising

MOST_EPOCHS, MOST_THREADS, MOST_PIECES = 100_000, 256, 65_536


class Warmup(Options):
    """A linear rise of the learning rate in the first epochs."""

    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | Annotated[float, Field(gt=0, le=MOST_EPOCHS)] = Field(
        description="number of epochs in which the rate rises; with by: step also a part of an epoch", examples=[5]
    )
    from_: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.01, description="the rate at the beginning, as a share of the first learning rate"
    )


class RateOptions(Component):
    """A schedule of the learning rate, with its warm-up."""

    warmup: Warmup | None = Field(
        None, description="a linear rise of the learning rate before the schedule begins; null: none"
    )
    by: Literal["epoch", "step"] = Field(
        "epoch",
        description="epoch: the rate is the same in all steps of an epoch; step: it changes from step to step, and the"
        " history has the rate of an epoch's first step",
    )


def _fitting(value: object) -> object:
    """Refuse optimizers of torch that no training can use, with the reason."""
    given = value.get("name") if isinstance(value, dict) else value
    if isinstance(given, str):
        try:
            refuse_unfit(given)
        except InputError as error:
            raise ValueError(str(error)) from error
    return value


OPTIMIZER_READER = BeforeValidator(_fitting)
# Option of SGD or of the steps -> the value with which it has no effect on other optimizers and schedules.
OF_SGD = {"momentum": 0.9, "nesterov": False}
OF_STEPS = {"milestones": None, "milestone_convention": "at", "gamma": 0.1}


class Descent(Options):
    """How weights descend: the optimizer, and the learning rate in each epoch."""

    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] = Field(240, description="epochs of training")
    optimizer: Annotated[Component, OPTIMIZERS.slot(), OPTIMIZER_READER] = Field(
        default_factory=OPTIMIZERS.default("sgd"), description="the optimizer, one of torch.optim's"
    )
    lr: PositiveFloat = Field(
        0.1, description="the first learning rate; where it is not set, other optimizers than sgd have torch's default"
    )
    schedule: Annotated[RateOptions, RATE_SCHEDULES.slot(RateOptions)] = Field(
        default_factory=RATE_SCHEDULES.default("steps", RateOptions), description="how the learning rate changes"
    )
    milestones: list[NonNegativeInt] | None = Field(
        None,
        description="epochs, from 0, at which the learning rate drops; null: the paper's 150, 180, 210 of 240, scaled;"
        " only with schedule: steps",
    )
    milestone_convention: Literal["at", "after"] = Field(
        "at", description="a milestone is the first epoch at the lower rate, or the last at the higher"
    )
    gamma: Annotated[float, Field(gt=0, le=1000)] = Field(
        0.1, description="factor of the learning rate at each milestone"
    )
    momentum: NonNegativeFloat = Field(0.9, description="momentum of optimizer: sgd; 0: none")
    nesterov: bool = Field(False, description="use Nesterov's momentum; only with optimizer: sgd")
    weight_decay: NonNegativeFloat = Field(
        5e-4,
        description="share of every weight that is added to its gradient (L2 penalty); adamw instead removes the share"
        " times the learning rate from the weight",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: object) -> object:
        """Set the milestones from the length of the training, and the first rate from the optimizer."""
        if not isinstance(value, dict):
            return value
        found = dict(value)
        epochs = value.get("epochs", cls.model_fields["epochs"].default)
        if value.get("milestones") is None and isinstance(epochs, int) and epochs > 0:
            found["milestones"] = scaled_milestones(epochs) if _name(value, "schedule", "steps") == "steps" else None
        first = FIRST_RATES.get(_name(value, "optimizer", "sgd"))
        return {"lr": first, **found} if first is not None else found

    @model_validator(mode="after")
    def _check_optimizer(self) -> Descent:
        if self.optimizer.name != "sgd":
            self._refuse_idle(OF_SGD, f"optimizer: sgd, but the optimizer is '{self.optimizer.name}'")
        elif self.nesterov and self.momentum == 0:
            raise ValueError(
                "nesterov: true needs a momentum above 0, got momentum 0; set nesterov: false, or momentum"
            )
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> Descent:
        name, warmup = self.schedule.name, self.schedule.warmup
        if name != "steps":
            self._refuse_idle(OF_STEPS, f"schedule: steps, but the schedule is '{name}'")
        if warmup is not None and warmup.epochs >= self.epochs:
            raise ValueError(
                f"schedule.warmup.epochs: {warmup.epochs} is not less than the {self.epochs} epochs of the training;"
                " lower warmup.epochs, or train longer"
            )
        if warmup is not None and warmup.epochs % 1 and self.schedule.by == "epoch":
            raise ValueError(
                f"schedule.warmup.epochs: {warmup.epochs} ends within an epoch, where the rate does not change; set"
                " schedule.by: step, or give whole epochs"
            )
        if self.schedule.by == "step" and warmup is None and name in ("steps", "constant"):
            raise ValueError(
                f"schedule.by: step changes nothing with '{name}' without a warm-up; leave it out, or set"
                " schedule.warmup"
            )
        return self

    def _refuse_idle(self, options: Mapping[str, object], where: str) -> None:
        for name, idle in options.items():
            if getattr(self, name) != idle:
                raise ValueError(f"{name}: applies only to {where}; leave {name} out")

    @model_validator(mode="after")
    def _check_milestones(self) -> Descent:
        drops = self.milestones or []
        if drops != sorted(set(drops)):
            raise ValueError(f"milestones: must rise, got {drops}")
        if drops and drops[-1] >= self.epochs:
            raise ValueError(
                f"milestones: {drops[-1]} is never reached in {self.epochs} epochs (0 to {self.epochs - 1});"
                " leave milestones out to scale them, or train longer"
            )
        return self

    def recipe(self) -> Recipe:
        """Return the optimizer's recipe."""
        drops = Drops(self.milestones or [], self.gamma, self.milestone_convention)
        warmup = self.schedule.warmup
        return Recipe(
            lr=self.lr,
            epochs=self.epochs,
            schedule=RATE_SCHEDULES.make(self.schedule, drops),
            warmup=None if warmup is None else Rising(warmup.epochs, warmup.from_),
            by_step=self.schedule.by == "step",
            made_by=self.optimizer,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )


def descending(filled: object, given: object) -> dict[str, object]:
    """Return a preset's options of a training, without those of SGD and of steps where other ones are given."""
    found = dict(filled) if isinstance(filled, Mapping) else {}
    if isinstance(given, Mapping):
        if _name(given, "optimizer", "sgd") != "sgd":
            found = {name: value for name, value in found.items() if name not in (*OF_SGD, "lr")}
        if _name(given, "schedule", "steps") != "steps":
            found = {name: value for name, value in found.items() if name not in OF_STEPS}
    return found


def _name(options: Mapping[str, object], key: str, default: str) -> str:
    """Return the name of a component in plain data."""
    value = options.get(key, default)
    return str(value.get("name") if isinstance(value, Mapping) else getattr(value, "name", value))


class Checkpointing(Options):
    """How often a training writes a checkpoint, from which an interrupted run goes on."""

    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        30.0,
        description="seconds between the checkpoints of a training, which are written after a step or an epoch while it"
        " goes on; 0: after every epoch. One is also written at the end",
    )


class Training(Descent):
    """How the student is trained, and where."""

    device: Annotated[DeviceName, NO_IDENTITY] = Field(
        "auto", description="where the training computes; auto: on the GPU where there is one"
    )
    precision: Precision = Field(
        "float32",
        description="number format of the networks' activations; bfloat16 is faster and changes results; on a GPU,"
        " convolutions of float32 round their inputs to TF32, as torch does by default",
    )
    channels_last: Annotated[bool, WasDefault(False)] = Field(
        True,
        description="keep images with their channels last in memory; true is faster, and rounds differently from false",
    )
    fold: bool = Field(
        True,
        description="in a review, compute teacher and snapshots with batch norms folded into the convolutions where the"
        " batch norms are in eval mode; true is faster, and rounds differently from false",
    )
    threads: Annotated[Annotated[int, Field(ge=1, le=MOST_THREADS)] | None, NO_IDENTITY] = Field(
        None, description="CPU threads; null: in a sweep resources.cpu, otherwise what torch takes"
    )
    checkpoint: Annotated[Checkpointing, NO_IDENTITY] = Field(
        default_factory=Checkpointing, description="how often checkpoints are written; a resume gives the same numbers"
    )

    graphs: Annotated[Graphs, NO_IDENTITY] = Field(
        "auto",
        description="capture steps in CUDA graphs, which changes no bit; auto: on a GPU, if every part of the training"
        " can be captured; always: refuse a training that cannot be; never",
    )
    kernels: Kernels = Field(
        "deterministic",
        description="algorithms of cuDNN and of attention on a GPU; deterministic: those that give the same bits each"
        " time; fastest: those that are fastest on this GPU, which round differently from run to run; no effect on a"
        " CPU",
    )

    batch_norm_groups: PositiveInt = Field(
        1,
        description="equal parts of a batch, from each of which the batch norms of the networks take statistics alone;"
        " 1: from the whole batch, whatever the number of GPUs, which then share their statistics; the number of GPUs:"
        " plain data parallelism, which is faster and changes results",
    )

    accumulate: Annotated[int, Field(ge=1, le=MOST_PIECES)] = Field(
        1,
        description="micro-batches in which a batch of task.batch_size samples is computed, one after the other, which"
        " needs less memory; their gradients are added up for one update. Batch norms, also those of a distiller, take"
        " statistics of each micro-batch; where batch norms are frozen, only rounding changes",
    )

    compile: Literal["auto", "never"] = Field(
        "auto",
        description="torch.compile for the student; auto: on a GPU with kernels: fastest, if no other worker shares the"
        " training, batch_norm_groups and accumulate are 1, and Triton and a C compiler are there; it takes about half"
        " a minute once, and rounds differently; a detector is never compiled",
    )

    def compute(self) -> Compute:
        """Return the device and the settings of computation, without applying them."""
        compute = Compute.choose(self.device, self.precision, self.channels_last, self.threads, self.kernels)
        return replace(
            compute,
            compiles=self.compiles(compute.device),
            norm_groups=self.batch_norm_groups,
            accumulate=self.accumulate,
        )

    def compiles(self, device: torch.device) -> bool:
        """Tell whether the student is compiled on a device."""
        fastest = self.compile == "auto" and self.kernels == "fastest" and device.type == "cuda"
        return fastest and self.batch_norm_groups == 1 and self.accumulate == 1


class FineTuning(Descent):
    """How a teacher with given weights is trained on the task before it teaches."""

    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] = Field(10, description="epochs of training")
    lr: PositiveFloat = Field(
        0.01, description="the first learning rate; where it is not set, other optimizers than sgd have torch's default"
    )
    seed: NonNegativeInt = Field(
        0, description="seed of the fine-tuning, and of a new head; all seeds of a sweep share the teacher"
    )


class TeacherTraining(Descent):
    """How a teacher with ``weights: auto`` is trained: recipe, method and seed."""

    method: Annotated[Component, TEACHER_METHODS.slot()] = Field(
        default_factory=TEACHER_METHODS.default("plain"),
        description="losses that are added to the task loss while the teacher is trained",
    )
    seed: NonNegativeInt = Field(
        0,
        description="seed of the teacher's training; all seeds of a sweep share the teacher, unless it gives"
        " teacher.seeds, a list of seeds in place of this one",
    )
