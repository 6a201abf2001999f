"""What a report says of teachers: those that are worse than their students, and arms that have only one.

A teacher that is worse than its student helps the student little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tskd_tune.metrics import Metric, Part, measured
from tskd_tune.plain import Json
from tskd_tune.records.entries.row import Row, TeacherRecord
from tskd_tune.records.entries.teacher_names import Identity, identity_of, told_apart
from tskd_tune.reports.findings.records import ArmFindings, Warned, part

# The keys of ``student`` and ``teacher`` in an experiment that are not options of the network.
OTHERS = ("weights", "training", "fine_tune", "replay", "resolution")
WORSE = (
    "a teacher that is worse than its student teaches little: train the teacher longer (teacher.training.epochs), or"
    " give better weights (teacher.weights)"
)
ALIKE = (
    "teacher and student are one architecture (self-distillation), where that happens: what the student gains is not"
    " the knowledge of a larger network"
)


def worse_teachers(arms: Sequence[ArmFindings], metric: Metric) -> list[Warned]:
    """Return a warning for each teacher whose value on the test set is worse than the mean of an arm's students.

    Where the run never reads the test set, the values of the validation set are compared. A teacher is compared with
    the arms that it taught, and with the arms of the same task and student without teacher.

    Args:
        arms: the arms.
        metric: the task's headline.
    """
    taught: dict[Identity, tuple[TeacherRecord, list[int]]] = {}
    for place, arm in enumerate(arms):
        for key, teacher in {identity_of(row.teacher): row.teacher for row in arm.rows if row.teacher}.items():
            taught.setdefault(key, (teacher, []))[1].append(place)
    names = told_apart(teacher for teacher, _ in taught.values())
    found = [_of_teacher(names[key], *of, arms, metric) for key, of in taught.items()]
    return [*filter(None, found), *filter(None, (_of_online(arm, metric) for arm in arms))]


def taught_by(rows: Sequence[Row], names: Mapping[Identity, str]) -> str:
    """Name the teachers of an arm's rows, by the names of `told_apart`; empty for an arm without a teacher."""
    return ", ".join(dict.fromkeys(names[identity_of(row.teacher)] for row in rows if row.teacher is not None))


def lone_teachers(arms: Sequence[ArmFindings]) -> list[TeacherRecord]:
    """Return the teachers of the arms whose runs all have one teacher; what is found holds for this teacher alone.

    A teacher that learns beside its student has no key and differs from run to run, so it is left out.
    """
    found: dict[Identity, TeacherRecord] = {}
    for arm in arms:
        own = {identity_of(row.teacher): row.teacher for row in arm.rows if row.teacher and row.teacher.key}
        found |= own if len(own) == 1 else {}
    return [*found.values()]


def share_names(teachers: Sequence[TeacherRecord]) -> bool:
    """Tell whether two different teachers have the name of one network."""
    return any(name != one[0] for one, name in told_apart(teachers).items())


def _of_teacher(
    called: str, teacher: TeacherRecord, places: Sequence[int], arms: Sequence[ArmFindings], metric: Metric
) -> Warned | None:
    part: Part = "test" if measured("test", metric) in teacher.metrics else "validation"
    name = measured(part, metric)
    own = teacher.metrics.get(name)
    if own is None:
        return None
    settings = [arms[place].setting for place in places]
    alone = [
        place for place, arm in enumerate(arms) if arm.setting in settings and not any(row.teacher for row in arm.rows)
    ]
    means = {arms[place].arm: arms[place].metric(name).mean for place in sorted([*places, *alone])}
    better = {arm: mean for arm, mean in means.items() if mean is not None and metric.better(mean, own)}
    if not better:
        return None
    alike = all(
        _network(arms[place].rows[0], "teacher") == _network(arms[place].rows[0], "student") for place in places
    )
    best = next(arm for arm, mean in better.items() if mean == metric.best(better.values()))
    sentence = (
        f"teacher {called}: its {part} {metric.title} of {metric.text(own)} is {_worse(metric)} the mean of its"
        f" student, which reaches {metric.text(better[best])} in '{best}'; {ALIKE if alike else WORSE}"
    )
    return Warned(sentence, tuple(better))


def _of_online(arm: ArmFindings, metric: Metric) -> Warned | None:
    """Warn of a teacher that was trained together with its student, and ended worse than the student."""
    taught = arm.metric(measured("test", metric, teacher=True)).mean
    student = arm.metric(measured("test", metric)).mean
    if taught is None or student is None or not metric.better(student, taught):
        return None
    sentence = (
        f"the teacher that learned beside its student ended at a mean test {metric.title} of {metric.text(taught)},"
        f" {_worse(metric)} the student's {metric.text(student)}: a teacher that is worse than its student teaches"
        " little"
    )
    return Warned(sentence, (arm.arm,))


def _worse(metric: Metric) -> str:
    return "below" if metric.mode == "max" else "above"


def _network(row: Row, role: str) -> Mapping[str, Json]:
    """Return a network's name and options, without the other keys (`OTHERS`)."""
    return {key: value for key, value in part(row.experiment, role).items() if key not in OTHERS}
