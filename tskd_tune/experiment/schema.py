"""The schema of one run: every option of the YAML, validated as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tskd_tune import documents
from tskd_tune.distillers import DISTILLERS, Need, needs_of
from tskd_tune.errors import InputError, sentences, shown
from tskd_tune.experiment.presets import Preset, deviations, filling, remaining
from tskd_tune.experiment.published import with_published
from tskd_tune.method.extractors import EXTRACTORS
from tskd_tune.method.memory import Memory
from tskd_tune.method.plan import ReviewPlan
from tskd_tune.method.sequences import KnowledgeSequence, Target
from tskd_tune.method.taps import Taps
from tskd_tune.method.transforms import TRANSFORMS
from tskd_tune.networks import NETWORKS
from tskd_tune.networks.pretrained import is_published
from tskd_tune.paths import PathOption
from tskd_tune.registry import Component, Derived, Group, Options
from tskd_tune.tasks import TASKS
from tskd_tune.teaching import TEACHER_METHODS, method_needs
from tskd_tune.training.compute import Compute, DeviceName, Precision
from tskd_tune.training.optim import Recipe, scaled_milestones
from tskd_tune.training.reviewing import ExtractorTraining, Strength
from tskd_tune.training.trainer import Schedule, TestReading, Trainer

MOST_EPOCHS, MOST_THREADS = 100_000, 256
# What the weights of a teacher may be, beside the path of a checkpoint.
AUTO, UNTRAINED = "auto", "untrained"
WEIGHTS = PathOption(lambda weights: weights not in (AUTO, UNTRAINED) and not is_published(weights))
PLAN, TARGET, TAPS, MEMORY = Group(ReviewPlan), Group(Target), Group(Taps), Group(Memory)
EXTRACTOR_TRAINING = Group(ExtractorTraining)
if TYPE_CHECKING:

    class SequenceOptions(Derived):
        """What the derived model below has, for the type checker."""

        sequence_order: str = "forward"

else:  # the options of the knowledge sequence stand directly under `review`
    SequenceOptions = Group(KnowledgeSequence).model


class Descent(Options):
    """Stochastic gradient descent with drops of the learning rate."""

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
    nesterov: bool = Field(False, description="Nesterov's momentum in place of the plain one")
    weight_decay: NonNegativeFloat = Field(
        5e-4, description="share of every weight that is added to its gradient (L2 penalty)"
    )

    @model_validator(mode="before")
    @classmethod
    def _scale_milestones(cls, value: Any) -> Any:
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


class Training(Descent):
    """How the student is trained, and where."""

    device: DeviceName = Field("auto", description="where the training computes; auto: on the GPU where there is one")
    precision: Precision = Field(
        "float32", description="number format of the networks' activations; bfloat16 is faster and changes results"
    )
    channels_last: bool = Field(
        False,
        description="keep images with their channels last in memory, which is faster on a GPU and rounds differently",
    )
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | None = Field(
        None, description="CPU threads; null: in a sweep resources.cpu, otherwise what torch takes"
    )

    def compute(self) -> Compute:
        """Choose the device and set the threads."""
        return Compute.choose(self.device, self.precision, self.channels_last, self.threads)


class TeacherTraining(Descent):
    """How the teacher is trained where its weights are ``auto``: its own recipe, method and seed."""

    method: Annotated[Component, TEACHER_METHODS.slot()] = Field(
        default_factory=TEACHER_METHODS.default("plain"),
        description="losses that the teacher has beside its task's while it is trained",
    )
    seed: NonNegativeInt = Field(
        0, description="seed of the teacher's training; all seeds of a sweep share the teacher"
    )


class Teacher(Component):
    """A network with its weights: trained once and kept (``auto``), read from a checkpoint, or not trained at all."""

    weights: Annotated[str, WEIGHTS] = Field(
        AUTO,
        description="auto: the teacher is trained once and kept; the path of a checkpoint; published weights by name"
        " (torchvision:IMAGENET1K_V1, timm:default); untrained: it begins to learn with its student",
    )
    training: TeacherTraining = Field(
        default_factory=TeacherTraining, description="how the teacher is trained where its weights are auto"
    )
    batch_norm: Literal["eval", "train"] = Field(
        "eval",
        description="batch norms of a frozen teacher: eval: their running statistics; train: those of the batch, as"
        " in the authors' code",
    )
    replay: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="number of snapshots of the teacher's own training that teach one after the other while the student"
        " trains; null: the trained teacher teaches all the time",
    )


class Student(Component):
    """A network to be trained."""

    resolution: PositiveInt | None = Field(
        None,
        description="height and width, in pixels, to which images are averaged down for the student only; null: none",
    )


class Extractor(Component):
    """An extractor of the knowledge sequence, and how it is trained."""

    share: bool = Field(False, description="true: one extractor for all taps; false: one per tap")
    training: Annotated[Derived, EXTRACTOR_TRAINING] = Field(
        default_factory=EXTRACTOR_TRAINING.model, description="who optimizes the extractors, and when"
    )


class AutoLambda(Options):
    """Lambda found at the first review: its gradient becomes this share of that of all other losses together."""

    auto: PositiveFloat = Field(
        description="norm of the review's gradient as a share of that of all other losses, such as 0.1"
    )


def _read_lambda(value: Any) -> Any:
    if isinstance(value, dict):
        return AutoLambda.model_validate(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (isinstance(value, AutoLambda) or (is_number and value >= 0)):
        raise ValueError(f"must be a number from 0 up or {{auto: share}}, got {value!r}")
    return value


def _read_taps(value: Any) -> Any:
    return {"layers": value} if isinstance(value, (str, list)) else value


TAPS_READER = BeforeValidator(_read_taps, json_schema_input_type=Annotated[Derived, TAPS] | str | list[str])


class Review(SequenceOptions):
    """The memorize-review mode of TSKD; the defaults are the paper's."""

    k: PositiveInt = Field(3, description="number of snapshots that a review compares with today's student")
    delta: PositiveInt = Field(5, description="epochs from one snapshot to the next")
    lambda_: Annotated[NonNegativeFloat | AutoLambda, BeforeValidator(_read_lambda)] = Field(
        1.0,
        description="weight of the review loss (equation 9); {auto: 0.1} sets it once, so that the review's gradient"
        " is 10 % of the gradient of the other losses",
    )
    lambda_warmup: NonNegativeInt = Field(
        0, description="epochs over which lambda rises to its full value by equal steps; 0: none"
    )
    plan: Annotated[Derived, PLAN] = Field(
        default_factory=PLAN.model, description="which epochs memorize and which review"
    )
    transform: Annotated[Component, TRANSFORMS.slot()] = Field(
        default_factory=TRANSFORMS.default("attention"),
        description="what makes a map of the features of a stage (equation 10)",
    )
    extractor: Annotated[Extractor, EXTRACTORS.slot(Extractor)] = Field(
        default_factory=EXTRACTORS.default("conv_lstm", Extractor),
        description="what predicts the target from the knowledge sequence (equation 6)",
    )
    target: Annotated[Derived, TARGET] = Field(
        default_factory=TARGET.model, description="what the prediction is compared with (equation 7)"
    )
    memory: Annotated[Derived, MEMORY] = Field(
        default_factory=MEMORY.model, description="how the last k snapshots of the student are kept"
    )
    taps: Annotated[Derived, TAPS, TAPS_READER] = Field(
        default_factory=TAPS.model,
        description="where student and teacher are compared: a mapping, or its layers alone (stages, or a list)",
    )
    reduction: Literal["mean", "sum"] = Field(
        "mean", description="squared errors: their mean over pixels and batch, or sum over pixels and mean over batch"
    )
    tap_reduction: Literal["sum", "mean"] = Field("sum", description="the losses of the taps are added or averaged")

    @model_validator(mode="after")
    def _check_extractor_training(self) -> Review:
        settings = self.extractor.training.options()
        default = EXTRACTOR_TRAINING.model().options()
        idle = [name for name in ("lr", "weight_decay") if settings[name] != default[name]]
        if settings["optimizer"] == "shared" and idle:
            raise ValueError(
                f"extractor.training.{idle[0]}: does not apply to the shared optimizer; set optimizer: own, or leave it"
                " out"
            )
        return self

    def knowledge_sequence(self) -> KnowledgeSequence:
        """Return the sequence that the extractors read.

        Raises:
            InputError: an option does not apply to this kind of sequence.
        """
        return KnowledgeSequence(**self.options())

    def strength(self) -> Strength:
        """Return the weight of the review, given or to be found."""
        if isinstance(self.lambda_, AutoLambda):
            return Strength(None, self.lambda_.auto, self.lambda_warmup)
        return Strength(self.lambda_, None, self.lambda_warmup)

    def review_plan(self, epochs: int) -> ReviewPlan:
        """Plan the epochs of a training.

        Raises:
            InputError: no review falls within the training.
        """
        return ReviewPlan(epochs, self.k, self.delta, **self.plan.options())


