"""Control arms, added by one key: the review must beat them before a gain can be attributed to the review.

A control is a copy of one arm with one change. The arm is a named arm, or the first arm that reviews and is no control
itself. The claim needs each comparison in turn: with ``ce_kl``, with ``at_review`` (attention transfer in the
review epochs, without a prediction), and with ``shuffled`` and ``zeros``. A larger distance between snapshots leaves
fewer reviews: ``matched_budget`` changes the distance with the number of reviews fixed, and ``max_reviews`` changes the
number of reviews alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tskd_tune.documents import merge
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.registry import DISTINCT, Options
from tskd_tune.sweeps.space.points import Point

Name = Literal[
    "ce",
    "ce_kl",
    "at_review",
    "at_every_epoch",
    "detach",
    "zeros",
    "shuffled",
    "reversed",
    "random_memory",
    "matched_budget",
    "max_reviews",
]
# Multiples of ``k`` and ``delta``: the paper's (3, 5) gives (3, 10) and (3, 15), which match (6, 5) and (9, 5).
MULTIPLES = (2, 3)


class Controls(Options):
    """Which controls are added, and which arm they control."""

    of: str | None = Field(
        None,
        description="label of the arm that the controls change; null: the first arm that reviews and is not a control",
    )
    arms: Annotated[list[Name], Field(min_length=1), DISTINCT] | None = Field(
        None, description="names of the control arms; null: all that fit"
    )


def _read(value: object) -> object:
    if isinstance(value, bool):
        return {} if value else None
    return {"arms": value} if isinstance(value, list) else value


READER = BeforeValidator(_read, json_schema_input_type=bool | Annotated[list[Name], DISTINCT] | Controls | None)
ControlsOption = Annotated[Controls | None, READER]


@dataclass(frozen=True)
class Derived:
    """The control arms of a sweep.

    Attributes:
        arms: label -> whole experiment.
        left_out: a sentence for each control that was left out.
        compared: label of a control -> label of the arm that is compared with the control.
    """

    arms: dict[str, dict[str, object]]
    left_out: list[str]
    compared: dict[str, str]


@dataclass(frozen=True)
class _Arm:
    """A control arm: its label, the whole experiment as plain data, and the identity of the experiment.

    ``beside`` is the label of the arm that the control is compared with.
    """

    label: str
    document: dict[str, object]
    identity: str
    beside: str


@dataclass(frozen=True)
class _Misfit:
    """Why a control is impossible."""

    reason: str


@dataclass(frozen=True)
class _Variant:
    """A change that makes a control arm.

    Attributes:
        suffix: the end of the control's label.
        change: plain data that is merged into the controlled experiment.
        beside: the suffix of the variant that the control is compared with; None for the controlled arm.
    """

    suffix: str
    change: dict[str, object]
    beside: str | None = None


_Variants = Iterator[_Variant | _Misfit]


def _fixed(change: dict[str, object]) -> Callable[[Experiment], _Variants]:
    return lambda base: iter([_Variant("", change)])


def _matched_budgets(base: Experiment) -> _Variants:
    """Pair a plan of a larger ``delta`` with a plan of a larger ``k`` if both have the same number of reviews."""
    assert base.review is not None
    k, delta = base.review.k, base.review.delta
    for multiple in MULTIPLES:
        pair = (k, multiple * delta), (multiple * k, delta)
        found = [_review_count(base, *budget) for budget in pair]
        if found[0] == found[1] > 0:
            far, many = (f"_k{other_k}_delta{other_delta}" for other_k, other_delta in pair)
            yield _Variant(many, {"review": {"k": multiple * k}})
            yield _Variant(far, {"review": {"delta": multiple * delta}}, beside=many)
        else:
            counts = " and ".join(f"k {budget[0]}, delta {budget[1]}" for budget in pair)
            yield _Misfit(f"{counts} review {found[0]} and {found[1]} times in {base.training.epochs} epochs")


def _fewer_reviews(base: Experiment) -> _Variants:
    """Yield variants with half as many reviews, with a quarter, and so on down to one review."""
    assert base.review is not None
    count = most = _review_count(base, base.review.k, base.review.delta)
    while count > 1:
        count //= 2
        yield _Variant(f"_{count}", {"review": {"plan": {"max_reviews": count}}})
    if most == 1:
        yield _Misfit("there is only one review")


def _review_count(base: Experiment, k: int, delta: int) -> int:
    assert base.review is not None
    with suppress(InputError):
        return len(base.plan_of(base.review.model_copy(update={"k": k, "delta": delta})).review_nodes)
    return 0


CONTROLS: Mapping[Name, Callable[[Experiment], _Variants]] = {
    "ce": _fixed({"review": None, "distiller": {"name": "none"}}),
    "ce_kl": _fixed(
        {"review": None, "distiller": {"name": "kd", "temperature": 4.0, "weight": 1.0, "task_weight": 1.0}}
    ),
    "at_review": _fixed({"review": {"target": {"prediction_scale": 0.0}}}),
    "at_every_epoch": _fixed({"review": None, "distiller": {"name": "at"}}),
    "detach": _fixed({"review": {"target": {"gradient": "detach"}}}),
    "zeros": _fixed({"review": {"sequence_order": "zeros"}}),
    "shuffled": _fixed({"review": {"sequence_order": "shuffled"}}),
    "reversed": _fixed({"review": {"sequence_order": "reversed"}}),
    "random_memory": _fixed({"review": {"sequence_order": "random_memory"}}),
    "matched_budget": _matched_budgets,
    "max_reviews": _fewer_reviews,
}
"""What each control changes in the experiment that it controls."""


def derive(controls: Controls, points: Sequence[Point], read: Callable[[Point], Experiment]) -> Derived:
    """Derive control arms from the points of a sweep.

    A control is left out if an arm already trains the same experiment. A control that does not fit is left out too,
    unless it was asked for by name.

    Args:
        controls: the names of the controls, and the arm that they control.
        points: the sweep's own points.
        read: makes the whole experiment of a point.

    Raises:
        InputError: no arm reviews, the named arm does not review or does not exist, a control that was asked for by
            name does not fit, or another arm has the label of a control.
    """
    experiments = {point.label: found for point in points if (found := _readable(point, read)) is not None}
    base = _base(controls, points, experiments)
    if base is None:  # a point is invalid, and `tskd_tune.sweeps.declared.checking` reports it
        return Derived({}, [], {})
    trained = {identity(experiment): label for label, experiment in experiments.items()}
    arms: dict[str, dict[str, object]] = {}
    left_out: list[str] = []
    names: dict[str, str] = {}
    beside: dict[str, str] = {}
    for name in controls.arms or CONTROLS:
        fitting, misfits = _candidates(name, base, experiments[base.label], read)
        if controls.arms is not None and not fitting:
            raise InputError(f"{misfits[0]}; leave {name} out, or train longer")
        left_out += misfits
        for arm in fitting:
            twin = names[arm.label] = trained.setdefault(arm.identity, arm.label)
            if twin != arm.label:
                left_out.append(f"controls.{name}: is the arm '{twin}', which is not trained twice")
                continue
            if arm.label in experiments and identity(experiments[arm.label]) == arm.identity:
                left_out.append(f"controls.{name}: is in the sweep already, as the arm '{arm.label}'")
                continue
            if arm.label in experiments:
                raise InputError(f"controls.{name}: another arm is named '{arm.label}'; rename that arm")
            arms[arm.label] = arm.document
            beside[arm.label] = arm.beside
    return Derived(arms, left_out, {label: names.get(other, other) for label, other in beside.items()})


def _candidates(
    name: Name, base: Point, controlled: Experiment, read: Callable[[Point], Experiment]
) -> tuple[list[_Arm], list[str]]:
    """Return the arms of a control, and a sentence for each variant that does not fit."""
    arms: list[_Arm] = []
    misfits: list[str] = []
    for variant in CONTROLS[name](controlled):
        if isinstance(variant, _Misfit):
            misfits.append(f"controls.{name}: {variant.reason}")
            continue
        label, document = f"control_{name}{variant.suffix}", merge(base.experiment, variant.change)
        beside = base.label if variant.beside is None else f"control_{name}{variant.beside}"
        try:
            arms.append(_Arm(label, document, identity(read(Point({}, document, label))), beside))
        except InputError as error:
            misfits.append(f"controls.{name}: does not fit '{base.label}' ({str(error).splitlines()[0]})")
    return arms, misfits


def _base(controls: Controls, points: Sequence[Point], experiments: Mapping[str, Experiment]) -> Point | None:
    """Return the point that the controls change; None if an invalid point could be this point."""
    by_label = {point.label: point for point in points}
    if controls.of is None:
        reviewing = [label for label, experiment in experiments.items() if experiment.review is not None]
        if not reviewing and len(experiments) == len(points):
            raise InputError(
                "controls: no arm of the sweep reviews, so there is nothing to control; leave `controls` out"
            )
        whole = [label for label in reviewing if not _is_control(experiments[label])]
        return by_label[(whole or reviewing)[0]] if reviewing else None
    if controls.of not in by_label:
        raise InputError(f"controls.of: there is no arm '{controls.of}'{did_you_mean(controls.of, by_label)}")
    if controls.of not in experiments:
        return None
    if experiments[controls.of].review is None:
        raise InputError(f"controls.of: the arm '{controls.of}' has no review to control; name one that has")
    return by_label[controls.of]


def _is_control(experiment: Experiment) -> bool:
    """Return whether an arm is a control: its review has no prediction, a detached target or another sequence order."""
    review = experiment.plain()["review"]
    target = review["target"]
    left_out = target["prediction_scale"] == 0, target["gradient"] == "detach", review["sequence_order"] != "forward"
    return any(left_out)


def _readable(point: Point, read: Callable[[Point], Experiment]) -> Experiment | None:
    with suppress(InputError):
        return read(point)
    return None
