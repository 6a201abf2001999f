"""The schema of one run: all options of the YAML file, validated together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, ValidationError, ValidationInfo, field_validator, model_validator

from tskd_tune import documents
from tskd_tune.distillers import DISTILLERS, Need, needs_of
from tskd_tune.errors import InputError, sentences, shown
from tskd_tune.experiment.descent import Training, descending
from tskd_tune.experiment.networks import AUTO, UNTRAINED, Student, Teacher
from tskd_tune.experiment.presets import Preset, deviations, filling, remaining
from tskd_tune.experiment.published import with_published
from tskd_tune.experiment.review import Review, read_taps
from tskd_tune.experiment.shared_tasks import shared_task
from tskd_tune.method.plan import ReviewPlan
from tskd_tune.metrics import Part
from tskd_tune.networks import NETWORKS
from tskd_tune.registry import DISTINCT, NO_IDENTITY, Component, Options
from tskd_tune.tasks import TASKS
from tskd_tune.teaching import method_needs
from tskd_tune.training import series  # noqa: F401 (registers its observer)
from tskd_tune.training.observers import OBSERVERS
from tskd_tune.training.schedule import Schedule, TestReading, ValidationReading

Examples = Literal["pictures", "predictions", "none"]


class Evaluation(Options):
    """When the validation and the test set are evaluated, and what is kept of single samples."""

    validation: ValidationReading = Field(
        "every_epoch",
        description="when the validation set is evaluated. every_epoch; a number n: in every n-th epoch and in the last"
        " one; last: in the last one. It changes no weight, but the best epoch is one of those that were evaluated",
    )
    test: TestReading = Field(
        "last",
        description="when the test set is read. last: in the last epoch; every_epoch: in every epoch, which also"
        " records the best test epoch, marked; never: not at all, also not for the teacher, for a search whose winners"
        " are confirmed later",
    )
    examples: Annotated[Examples, NO_IDENTITY] = Field(
        "pictures",
        description="what the run keeps for the report of some samples of the test set (of the validation set where no"
        " test set is read), the same for all arms: at most 1,000 samples of a classification, 12 of a detection."
        " pictures: what student and teacher answer, and small copies of the images, which a report shows; predictions:"
        " the answers without images; none: neither",
    )


# What a teacher's training takes over from the student's.
OF_MACHINE = ("device", "precision", "channels_last", "accumulate", "threads", "graphs")


class Experiment(Options):
    """One run: a student, a task and a seed, with an optional teacher and an optional review."""

    preset: Annotated[Preset, NO_IDENTITY] = Field(
        "paper", description="the preset, which sets the options that the file leaves unset"
    )
    task: Annotated[Component, TASKS.slot()] = Field(
        description="the dataset, with its loss and its metrics", examples=["digits"]
    )
    teacher: Annotated[Teacher, NETWORKS.slot(Teacher)] | None = Field(
        None, description="the network that teaches, with its weights; null: none"
    )
    student: Annotated[Student, NETWORKS.slot(Student)] = Field(
        description="the network that is trained", examples=["resnet8"]
    )
    distiller: Annotated[Component, DISTILLERS.slot()] = Field(
        default_factory=DISTILLERS.default("none"), description="the distillation losses beside the task's own"
    )
    review: Review | None = Field(
        default_factory=lambda: Review(k=3), description="TSKD's reviews; null: none, the baseline"
    )
    training: Training = Field(default_factory=Training, description="how the student is trained, and where")
    evaluation: Evaluation = Field(
        default_factory=Evaluation, description="when the validation and the test set are evaluated"
    )
    seed: NonNegativeInt = Field(
        1, description="seed of initialization, data order and augmentation; in a sweep give seeds instead"
    )
    observe: Annotated[list[Annotated[Component, OBSERVERS.slot()]], DISTINCT, NO_IDENTITY] = Field(
        default_factory=list,
        description="observers, which watch the student's training and add numbers to its history; they change no"
        " other number",
    )

    @field_validator("review", mode="before")
    @classmethod
    def _read_review(cls, value: object) -> object:
        if value is None or isinstance(value, dict | Review):
            return value
        raise ValueError(
            f"must be a mapping, such as {{k: 3, delta: 5}} ({{}} for the defaults), or null for no review, got"
            f" {shown(value)}"
        )

    @field_validator("observe")
    @classmethod
    def _refuse_one_observer_twice(cls, value: list[Component]) -> list[Component]:
        """Refuse an observer with two sets of options; of another package it may name its numbers by its options."""
        names = [one.name for one in value if ":" not in one.name]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"lists '{twice}' twice, whose numbers have the same names; keep one of them")
        return value

    @field_validator("teacher", "distiller", mode="before")
    @classmethod
    def _read_absent(cls, value: object, info: ValidationInfo) -> object:
        """Refuse wrong ways to write "no teacher" (null) and "no distiller" (none)."""
        name = str(_named(value)).casefold()
        if info.field_name == "teacher" and value is not None and name in ("none", "null", "false"):
            raise ValueError(
                f"must be a network or null, got {shown(_named(value))}; write teacher: null for no teacher"
            )
        if info.field_name == "distiller" and (name == "null" or value is None or value is False):
            raise ValueError(f"must be a distiller, got {shown(_named(value))}; write distiller: none for no distiller")
        return value

    @classmethod
    def _hint(cls, key: str, known: set[str]) -> str:
        if key == "experiment":
            return "; the file is a single experiment, whose keys have no 'experiment' before them"
        return super()._hint(key, known)

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        spelled = _spell_out(value)
        names = (str(_named(spelled.get(key))) for key in ("student", "teacher"))
        filled = filling(str(value.get("preset", "paper")), *names)
        for key in ("task", "teacher"):  # a preset adds options, but no task and no teacher
            if value.get(key) is None:
                filled.pop(key, None)
        if "training" in filled:
            filled["training"] = descending(filled["training"], spelled.get("training"))
        return with_published(documents.merge(filled, spelled))

    @model_validator(mode="after")
    def _check_whole(self) -> Experiment:
        if self.teacher is None and self.needs_teacher:
            who = "review" if self.review is not None else f"distiller '{self.distiller.name}'"
            raise ValueError(f"teacher: is missing, but the {who} asks for one; name a network, as teacher: resnet56")
        if self.teacher is not None and self.needs_teacher:
            self._check_teacher(self.teacher)
        if self.review is not None:
            if not self.review.counts_steps:  # otherwise the data tell how many steps an epoch has
                self.review.review_plan(self.training.epochs)
            self.review.knowledge_sequence()
        return self

    def _check_teacher(self, teacher: Teacher) -> None:
        """Refuse options of a teacher that do not fit each other or the use of the teacher."""
        if teacher.weights == UNTRAINED and not self.trains_teacher:
            raise ValueError(
                "teacher.weights: an untrained teacher must be trained together with its student, but the distiller"
                f" '{self.distiller.name}' does not train the teacher; set weights: auto, or distiller: ekd"
            )
        if teacher.fine_tune is not None and (teacher.weights in (AUTO, UNTRAINED) or self.trains_teacher):
            raise ValueError(
                f"teacher.fine_tune: trains given weights before the student, but weights is '{teacher.weights}' or the"
                f" distiller '{self.distiller.name}' trains the teacher; give the path or the name of weights, or leave"
                " fine_tune out"
            )
        method = teacher.training.method
        if teacher.weights != AUTO and method_needs(method):
            raise ValueError(
                f"teacher.training.method: '{method.name}' applies only where a teacher is trained, but weights:"
                f" {teacher.weights} trains none; set weights: auto, or leave teacher.training.method out"
            )
        if teacher.replay is not None:
            self._check_replay(teacher, teacher.replay)

    def _check_replay(self, teacher: Teacher, count: int) -> None:
        if self.trains_teacher:
            raise ValueError(
                f"teacher.replay: needs a frozen teacher, but the distiller '{self.distiller.name}' trains the"
                " teacher; leave replay out, or choose another distiller"
            )
        lengths = {"training.epochs": self.training.epochs}
        if teacher.weights == AUTO:
            lengths["teacher.training.epochs"] = teacher.training.epochs
        if teacher.fine_tune is not None:
            lengths["teacher.fine_tune.epochs"] = teacher.fine_tune.epochs
        short = [f"{name} is {epochs}" for name, epochs in lengths.items() if epochs < count]
        if short:
            raise ValueError(
                f"teacher.replay: {count} snapshots need as many epochs, but {short[0]}; lower teacher.replay"
            )

    @classmethod
    def read(cls, document: Mapping[str, object]) -> Experiment:
        """Validate plain data.

        Raises:
            InputError: with one sentence per mistake.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InputError("\n".join(sentences(error))) from error

    @property
    def needs_teacher(self) -> bool:
        """Whether the distiller or the review needs a teacher."""
        return self.review is not None or bool(needs_of(self.distiller))

    @property
    def trains_teacher(self) -> bool:
        """Whether the teacher is trained together with the student."""
        return Need.TRAINABLE_TEACHER in needs_of(self.distiller)

    def plan(self) -> ReviewPlan | None:
        """Return which epochs memorize and which review; None without a review.

        Raises:
            InputError: nodes are so many steps, and the data, which tell the steps of an epoch, are missing; or the
                training has no review.
        """
        return None if self.review is None else self.plan_of(self.review)

    def plan_of(self, review: Review) -> ReviewPlan:
        """Return the plan of a training with the task and the length of this experiment; raises as `plan`."""
        steps = shared_task(self.task).steps() if review.counts_steps else 0
        return review.review_plan(self.training.epochs, steps)

    @property
    def measures_teacher_on(self) -> Part:
        """The set on which the teacher is measured: the test set, unless this experiment never reads the test set."""
        return "validation" if self.evaluation.test == "never" else "test"

    def schedule(self) -> Schedule:
        """Return the training's length, its seed, and when the validation and the test set are evaluated."""
        return Schedule(self.training.epochs, self.seed, self.evaluation.test, self.evaluation.validation)

    def deviations(self) -> list[str]:
        """List the differences from the experiment's preset, one line per option.

        Under ``official`` the list ends with the remaining differences from the authors' code.
        """
        teacher = self.teacher or self.student
        same = {"task": _least(self.task), "student": _least(self.student), "teacher": _least(teacher)}
        alike = {"preset": self.preset, "observe": self.observe}
        reference = Experiment.model_validate({**same, **alike}).plain()
        given = self.plain()
        if given["teacher"] is None:
            del given["teacher"], reference["teacher"]
        stays = [] if self.review is None else remaining(self.preset, teacher.name)
        return [*deviations(given, reference), *stays]

    def warnings(self) -> list[str]:
        """Return warnings about the plan and about options without effect, before training."""
        plan = self.plan()
        planned = [] if plan is None else plan.warnings(self.training.milestones or [])
        return [*planned, *([] if self.teacher is None or not self.needs_teacher else self.teacher.idle_options())]

    def teacher_experiment(self) -> Experiment:
        """Return the experiment that trains or fine-tunes the teacher, without the losses of the teacher's method."""
        assert self.teacher is not None
        network = {"name": self.teacher.name, **_own(self.teacher)}
        recipe = self.teacher.learning.plain()
        seed = recipe.pop("seed")
        recipe.pop("method", None)
        machine = {key: getattr(self.training, key) for key in OF_MACHINE}
        document = {"task": self.task.plain(), "student": network, "review": None, "seed": seed}
        if self.evaluation.test == "never":  # also of a teacher: its training would tell how hard the test set is
            document["evaluation"] = {"test": "never"}
        return Experiment.model_validate({**document, "training": {**recipe, **machine}})


def _named(value: object) -> object:
    """Return the name of a component; any other value is returned unchanged."""
    return value.get("name") if isinstance(value, dict) else getattr(value, "name", value)


def _own(component: Component) -> dict[str, object]:
    """Return a component's own options by their names in YAML."""
    return {name.removesuffix("_"): value for name, value in component.options().items()}


def _least(component: Component) -> dict[str, object]:
    """Return a component with only the options that have no default."""
    fields = type(component).model_fields.items()
    return {"name": component.name} | {name: getattr(component, name) for name, field in fields if field.is_required()}


def _spell_out(value: Mapping[str, object]) -> dict[str, object]:
    """Write short forms such as ``distiller: kd`` as mappings, so that a preset can be merged into them."""
    spelled = dict(value)
    for key in ("task", "teacher", "student", "distiller"):
        if isinstance(spelled.get(key), str):
            spelled[key] = {"name": spelled[key]}
    review = spelled.get("review")
    if isinstance(review, dict):
        review = dict(review)
        for key in ("transform", "extractor"):
            if isinstance(review.get(key), str):
                review[key] = {"name": review[key]}
        if "taps" in review:
            review["taps"] = read_taps(review["taps"])
        spelled["review"] = review
    return spelled
