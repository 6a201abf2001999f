"""What the suites measure: one training of the package, and the same training in the reference loop."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.reference import Habits, Images, Loop
from benchmarks.reference_networks import ConvLSTM, network
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble, task_of, teacher_network
from tskd_tune.tasks.image_source import ImageParts
from tskd_tune.tasks.resident import images_of
from tskd_tune.training.trainer import Trainer

CLASSES, SIZE, SEED, LR, LAMBDA = 100, 32, 1, 0.01, 1.0
NOISE = 0.05
KD = {"name": "kd", "temperature": 4.0, "weight": 0.9, "task_weight": 0.1}
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Variant:
    """Options under ``training`` that a figure is measured with.

    Attributes:
        name: how rows name the variant.
        precision: the number format of the networks' activations.
        channels_last: whether images have their channels last in memory.
        options: further options under ``training``.
    """

    name: str
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def layout(self) -> str:
        """How rows name the memory format."""
        return "channels_last" if self.channels_last else "NCHW"

    def training(self, device: torch.device) -> dict[str, object]:
        """Return the options under ``training``."""
        threads = {"threads": 1} if device.type == "cpu" else {}
        own = {"precision": self.precision, "channels_last": self.channels_last, **self.options}
        return {"device": device.type, "lr": LR, "milestones": [], **threads, **own}


@dataclass(frozen=True)
class Workload:
    """A training of synthetic images of 32 x 32 in 100 classes, whose epochs review first.

    Attributes:
        student: the student's network.
        teacher: the teacher's network, untrained.
        batch_size: images per step.
        general: general steps of an epoch.
        reviews: review steps of an epoch, the first of which is not timed, because it also measures gradients.
        distils: whether Hinton's KD is added to the cross-entropy.
        k: the number of snapshots.
        hidden: channels of the extractors' states.
        sequence: what the extractors take as input.
        adam: whether Adam trains the extractors; otherwise the student's optimizer does.
        tested: test images that are evaluated at the end of an epoch.
    """

    student: str = "resnet20"
    teacher: str = "resnet56"
    batch_size: int = 128
    general: int = 15
    reviews: int = 0
    distils: bool = False
    k: int = 3
    hidden: int = 8
    sequence: Literal["increment", "feature_map"] = "increment"
    adam: bool = False
    tested: int = 0

    @property
    def steps(self) -> int:
        """The steps of an epoch."""
        return self.general + self.reviews

    @property
    def epoch(self) -> int:
        """The epoch that is trained again and again: the first that reviews."""
        return self.k

    @property
    def length(self) -> int:
        """The length T of the extractors' sequence."""
        return self.k if self.sequence == "increment" else self.k + 1

    def trainer(self, variant: Variant, device: torch.device, seed: int = SEED) -> Trainer:
        """Build the package's training; its memory holds k snapshots that differ."""
        experiment = self.experiment(variant, device, seed)
        task = task_of(experiment)
        teacher = teacher_network(experiment, task.facts())
        trainer = assemble(experiment, task, teacher, task.training(device).targets)
        if trainer.review is not None:
            for number in range(self.k):
                trainer.review.memory.memorize(disturbed(trainer.student, number))
        return trainer

    def experiment(self, variant: Variant, device: torch.device, seed: int = SEED) -> Experiment:
        """Return the options of the package's training."""
        return Experiment.read(self._document(variant, device, seed))

    def loop(self, trainer: Trainer, device: torch.device, *, teacher_always: bool = True) -> Loop:
        """Build the reference loop with the present weights of a training."""
        student = self._like(self.student, trainer.student.state_dict(), device)
        assert trainer.teacher is not None
        teacher = self._like(self.teacher, _unwrapped(trainer.teacher.state_dict()), device)
        snapshots: list[nn.Module] = []
        extractors = nn.ModuleList()
        if trainer.review is not None:
            held: Sequence[State] = trainer.review.memory.snapshot_state()["snapshots"]
            snapshots = [self._like(self.student, state, device) for state in held]
            extractors.extend(ConvLSTM(self.hidden) for _ in range(3))
            state = trainer.review.loss.state_dict()
            extractors.load_state_dict({name.removeprefix("extractors."): value for name, value in state.items()})
        habits = Habits(self.sequence if self.reviews else None, self.distils, teacher_always, self.adam)
        return Loop(student, teacher, snapshots, extractors.to(device), habits, lr=LR, lambda_=LAMBDA, device=device)

    def images(self) -> Images:
        """Return the training images for the reference loop."""
        parts = self.parts()
        pixels = parts.training.images.permute(0, 2, 3, 1).contiguous().numpy()
        constants = parts.normalization
        return Images(pixels, parts.training.targets.tolist(), constants.mean, constants.std)

    def parts(self) -> ImageParts:
        """Return the images as the package holds them."""
        cpu = torch.device("cpu")
        return images_of(task_of(self.experiment(Variant(""), cpu)).source).read()

    def _document(self, variant: Variant, device: torch.device, seed: int) -> dict[str, object]:
        sizes = {"train": self.steps * self.batch_size, "classes": CLASSES, "size": SIZE, "test": max(self.tested, 1)}
        task = {"name": "synthetic", "batch_size": self.batch_size, "padding": 4, "flip": True, **sizes}
        return {
            "task": task,
            "teacher": self.teacher,
            "student": self.student,
            "distiller": KD if self.distils else "none",
            "review": self._review() if self.reviews else None,
            "training": {"epochs": 240, **variant.training(device)},
            "evaluation": {"test": "every_epoch" if self.tested else "never"},
            "seed": seed,
        }

    def _review(self) -> dict[str, object]:
        training = {"optimizer": "own" if self.adam else "shared"}
        return {
            "k": self.k,
            "delta": 1,
            "lambda": LAMBDA,
            "sequence": self.sequence,
            "extractor": {"name": "conv_lstm", "hidden": self.hidden, "training": training},
            "plan": {"cycle": "sliding", "review_fraction": self.reviews / self.steps},
        }

    def _like(self, name: str, state: State, device: torch.device) -> nn.Module:
        built = network(name, CLASSES)
        built.load_state_dict({key: value.contiguous() for key, value in state.items()})
        return built.to(device)


def _unwrapped(state: State) -> dict[str, Tensor]:
    """Return the state of the network within a frozen one."""
    return {name.removeprefix("network."): value for name, value in state.items()}


def disturbed(student: nn.Module, number: int) -> nn.Module:
    """Return a copy of a student with noise on its weights, so that the increments between snapshots are not zero."""
    other = copy.deepcopy(student)
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for parameter in other.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
            parameter.mul_(1 + NOISE * noise)
    return other


@contextmanager
def reproducible() -> Iterator[None]:
    """Compute as exactly as a GPU can, so that differences come from the order of additions alone."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before
