"""The options of the two networks: ``teacher`` and ``student``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from tskd_tune.experiment.descent import FineTuning, TeacherTraining
from tskd_tune.networks.pretrained import is_published
from tskd_tune.paths import PathOption
from tskd_tune.registry import Component

# Values of a teacher's weights, besides the path of a checkpoint.
AUTO, UNTRAINED = "auto", "untrained"
WEIGHTS = PathOption(lambda weights: weights not in (AUTO, UNTRAINED) and not is_published(weights))


class Teacher(Component):
    """A network with its weights: trained once and kept (``auto``), read from a checkpoint, or not trained at all."""

    weights: Annotated[str, WEIGHTS] = Field(
        AUTO,
        description="auto: the teacher is trained once and kept; the path of a checkpoint; published weights by name"
        " (torchvision:IMAGENET1K_V1, timm:default); untrained: the teacher is trained together with its student",
    )
    training: TeacherTraining = Field(
        default_factory=TeacherTraining, description="how the teacher is trained where its weights are auto"
    )
    fine_tune: FineTuning | None = Field(
        None,
        description="train given weights (a path, or published ones) on the task before the teacher teaches; its head"
        " is new where the weights are for other classes; null: they teach as they are",
    )
    batch_norm: Literal["eval", "train"] = Field(
        "eval",
        description="batch norms of a frozen teacher: eval: their running statistics; train: those of the batch, as"
        " in the authors' code",
    )
    replay: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="number of snapshots of the teacher's own training that are the teacher one after another; null:"
        " the trained teacher is the teacher in all epochs",
    )

    @property
    def learning(self) -> TeacherTraining | FineTuning:
        """How the teacher is trained, if it is trained before it teaches."""
        return self.training if self.fine_tune is None else self.fine_tune

    def idle_options(self) -> list[str]:
        """Return a sentence if options of ``training`` were given although no teacher is trained by them."""
        given, usual = self.training.plain(), TeacherTraining().plain()
        changed = [key for key, value in given.items() if value != usual[key]]
        if self.weights == AUTO or not changed:
            return []
        how = "they teach as they are; leave teacher.training out"
        if self.fine_tune is not None:
            how = "they are trained further by teacher.fine_tune; give the options there"
        elif self.weights == UNTRAINED:
            how = "the teacher is trained together with its student, by `training`; leave teacher.training out"
        return [
            f"teacher.training has no effect ({', '.join(changed)}), because teacher.weights is {self.weights}, and"
            f" {how}"
        ]


class Student(Component):
    """A network to be trained."""

    resolution: PositiveInt | None = Field(
        None,
        description="height and width, in pixels, to which images are averaged down for the student only; null: none",
    )
