"""The options under ``review``: the memorize-review mode of TSKD."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from tskd_tune.method.extractors import EXTRACTORS
from tskd_tune.method.memory import Memory
from tskd_tune.method.plan import ReviewPlan
from tskd_tune.method.sequences import KnowledgeSequence, Target
from tskd_tune.method.taps import Taps
from tskd_tune.method.transforms import TRANSFORMS
from tskd_tune.registry import Component, Derived, Group, Options
from tskd_tune.training.reviewing import ExtractorTraining, Strength

PLAN, TARGET, TAPS, MEMORY = Group(ReviewPlan), Group(Target), Group(Taps), Group(Memory)
EXTRACTOR_TRAINING = Group(ExtractorTraining)
if TYPE_CHECKING:

    class SequenceOptions(Derived):
        """The options of the derived model below, for the type checker."""

        sequence_order: str = "forward"

else:  # the options of the knowledge sequence are keys directly under `review`
    SequenceOptions = Group(KnowledgeSequence).model


class Extractor(Component):
    """An extractor of the knowledge sequence, and how the extractor is trained."""

    share: bool = Field(False, description="true: one extractor for all taps; false: one per tap")
    training: Annotated[Derived, EXTRACTOR_TRAINING] = Field(
        default_factory=EXTRACTOR_TRAINING.model, description="who optimizes the extractors, and when"
    )


class AutoLambda(Options):
    """Lambda set at the first review so that the review's gradient is this share of the other losses' gradient."""

    auto: PositiveFloat = Field(
        description="norm of the review's gradient as a share of that of all other losses, such as 0.1", examples=[0.1]
    )


def _read_lambda(value: object) -> object:
    if isinstance(value, dict):
        return AutoLambda.model_validate(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < inf
    if not (isinstance(value, AutoLambda) or is_number):
        raise ValueError(f"must be a number from 0 up or {{auto: share}}, got {value!r}")
    return value


def read_taps(value: object) -> object:
    """Replace ``taps: stages`` or a list of layers by the equivalent mapping."""
    return {"layers": value} if isinstance(value, (str, list)) else value


TAPS_READER = BeforeValidator(read_taps, json_schema_input_type=Annotated[Derived, TAPS] | str | list[str])


class Review(SequenceOptions):
    """The memorize-review mode of TSKD; the defaults are the paper's."""

    k: PositiveInt = Field(3, description="number of snapshots that a review compares with today's student")
    delta: PositiveInt = Field(5, description="epochs, or nodes (plan.node), from one snapshot to the next")
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
        description="the transform of a stage's features to a map (equation 10)",
    )
    extractor: Annotated[Extractor, EXTRACTORS.slot(Extractor)] = Field(
        default_factory=EXTRACTORS.default("conv_lstm", Extractor),
        description="the network that predicts the target from the knowledge sequence (equation 6)",
    )
    target: Annotated[Derived, TARGET] = Field(
        default_factory=TARGET.model, description="the target, with which the prediction is compared (equation 7)"
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
        """Return the knowledge sequence that the extractors take as input.

        Raises:
            InputError: an option does not apply to this kind of sequence.
        """
        return KnowledgeSequence(**self.options())

    def strength(self) -> Strength:
        """Return the loss weight of the review: a number, or a gradient share from which the weight is found."""
        if isinstance(self.lambda_, AutoLambda):
            return Strength(None, self.lambda_.auto, self.lambda_warmup)
        return Strength(self.lambda_, None, self.lambda_warmup)

    @property
    def counts_steps(self) -> bool:
        """Whether nodes are so many steps, so that a plan needs the number of steps of an epoch."""
        return bool(self.plan.options()["node"] != "epoch")

    def review_plan(self, epochs: int, steps: int = 0) -> ReviewPlan:
        """Plan a training of so many epochs; ``steps``: the steps of an epoch, for nodes of so many steps.

        Raises:
            InputError: the training has no review.
        """
        return ReviewPlan(epochs, self.k, self.delta, steps, **self.plan.options())
