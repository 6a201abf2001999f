"""What the arms of a run answered to the same samples: where they differ, and their metrics by conditions."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tskd_tune.metrics import Metric, Part
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.teacher_names import identity_of, teacher_seed, told_apart
from tskd_tune.records.kept.examples import (
    Box,
    BoxAnswers,
    BreakdownRecord,
    ClassAnswers,
    Examples,
    Pictures,
    ScoredBox,
    examples_of,
    examples_of_teacher,
    pictures_of,
)
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.comparison import Verdicts
from tskd_tune.reports.findings.grouping import distinct
from tskd_tune.reports.findings.records import ArmFindings, Statistic

MOST_ARMS = 8
"""The examples of at most this number of arms are read, the first of the table."""

MATCH = 0.5
"""A box is right where its intersection over union with a true box of its class, which no better box took, is this."""


@dataclass(frozen=True)
class Run:
    """A training of an arm: its seed, and the seed of its teacher where the arm has several."""

    seed: int
    teacher: int | None = None

    @property
    def words(self) -> str:
        """The training in words, such as ``seed 3 (teacher 1)``."""
        return f"seed {self.seed}" if self.teacher is None else f"seed {self.seed} (teacher {self.teacher})"


@dataclass(frozen=True)
class Answered:
    """The examples of one arm.

    Attributes:
        arm: the label of the arm.
        place: the place of the arm in the table, which gives its color.
        reviewed: whether the arm has a review.
        runs: training -> its examples, by seed and teacher; at least one.
    """

    arm: str
    place: int
    reviewed: bool
    runs: Mapping[Run, Examples]

    @property
    def unit(self) -> str:
        """What is counted: seeds, or trainings where the arm has several teachers."""
        return "seeds" if all(run.teacher is None for run in self.runs) else "trainings"


@dataclass(frozen=True)
class Gallery:
    """What the arms of one task answered to the same samples.

    Attributes:
        data: the digest of data, part and samples.
        part: the part that the samples belong to.
        samples: the position of each sample in the part.
        pictures: small pictures of the samples, and the names of the classes; None where they are not in the run.
        arms: the arms, in the order of the table.
        teachers: the answers of each teacher, by its name.
    """

    data: str
    part: Part
    samples: Sequence[int]
    pictures: Pictures | None
    arms: Sequence[Answered]
    teachers: Mapping[str, Examples]

    def name_of(self, label: int) -> str:
        """Return the name of a class; its number where names are not known."""
        names = [] if self.pictures is None else self.pictures.classes
        return names[label] if label < len(names) else str(label)

    def title_of(self, index: int) -> str:
        """Return the name of a sample, such as its id; its number in the part where samples have no names."""
        names = [] if self.pictures is None else self.pictures.names
        return names[index] if index < len(names) else f"no. {self.samples[index]}"


def galleries(run: RunFolder, arms: Sequence[ArmFindings]) -> list[Gallery]:
    """Return the examples of the first arms of the table, for each data set.

    Raises:
        RunError: the storage or the disk fails.
    """
    found: dict[str, list[Answered]] = {}
    teachers: dict[str, dict[str, str]] = {}
    names = told_apart(row.teacher for arm in arms for row in arm.rows if row.teacher)
    for place, arm in enumerate(arms[:MOST_ARMS]):
        done = sorted((row for row in arm.rows if row.status == "done"), key=lambda row: (row.seed, _order(row)))
        kept = {Run(row.seed, teacher_seed(row)): examples_of(run, row) for row in done}
        own = {key: examples for key, examples in kept.items() if examples is not None}
        for data in distinct(examples.data for examples in own.values()):
            runs = {key: examples for key, examples in own.items() if examples.data == data}
            found.setdefault(data, []).append(Answered(arm.arm, place, arm.reviewed, runs))
            known = {row.teacher.key: names[identity_of(row.teacher)] for row in arm.rows if row.teacher}
            teachers.setdefault(data, {}).update({key: name for key, name in known.items() if key})
    return [_gallery(run, data, answered, teachers[data]) for data, answered in found.items()]


def _order(row: Row) -> int:
    teacher = teacher_seed(row)
    return -1 if teacher is None else teacher


def _gallery(run: RunFolder, data: str, arms: Sequence[Answered], teachers: Mapping[str, str]) -> Gallery:
    first = next(iter(arms[0].runs.values()))
    taught = {
        name: examples
        for key, name in teachers.items()
        if (examples := examples_of_teacher(run, data, key)) is not None
    }
    return Gallery(data, first.part, first.samples, pictures_of(run, data), arms, taught)


@dataclass(frozen=True)
class ByCondition:
    """The values of a metric in one arm: for each condition one value for each seed that has one.

    Attributes:
        arm: the label of the arm.
        place: the place of the arm in the table.
        values: the values over the seeds, for each condition.
        seeds: the number of seeds.
    """

    arm: str
    place: int
    values: Sequence[Sequence[float]]
    seeds: int

    def statistics(self) -> list[Statistic]:
        """Return mean and standard deviation over the seeds, for each condition."""
        return [Statistic.over(values, self.seeds if values else None) for values in self.values]


@dataclass(frozen=True)
class Conditions:
    """A metric by conditions, for each arm.

    Attributes:
        record: names, labels and the metric.
        rows: the values of each arm that has them.
    """

    record: BreakdownRecord
    rows: Sequence[ByCondition]

    @property
    def metric(self) -> Metric:
        """The metric."""
        return self.record.metric


def conditions(gallery: Gallery) -> list[Conditions]:
    """Return every metric by conditions that the trainings of a gallery have, in their order."""
    every = [one for arm in gallery.arms for examples in arm.runs.values() for one in examples.breakdowns]
    first = {one.name: one for one in reversed(every)}
    return [Conditions(first[name], _rows(gallery, first[name])) for name in distinct(one.name for one in every)]


def _rows(gallery: Gallery, like: BreakdownRecord) -> list[ByCondition]:
    rows = []
    for arm in gallery.arms:
        own = {
            run: dict(zip(one.labels, one.values, strict=True))
            for run, examples in arm.runs.items()
            for one in examples.breakdowns
            if one.name == like.name
        }
        if own:
            by_label = [_over_seeds(own, label) for label in like.labels]
            rows.append(ByCondition(arm.arm, arm.place, by_label, len({run.seed for run in own})))
    return rows


def _over_seeds(own: Mapping[Run, Mapping[str, float | None]], label: str) -> list[float]:
    """Return the value of each seed; under several teachers its mean, for the seeds that have it under each of them."""
    teachers, found = {run.teacher for run in own}, dict[int, list[float]]()
    for run, values in own.items():
        if (value := values.get(label)) is not None:
            found.setdefault(run.seed, []).append(value)
    return [statistics.fmean(values) for values in found.values() if len(values) == len(teachers)]


@dataclass(frozen=True)
class Answer:
    """What one arm answers to a sample: the class that most seeds give, in how many of the seeds, and how surely."""

    arm: str
    label: int
    seeds: int
    of: int
    confidence: float
    unit: str = "seeds"


@dataclass(frozen=True)
class Changed:
    """The samples on which two arms differ in all of their common trainings: of one seed and one teacher.

    Attributes:
        arm: the label of one arm.
        baseline: the label of the other arm.
        pairs: the trainings that both arms have. One without several teachers is compared with those under each.
        samples: the number of samples that were looked at.
        gained: the places of the samples that the arm gets right in every training, and the baseline wrong in every
            training; those come first on which the arms are surest.
        lost: the reverse.
    """

    arm: Answered
    baseline: Answered
    pairs: Sequence[tuple[Run, Run]]
    samples: int
    gained: Sequence[int]
    lost: Sequence[int]

    @property
    def seeds(self) -> list[int]:
        """The seeds that both arms have."""
        return sorted({own.seed for own, _ in self.pairs})

    @property
    def teachers(self) -> list[int]:
        """The seeds of the teachers under which the arms are compared; empty where neither has several."""
        return sorted({run.teacher for pair in self.pairs for run in pair if run.teacher is not None})

    def truth(self, place: int) -> int:
        """Return the true class of a sample, by its place."""
        answers = _classes(self.arm.runs[self.pairs[0][0]])
        assert answers is not None, "`changed` compares classes only"
        return answers.truth[place]


def compared(gallery: Gallery, verdicts: Verdicts | None) -> list[tuple[Answered, Answered]]:
    """Return the pairs of arms to look at, arm and baseline: those of the verdicts.

    Where nothing is compared, the first arm that reviews and the first arm that does not are a pair.
    """
    known = {arm.arm: arm for arm in gallery.arms}
    found = [] if verdicts is None else [finding.contrast for finding in verdicts.family.findings]
    pairs = [(known[one.arm], known[one.baseline]) for one in found if one.arm in known and one.baseline in known]
    if pairs:
        return pairs
    reviewing = next((arm for arm in gallery.arms if arm.reviewed), None)
    plain = next((arm for arm in gallery.arms if not arm.reviewed), None)
    return [(reviewing, plain)] if reviewing is not None and plain is not None else []


def changed(arm: Answered, baseline: Answered) -> Changed | None:
    """Return where two arms differ; None where they have no common training, or their answers are no classes."""
    pairs = _common(arm, baseline)
    ours, theirs = [_classes(arm.runs[own]) for own, _ in pairs], [_classes(baseline.runs[other]) for _, other in pairs]
    mine, others = [one for one in ours if one is not None], [one for one in theirs if one is not None]
    if not pairs or len(mine) < len(pairs) or len(others) < len(pairs):
        return None
    samples = range(len(mine[0].truth))
    right, theirs_right = _right(mine), _right(others)
    gained = [i for i in samples if right[i] == len(pairs) and theirs_right[i] == 0]
    lost = [i for i in samples if right[i] == 0 and theirs_right[i] == len(pairs)]

    def surest(index: int) -> float:
        return -statistics.fmean(one.confidence[index] for one in (*mine, *others))

    return Changed(arm, baseline, pairs, len(samples), sorted(gained, key=surest), sorted(lost, key=surest))


def _common(arm: Answered, baseline: Answered) -> list[tuple[Run, Run]]:
    """Return the trainings of two arms with one seed and one teacher, or with one seed where an arm has no several."""
    return [
        (own, other)
        for own in arm.runs
        for other in baseline.runs
        if own.seed == other.seed and (own.teacher == other.teacher or None in (own.teacher, other.teacher))
    ]


def _right(every: Sequence[ClassAnswers]) -> list[int]:
    """Return in how many trainings each sample is right."""
    right = [[answer == truth for answer, truth in zip(one.answer, one.truth, strict=True)] for one in every]
    return [sum(trainings) for trainings in zip(*right, strict=True)]


def _classes(examples: Examples) -> ClassAnswers | None:
    return examples.answers if isinstance(examples.answers, ClassAnswers) else None


def answer_of(name: str, every: Sequence[Examples], index: int, unit: str = "seeds") -> Answer | None:
    """Return what an arm answers to a sample over its seeds or trainings; None where nothing was kept."""
    own = [one for examples in every if (one := _classes(examples)) is not None]
    if not own:
        return None
    labels = [one.answer[index] for one in own]
    label = statistics.mode(labels)
    sure = statistics.fmean(one.confidence[index] for one in own if one.answer[index] == label)
    return Answer(name, label, labels.count(label), len(labels), sure, unit)


def boxes_of(examples: Examples) -> BoxAnswers | None:
    """Return the boxes of a network; None where its answers are no boxes."""
    return examples.answers if isinstance(examples.answers, BoxAnswers) else None


def judged(found: Sequence[ScoredBox], truth: Sequence[Box]) -> Iterator[tuple[ScoredBox, bool]]:
    """Yield boxes, the highest score first, and whether each is right; see `MATCH`."""
    left = list(truth)
    for box in sorted(found, key=lambda one: -one[5]):
        same = [one for one in left if one[4] == box[4]]
        best = max(same, key=lambda one: overlap(one, box), default=None)
        right = best is not None and overlap(best, box) >= MATCH
        if right and best is not None:
            left.remove(best)
        yield box, right


def overlap(one: Box | ScoredBox, other: Box | ScoredBox) -> float:
    """Return the intersection over union of two boxes.

    >>> overlap((0, 0, 2, 2, 0), (1, 0, 3, 2, 0))
    0.3333333333333333
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0
