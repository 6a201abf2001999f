"""The study of what reviewing costs: seconds, operations and bytes, measured and predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from tskd_tune.errors import InputError
from tskd_tune.options import DISTINCT
from tskd_tune.plain import Json
from tskd_tune.studies.base import STUDIES, Study
from tskd_tune.studies.found import Found
from tskd_tune.studies.place import Place

Positives = Annotated[list[PositiveInt], Field(min_length=1), DISTINCT]


@STUDIES.register("overhead", source="the costs of the memorize-review training, which the paper does not give")
class Overhead(Study):
    """What does a review cost, for a step and for a whole training, and is the cost known before?

    Plain training, KD, AT, ReviewKD and reviews of several k and widths take steps in turns in one process, with
    untrained networks and random images. The prediction of a review's cost adds up its pieces, which are measured at
    other numbers of snapshots. Seconds differ from run to run; all other numbers do not.
    """

    quick: ClassVar[Mapping[str, Json]] = {
        "teacher": "resnet20",
        "student": "resnet8",
        "batch_size": 16,
        "ks": [2, 4, 6],
        "widths": [8, 16],
        "measured_ks": [1, 7],
        "rounds": 5,
        "seconds": 0.1,
    }

    def __init__(
        self,
        *,
        teacher: str = "resnet56",
        student: str = "resnet20",
        batch_size: PositiveInt = 64,
        size: PositiveInt = 32,
        classes: PositiveInt = 100,
        ks: Positives = [3, 6, 9],  # noqa: B006 - is only read
        deltas: Positives = [5, 10, 15],  # noqa: B006
        widths: Positives = [8, 16, 32],  # noqa: B006
        epochs: PositiveInt = 240,
        measured_ks: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] = [2, 10],  # noqa: B006
        rounds: PositiveInt = 9,
        seconds: PositiveFloat = 0.5,
    ) -> None:
        """Set what is measured.

        Args:
            teacher: the teacher's network.
            student: the student's network.
            batch_size: images of a step.
            size: height and width of an image, in pixels.
            classes: number of classes.
            ks: numbers of snapshots of the reviews whose cost is predicted and measured.
            deltas: epochs from one snapshot to the next; they decide how many epochs of a training review.
            widths: channels of the states of the extractor, a ConvLSTM.
            epochs: length of the training whose cost is given.
            measured_ks: the two numbers of snapshots at which the pieces of the prediction are measured; none of `ks`.
            rounds: number of times that everything is timed in turns.
            seconds: least seconds for which a piece is repeated in a round; a step is repeated for as long, six times
                at most.

        Raises:
            InputError: the prediction would be compared with what it was made from, or a line has no two points.
        """
        both = sorted(set(ks) & set(measured_ks))
        if both:
            raise InputError(
                f"measured_ks: {both[0]} is also in ks, so the prediction would be compared with what it was made from;"
                " choose other numbers"
            )
        if len(set(measured_ks)) < len(measured_ks):
            raise InputError(f"measured_ks: {measured_ks} has the same number twice; choose two different numbers")
        self._networks = teacher, student
        self._images = batch_size, size, classes
        self._ks, self._deltas, self._widths = ks, deltas, widths
        self._epochs, self._measured_ks = epochs, measured_ks
        self._rounds, self._seconds = rounds, seconds

    def run(self, place: Place) -> Found:
        """Count all work in parallel, then time all steps in one process with nothing beside it."""
        from tskd_tune.studies.overhead import found as overhead_found
        from tskd_tune.studies.overhead.arms import Pair, experiment_of, reviewing
        from tskd_tune.studies.overhead.tables import Plans
        from tskd_tune.studies.overhead.timing import METHODS, TimingJob, time_all
        from tskd_tune.studies.overhead.work import WorkJob, count

        pair = Pair(*self._networks, *self._images)
        plan = Plans(self._ks, self._deltas, self._widths, self._epochs)
        plan.refuse_impossible()
        job = TimingJob(pair, self._ks, self._widths, self._measured_ks, self._rounds, self._seconds)
        arms = [*METHODS, *(reviewing(k, width) for width in self._widths for k in (*self._ks, *self._measured_ks))]
        for arm in arms:
            experiment_of(pair, arm)  # an unknown network is refused before Ray starts
        works = place.map("work", count, [WorkJob(pair, arm) for arm in arms])
        [timings] = place.map("seconds", time_all, [job])
        counted = {arm.name: work for arm, work in zip(arms, works, strict=True)}
        return overhead_found.found(job, plan, timings, counted)