class Evaluation(Options):
    """When the test part is read."""

    test: TestReading = Field(
        "last",
        description="when the test set is read. last: in the last epoch; every_epoch: in every epoch, which also"
        " records the best test epoch, marked; never: not at all, for a search whose winners are confirmed later",
    )


class Experiment(Options):
    """One run: a student on a task, perhaps under a teacher, perhaps reviewing, from one seed."""

    preset: Preset = Field("paper", description="reading of the paper that fills what the file does not set")
    task: Annotated[Component, TASKS.slot()] = Field(description="the dataset, with its loss and its metrics")
    teacher: Annotated[Teacher, NETWORKS.slot(Teacher)] | None = Field(
        None, description="the network that teaches, with its weights; null: none"
    )
    student: Annotated[Student, NETWORKS.slot(Student)] = Field(description="the network that is trained")
    distiller: Annotated[Component, DISTILLERS.slot()] = Field(
        default_factory=DISTILLERS.default("none"), description="the distillation losses beside the task's own"
    )
    review: Review | None = Field(
        default_factory=lambda: Review(k=3), description="TSKD's reviews; null: none, the baseline"
    )
    training: Training = Field(default_factory=Training, description="how the student is trained, and where")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="when the test set is read")
    seed: NonNegativeInt = Field(
        1, description="seed of initialization, data order and augmentation; in a sweep give seeds instead"
    )

    @field_validator("review", mode="before")
    @classmethod
    def _read_review(cls, value: Any) -> Any:
        if value is None or isinstance(value, dict | Review):
            return value
        raise ValueError(
            f"must be a mapping, such as {{k: 3, delta: 5}} ({{}} for the defaults), or null for no review, got"
            f" {shown(value)}"
        )

    @field_validator("teacher", "distiller", mode="before")
    @classmethod
    def _read_absent(cls, value: Any, info: ValidationInfo) -> Any:
        """Show how nothing is written, which differs between the two."""
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
    def _fill_from_preset(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        spelled = _spell_out(value)
        names = (str(_named(spelled.get(key))) for key in ("student", "teacher"))
        filled = filling(str(value.get("preset", "paper")), *names)
        for key in ("task", "teacher"):  # a preset fills what is there, it does not bring a task or a teacher
            if value.get(key) is None:
                filled.pop(key, None)
        return with_published(documents.merge(filled, spelled))

    @model_validator(mode="after")
    def _check_whole(self) -> Experiment:
        if self.teacher is None and self.needs_teacher:
            who = "review" if self.review is not None else f"distiller '{self.distiller.name}'"
            raise ValueError(f"teacher: is missing, but the {who} asks for one; name a network, as teacher: resnet56")
        if self.teacher is not None and self.needs_teacher:
            self._check_teacher(self.teacher)
        if self.review is not None:
            self.review.review_plan(self.training.epochs)
            self.review.knowledge_sequence()
        return self

    def _check_teacher(self, teacher: Teacher) -> None:
        """Refuse options of a teacher that do not go together, or not with what is made of it."""
        if teacher.weights == UNTRAINED and not self.trains_teacher:
            raise ValueError(
                "teacher.weights: an untrained teacher has to learn beside its student, but the distiller"
                f" '{self.distiller.name}' leaves it frozen, knowing nothing; set weights: auto, or distiller: ekd"
            )
        method = teacher.training.method
        if teacher.weights != AUTO and method_needs(method):
            raise ValueError(
                f"teacher.training.method: '{method.name}' says how a teacher is trained beforehand, but with weights:"
                f" {teacher.weights} none is; set weights: auto, or leave the method out"
            )
        if teacher.replay is not None:
            self._check_replay(teacher, teacher.replay)

    def _check_replay(self, teacher: Teacher, count: int) -> None:
        if self.trains_teacher:
            raise ValueError(
                f"teacher.replay: a frozen teacher's past is replayed, but the distiller '{self.distiller.name}' trains"
                " its teacher; leave replay out, or choose another distiller"
            )
        lengths = {"training.epochs": self.training.epochs}
        if teacher.weights == AUTO:
            lengths["teacher.training.epochs"] = teacher.training.epochs
        short = [f"{name} is {epochs}" for name, epochs in lengths.items() if epochs < count]
        if short:
            raise ValueError(f"teacher.replay: {count} snapshots need as many epochs, but {short[0]}; lower replay")

    @classmethod
    def read(cls, document: dict[str, Any]) -> Experiment:
        """Validate plain data.

        Raises:
            InputError: with a sentence for every mistake.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InputError("\n".join(sentences(error))) from error

    @property
    def needs_teacher(self) -> bool:
        """Whether anything in this run asks for a teacher."""
        return self.review is not None or bool(needs_of(self.distiller))

    @property
    def trains_teacher(self) -> bool:
        """Whether the teacher is trained beside the student."""
        return Need.TRAINABLE_TEACHER in needs_of(self.distiller)

    def plan(self) -> ReviewPlan | None:
        """Return which epoch memorizes and which reviews, if any does."""
        return None if self.review is None else self.review.review_plan(self.training.epochs)

    def schedule(self) -> Schedule:
        """Return the training's length, seed and reading of the test part."""
        return Schedule(self.training.epochs, self.seed, self.evaluation.test)

    def deviations(self) -> list[str]:
        """List where this experiment differs from the preset that it names, one line an option.

        Under ``official`` the list ends with what still differs from the authors' code.
        """
        teacher = self.teacher or self.student
        same = {"task": _least(self.task), "student": _least(self.student), "teacher": _least(teacher)}
        reference = Experiment.model_validate({**same, "preset": self.preset}).plain()
        given = self.plain()
        if given["teacher"] is None:
            del given["teacher"], reference["teacher"]
        stays = [] if self.review is None else remaining(self.preset, teacher.name)
        return [*deviations(given, reference), *stays]

    def warnings(self) -> list[str]:
        """Return what a user should know of the plan before training."""
        plan = self.plan()
        return [] if plan is None else plan.warnings(self.training.milestones or [])

    def build(self) -> Trainer:
        """Build the trainer, with the teacher from the user's cache, trained first if need be.

        Raises:
            InputError: data, weights or options do not fit together.
        """
        from tskd_tune.experiment.assembly import build
        from tskd_tune.experiment.teacher import obtain
        from tskd_tune.training.teachers import TeacherCache

        return build(self, obtain(self, TeacherCache(), progress=lambda record: None))

    def teacher_experiment(self) -> Experiment:
        """Return the training that makes this experiment's teacher, but for the losses of its method."""
        assert self.teacher is not None
        network = {"name": self.teacher.name, **_own(self.teacher)}
        recipe = self.teacher.training.plain()
        seed = recipe.pop("seed")
        del recipe["method"]
        machine = {key: getattr(self.training, key) for key in ("device", "precision", "channels_last", "threads")}
        document = {"task": self.task.plain(), "student": network, "review": None, "seed": seed}
        return Experiment.model_validate({**document, "training": {**recipe, **machine}})


def _named(value: Any) -> Any:
    """Return the name of what may be a component."""
    return value.get("name") if isinstance(value, dict) else getattr(value, "name", value)


def _own(component: Component) -> dict[str, Any]:
    """Return a component's own options by their names in YAML."""
    return {name.removesuffix("_"): value for name, value in component.options().items()}


def _least(component: Component) -> dict[str, Any]:
    """Return a component with nothing but what has no default."""
    fields = type(component).model_fields.items()
    return {"name": component.name} | {name: getattr(component, name) for name, field in fields if field.is_required()}


def _spell_out(value: dict[str, Any]) -> dict[str, Any]:
    """Write ``taps: stages`` and ``distiller: kd`` as mappings, so that a preset merges into them."""
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
            review["taps"] = _read_taps(review["taps"])
        spelled["review"] = review
    return spelled
