"""Several teachers of a sweep: ``teacher: {seeds: [0, 1, 2]}`` trains the arms of a grid under each of them.

``seeds`` is a key of the sweep, not of an experiment. It stands beside the teacher's name, so it is taken out of an
experiment before the experiment is validated. Each point of a grid that needs a teacher becomes one point per teacher,
with the label of its arm: they differ in ``teacher.training.seed``, and in the value ``teacher.seed`` of the point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import TypeAdapter, ValidationError

from tskd_tune.documents import merge
from tskd_tune.errors import InputError, shown
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.networks import AUTO
from tskd_tune.plain import Document
from tskd_tune.records.entries.teacher_names import SEED, under
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.seeds import Seeds

KEY = "seeds"
MEANING = (
    "seeds with which the teacher is trained, such as [0, 1, 2]; every arm that needs a teacher is trained under each"
    " of these teachers, with each of the sweep's seeds; in a grid only"
)
_SEEDS: TypeAdapter[list[int]] = TypeAdapter(Seeds)


def seeds_schema() -> Document:
    """Return the JSON Schema of the key."""
    return _SEEDS.json_schema()


def seeds_of(experiment: Mapping[str, object]) -> list[int]:
    """Return the seeds of the teachers that an experiment as plain data declares; empty for one teacher.

    Raises:
        InputError: they are no list of two or more different seeds, or ``teacher.training.seed`` is given too.
    """
    teacher = experiment.get("teacher")
    if not isinstance(teacher, Mapping) or KEY not in teacher:
        return []
    try:
        seeds = _SEEDS.validate_python(teacher[KEY])
    except ValidationError as error:
        raise InputError(f"teacher.seeds: must be a list such as [0, 1, 2], got {shown(teacher[KEY])}") from error
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise InputError(
            f"teacher.seeds: must be two or more different numbers, got {shown(teacher[KEY])}; for one teacher set"
            " teacher.training.seed"
        )
    training = teacher.get("training")
    if isinstance(training, Mapping) and "seed" in training:
        raise InputError("teacher.seeds: give teacher.seeds or teacher.training.seed, not both")
    return seeds


def without_seeds(experiment: Mapping[str, object]) -> dict[str, object]:
    """Return an experiment as plain data without the key."""
    teacher = experiment.get("teacher")
    if not isinstance(teacher, Mapping) or KEY not in teacher:
        return dict(experiment)
    return {**experiment, "teacher": {key: value for key, value in teacher.items() if key != KEY}}


def crossed(points: Sequence[Point], read: Callable[[Point], Experiment]) -> list[Point]:
    """Return the points that are trained with every seed: each arm, or each arm under each of its teachers.

    The points of one teacher follow one another, so that the first teacher has all of its arms first.

    Args:
        points: the arms of a grid.
        read: makes the whole experiment of a point.

    Raises:
        InputError: ``teacher.seeds`` is wrong, or a point is not a valid experiment.
    """
    found: list[tuple[int, Point]] = []
    for point in points:
        seeds = seeds_of(point.experiment)
        if not seeds or not read(point).needs_teacher:
            found.append((0, point))
            continue
        found += [(place, _under(point, seed)) for place, seed in enumerate(seeds)]
    return [point for _, point in sorted(found, key=lambda item: item[0])]


def _under(point: Point, seed: int) -> Point:
    document = merge(without_seeds(point.experiment), {"teacher": {"training": {"seed": seed}}})
    return Point({**point.values, SEED: seed}, document, point.label)


def teachers_of(points: Sequence[Point]) -> list[int]:
    """Return the seeds of the teachers of points; empty where the sweep does not declare several."""
    found = (point.values.get(SEED) for point in points)
    return list(dict.fromkeys(seed for seed in found if isinstance(seed, int)))


def name_of(point: Point) -> str:
    """Return the label of a point, with its teacher where there are several."""
    return f"{point.label}{under(point.values)}"


def under_text(points: Sequence[Point]) -> str:
    """Say how many teachers points have: ``, 2 teachers (seeds 0, 1)``; empty without ``teacher.seeds``."""
    seeds = teachers_of(points)
    return f", {len(seeds)} teachers (seeds {', '.join(map(str, seeds))})" if seeds else ""


def problems(points: Sequence[Point], read: Callable[[Point], Experiment], *, judged: str) -> list[str]:
    """Return the mistakes of ``teacher.seeds``: a wrong value, given weights, a search, or arms with other teachers.

    Args:
        points: the points of a grid, or the corners of a search space.
        read: makes the whole experiment of a point.
        judged: the searcher or the scheduler that compares trials while the sweep runs, in words; empty for none.
    """
    try:
        declared = {point.label: tuple(seeds_of(point.experiment)) for point in points}
    except InputError as error:
        return [str(error)]
    if not any(declared.values()):
        return []
    if judged:
        return [
            f"teacher.seeds: {judged} compares trials while the sweep runs, and would choose by the teacher; set"
            " teacher.training.seed here, and train the winners under several teachers in a grid"
        ]
    taught = {point.label: read(point) for point in points}
    taught = {label: experiment for label, experiment in taught.items() if experiment.needs_teacher}
    if (given := _given(taught, declared)) is not None:
        return [given]
    lists = {declared[label] for label in taught}
    if len(lists) < 2:
        return []
    said = [f"'{label}' has {list(declared[label]) or 'none'}" for label in taught]
    return [
        f"teacher.seeds: arms are compared teacher by teacher, so all arms with a teacher need the same seeds, but"
        f" {'; '.join(said[:4])}; give each of these arms the same teacher.seeds"
    ]


def _given(taught: Mapping[str, Experiment], declared: Mapping[str, Sequence[int]]) -> str | None:
    """Say which arm declares seeds, but trains no teacher from its seed; None if there is no such arm."""
    for label, experiment in taught.items():
        teacher = experiment.teacher
        if declared[label] and teacher is not None and teacher.weights != AUTO:
            return (
                f"teacher.seeds: '{label}' has a teacher with weights: {teacher.weights}, and only a teacher that is"
                " trained from the beginning (weights: auto) depends on its seed; leave teacher.seeds or the weights"
                " out"
            )
    return None
