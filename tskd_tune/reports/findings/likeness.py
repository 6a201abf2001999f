"""Finds in what the two arms of a comparison differ besides what is compared: data, budget, recipe and teacher.

A comparison asks what a review or a distiller changes. So arms that differ in a review or a distiller should be alike
in everything else: a gain of an arm that also trains for more epochs may come from the epochs. Where review and
distiller are equal, the arms are there to compare something else, such as two lengths of a training. Then a difference
in one of the groups data, student, teacher and recipe is what is compared. Differences in several groups are named.

Controls that change the number of reviews (``max_reviews``, ``matched_budget``) change the review alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tskd_tune.plain import Json
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.teacher_names import identity_of, teacher_seed, told_apart
from tskd_tune.reports.findings.records import part

COMPARED = ("review", "distiller")
"""The keys of an experiment that comparisons are about."""

BESIDE = ("task", "student", "training")
ASIDE = frozenset({"training.checkpoint", "training.device", "training.graphs", "training.threads"})
"""Options of these groups that change no number."""

# Options of a teacher's section that its key does not tell: how the student uses the teacher.
USED = ("batch_norm", "replay")
TEACHER = ("teacher", "teacher.weights", *(f"teacher.{name}" for name in USED))
"""The keys of the differences between two teachers."""
WORDS = {
    "task.batch_size": "batch size",
    "task.name": "dataset",
    "task.train": "training images",
    "task.validation": "validation images",
    "training.lr": "learning rate",
    "student.name": "student",
    "student.resolution": "resolution",
}


@dataclass(frozen=True)
class Unlike:
    """One thing in which two arms differ.

    Attributes:
        path: the dotted key of the experiment, as ``compare.allow`` takes it.
        sentence: the difference in words: ``epochs 6 against 2``.
    """

    path: str
    sentence: str

    def is_allowed(self, allowed: Sequence[str]) -> bool:
        """Tell whether the path or a part before a dot is allowed."""
        return any(self.path == path or self.path.startswith(f"{path}.") for path in allowed)


def unlike(arm: Sequence[Row], baseline: Sequence[Row]) -> tuple[Unlike, ...]:
    """Return in what an arm differs from its baseline besides what is compared; empty where they are alike.

    Args:
        arm: the rows of the arm, with one experiment and different seeds.
        baseline: the rows of the baseline.
    """
    if not arm or not baseline:
        return ()
    ours, theirs = arm[0].experiment, baseline[0].experiment
    taught = arm[0].teacher is not None and baseline[0].teacher is not None
    found = [*_teachers(arm, baseline), *_options(ours, theirs, taught=taught)]
    if not any(item.path.startswith("task") for item in found):
        found += _data(arm, baseline)
    groups = {item.path.partition(".")[0] for item in found}
    is_method = any(list(_differences(ours.get(name), theirs.get(name), name)) for name in COMPARED)
    return tuple(found) if is_method or len(groups) > 1 else ()


def _options(ours: Mapping[str, Json], theirs: Mapping[str, Json], *, taught: bool) -> list[Unlike]:
    found = [item for name in BESIDE for item in _differences(ours.get(name), theirs.get(name), name)]
    if taught:
        use = [(f"teacher.{name}", part(ours, "teacher").get(name), part(theirs, "teacher").get(name)) for name in USED]
        found += [item for path, our, their in use for item in _differences(our, their, path)]
    return found


def _differences(ours: Json, theirs: Json, path: str) -> Iterator[Unlike]:
    """Yield the options that differ. An option that only one side has is one of another version, and is left out."""
    if path in ASIDE or ours == theirs:
        return
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping) and ours.get("name") == theirs.get("name"):
        for key in ours:
            if key in theirs:
                yield from _differences(ours[key], theirs[key], f"{path}.{key}")
        return
    where = f"{path}.name" if path in BESIDE else path
    yield Unlike(where, f"{_word(where)} {_value(ours)} against {_value(theirs)}")


def _teachers(arm: Sequence[Row], baseline: Sequence[Row]) -> list[Unlike]:
    """Compare the teachers seed by seed; an arm without a teacher has none that could differ.

    Under several teachers, the runs with one seed of the teacher and one seed of the student are compared.
    """
    ours, theirs = (
        {(str(teacher_seed(row)), row.seed): row.teacher for row in rows if row.teacher is not None}
        for rows in (arm, baseline)
    )
    names = told_apart([*ours.values(), *theirs.values()])
    pairs = [(ours[cell], theirs[cell]) for cell in sorted(ours.keys() & theirs.keys())]
    pairs = pairs or list(zip(ours.values(), theirs.values(), strict=False))[:1]
    other = [tuple(names[identity_of(each)] for each in pair) for pair in pairs if len({*map(identity_of, pair)}) > 1]
    return [Unlike("teacher.weights", f"teacher {one} against {two}") for one, two in other[:1]]


def _data(arm: Sequence[Row], baseline: Sequence[Row]) -> list[Unlike]:
    """Compare the data seed by seed: the same options can find other files, and then another split."""
    ours, theirs = ({row.seed: row.data for row in rows if row.data is not None} for rows in (arm, baseline))
    for seed in sorted(ours.keys() & theirs.keys()):
        one, two = ours[seed], theirs[seed]
        if one.samples != two.samples:
            told = [" + ".join(f"{count:,}" for count in each.samples) for each in (one, two)]
            return [Unlike("task", f"training, validation and test images {told[0]} against {told[1]}")]
        if one.fingerprint and two.fingerprint and one.fingerprint != two.fingerprint:
            told = [each.fingerprint[:8] for each in (one, two)]
            return [Unlike("task", f"files or split of the data (digest {told[0]} against {told[1]})")]
    return []


def _word(path: str) -> str:
    return WORDS.get(path, path.partition(".")[2] or path)


def _value(value: Json) -> str:
    if isinstance(value, Mapping):
        return str(value.get("name", dict(value)))
    return "none" if value is None else str(value)
