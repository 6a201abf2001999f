"""A teacher that is worse than its student has little to teach: every report warns of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tskd_tune.records.row import Row, TeacherRecord

Arm = Mapping[str, Any]
METRIC, ONLINE = "test_top1", "test_teacher_top1"


def worse_teachers(arms: Sequence[Arm], points: Sequence[Sequence[Row]]) -> list[dict[str, Any]]:
    """Return a warning, a sentence with the arms that it concerns, for each teacher that a mean of its students passes.

    A teacher is compared with the arms that it taught, and with those of the same task and student that had none.

    Args:
        arms: the arms of a summary.
        points: the rows of each.
    """
    taught: dict[tuple[Any, ...], tuple[TeacherRecord, list[int]]] = {}
    for place, rows in enumerate(points):
        for teacher in {_identity(row.teacher): row.teacher for row in rows if row.teacher}.values():
            taught.setdefault(_identity(teacher), (teacher, []))[1].append(place)
    found = [_of_teacher(teacher, places, arms, points) for teacher, places in taught.values()]
    return [*filter(None, found), *filter(None, map(_of_online, arms))]


def _identity(teacher: TeacherRecord | None) -> tuple[Any, ...]:
    return () if teacher is None else (teacher.name, teacher.source, teacher.key)


def _of_teacher(
    teacher: TeacherRecord, places: Sequence[int], arms: Sequence[Arm], points: Sequence[Sequence[Row]]
) -> dict[str, Any] | None:
    accuracy = teacher.metrics.get(METRIC)
    if accuracy is None:
        return None
    settings = [arms[place]["setting"] for place in places]
    alone = [
        place
        for place, rows in enumerate(points)
        if arms[place]["setting"] in settings and not any(row.teacher for row in rows)
    ]
    means = {arms[place]["arm"]: _mean(arms[place], METRIC) for place in sorted([*places, *alone])}
    better = {arm: mean for arm, mean in means.items() if mean is not None and mean > accuracy}
    if not better:
        return None
    alike = all(_network(points[place][0], "teacher") == _network(points[place][0], "student") for place in places)
    best = max(better, key=lambda arm: better[arm])
    sentence = (
        f"teacher {teacher.name}: its test top-1 of {accuracy:.2f} % is below the mean of its student, which"
        f" reaches {better[best]:.2f} % in '{best}'; {ALIKE if alike else WORSE}"
    )
    return {"sentence": sentence, "arms": list(better)}


WORSE = (
    "a teacher that is worse than its student teaches little: train the teacher longer (teacher.training.epochs), or"
    " give better weights (teacher.weights)"
)
ALIKE = (
    "teacher and student are one architecture (self-distillation), where that happens: what the student gains is not"
    " the knowledge of a larger network"
)


def _of_online(arm: Arm) -> dict[str, Any] | None:
    """Warn of a teacher that learned beside its student, and ended below the student."""
    taught, student = _mean(arm, ONLINE), _mean(arm, METRIC)
    if taught is None or student is None or student <= taught:
        return None
    sentence = (
        f"the teacher that learned beside its student ended at a mean test top-1 of {taught:.2f} %, below the student's"
        f" {student:.2f} %: a teacher that is worse than its student teaches little"
    )
    return {"sentence": sentence, "arms": [arm["arm"]]}


def _mean(arm: Arm, metric: str) -> float | None:
    found: float | None = arm["metrics"].get(metric, {}).get("mean")
    return found


def _network(row: Row, role: str) -> dict[str, Any]:
    """Return a network's name and options, without what is not of the network."""
    others = ("weights", "training", "replay", "resolution")
    return {key: value for key, value in (row.experiment.get(role) or {}).items() if key not in others}
