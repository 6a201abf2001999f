"""How networks are trained: the options under ``training`` and ``teacher.training``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from tskd_tune.registry import NO_IDENTITY, Component, Options
from tskd_tune.teaching import TEACHER_METHODS
from tskd_tune.training.compute import Compute, DeviceName, Kernels, Precision
from tskd_tune.training.engines import Graphs
from tskd_tune.training.milestones import scaled_milestones
from tskd_tune.training.optim import Recipe

MOST_EPOCHS, MOST_THREADS = 100_000, 256


class Descent(Options):
    """Stochastic gradient descent; the learning rate drops at milestones."""

    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] = Field(240, description="epochs of training")
    lr: PositiveFloat = Field(0.1, description="the first learning rate")
    milestones: list[NonNegativeInt] | None = Field(
        None,
        description="epochs, from 0, at which the learning rate drops; null: the paper's 150, 180, 210 of 240, scaled",
    )
    milestone_convention: Literal["at", "after"] = Field(
        "at", description="a milestone is the first epoch at the lower rate, or the last at the higher"
    )
    gamma: Annotated[float, Field(gt=0, le=1000)] = Field(
        0.1, description="factor of the learning rate at each milestone"
    )
    momentum: NonNegativeFloat = Field(0.9, description="momentum of the gradient descent; 0: none")
    nesterov: bool = Field(False, description="use Nesterov's momentum")
    weight_decay: NonNegativeFloat = Field(
        5e-4, description="share of every weight that is added to its gradient (L2 penalty)"
    )

    @model_validator(mode="before")
    @classmethod
    def _scale_milestones(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("milestones") is None:
            epochs = value.get("epochs", cls.model_fields["epochs"].default)
            if isinstance(epochs, int) and epochs > 0:
                return {**value, "milestones": scaled_milestones(epochs)}
        return value

    @model_validator(mode="after")
    def _check_nesterov(self) -> Descent:
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "nesterov: true needs a momentum above 0, got momentum 0; set nesterov: false, or momentum"
            )
        return self

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
        return Recipe(
            lr=self.lr,
            milestones=self.milestones or [],
            gamma=self.gamma,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            convention=self.milestone_convention,
        )


class Checkpointing(Options):
    """How often a training writes a checkpoint, from which an interrupted run goes on."""

    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        30.0,
        description="seconds between the checkpoints of a training, which are written at the ends of epochs while it"
        " goes on; 0: after every epoch. One is also written at the end",
    )


class Training(Descent):
    """How the student is trained, and where."""

    device: Annotated[DeviceName, NO_IDENTITY] = Field(
        "auto", description="where the training computes; auto: on the GPU where there is one"
    )
    precision: Precision = Field(
        "float32", description="number format of the networks' activations; bfloat16 is faster and changes results"
    )
    channels_last: bool = Field(
        False,
        description="keep images with their channels last in memory, which is faster on a GPU and rounds differently",
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
        description="algorithms of cuDNN on a GPU; deterministic: those that give the same bits each time; fastest:"
        " those that are fastest on this GPU, which round differently from run to run; no effect on a CPU",
    )

    compile: Literal["auto", "never"] = Field(
        "auto",
        description="torch.compile for the student; auto: on a GPU with kernels: fastest; it takes about half a minute"
        " once, and rounds differently",
    )

    def compute(self) -> Compute:
        """Return the device and the settings of computation, without applying them."""
        compute = Compute.choose(self.device, self.precision, self.channels_last, self.threads, self.kernels)
        return replace(compute, compiles=self.compiles(compute.device))

    def compiles(self, device: torch.device) -> bool:
        """Tell whether the student is compiled on a device."""
        return self.compile == "auto" and self.kernels == "fastest" and device.type == "cuda"


class TeacherTraining(Descent):
    """How a teacher with ``weights: auto`` is trained: recipe, method and seed."""

    method: Annotated[Component, TEACHER_METHODS.slot()] = Field(
        default_factory=TEACHER_METHODS.default("plain"),
        description="losses that are added to the task loss while the teacher is trained",
    )
    seed: NonNegativeInt = Field(
        0, description="seed of the teacher's training; all seeds of a sweep share the teacher"
    )
