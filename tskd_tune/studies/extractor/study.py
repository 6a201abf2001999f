"""The study ``extractor``: what do extractors take from a sequence, where it is known what there is to take?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias

from annotated_types import MinLen
from pydantic import Field, PositiveInt

from tskd_tune.errors import InputError
from tskd_tune.options import DISTINCT
from tskd_tune.plain import Json
from tskd_tune.studies.base import STUDIES, Found, Place, Study
from tskd_tune.studies.extractor.fits import LINEAR, ORDERS, Fit, Job, Order, fit_generated
from tskd_tune.studies.extractor.found import Generated, OnRecording, Results, found
from tskd_tune.studies.extractor.laws import LAWS
from tskd_tune.studies.extractor.recorded import IMAGES, TARGETS, FitJob, RecordingJob, fit_recorded, record

TimeExtractor: TypeAlias = Literal["conv_lstm", "conv_gru", "conv3d", "temporal_attention"]
TIME: tuple[TimeExtractor, ...] = ("conv_lstm", "conv_gru", "conv3d", "temporal_attention")
Sizes = Annotated[list[PositiveInt], MinLen(1), DISTINCT]
Taps = Annotated[list[Literal["stem", "stage1", "stage2", "stage3"]], MinLen(1), DISTINCT]
Several = Annotated[int, Field(ge=2)]


@STUDIES.register("extractor", source="TSKD, Eq. 6; the first experiments that the review of the paper asks for")
class ExtractorStudy(Study):
    """Do extractors predict in time: where the best forecast is known, and in the sequences of real trainings?

    Each extractor is fitted to generated sequences with a known ceiling, and to recorded knowledge sequences of
    trainings on the digits. Its R^2 is measured on held-out sequences. Arms with another order of the sequence show
    whether the order matters. The seed is the unit of all intervals.
    """

    quick: ClassVar[Mapping[str, Json]] = {
        "seeds": 3,
        "steps": 150,
        "k": [3, 6],
        "layers": [1, 2],
        "hidden": [8],
        "orders_of": ["conv_lstm"],
        "order_laws": ["blob"],
        "epochs": 12,
        "images": 64,
        "taps": ["stage1"],
    }

    def __init__(
        self,
        *,
        seeds: Several = 10,
        steps: Several = 1000,
        k: Sizes = [3, 6, 9],  # noqa: B006 (options are never changed)
        layers: Sizes = [1, 2, 3],  # noqa: B006
        hidden: Sizes = [8, 16, 64],  # noqa: B006
        orders_of: Annotated[list[TimeExtractor], DISTINCT] = ["conv_lstm", "conv_gru", "conv3d", "temporal_attention"],  # noqa: B006
        order_laws: Annotated[list[Literal["decay", "blob", "ar2"]], DISTINCT] = ["decay", "blob", "ar2"],  # noqa: B006
        epochs: PositiveInt = 24,
        images: Several = 128,
        taps: Taps = ["stage1", "stage2"],  # noqa: B006
    ) -> None:
        """Choose the sizes of the study.

        Args:
            seeds: the number of seeds, of the generated sequences and of the recorded trainings.
            steps: the number of steps of Adam in each fit.
            k: lengths of the sequences, at least 2. All extractors are given the first one; `conv_lstm` is given all.
            layers: depths of `conv_lstm`; the first one is used everywhere else.
            hidden: widths of the extractors with hidden channels; the first one is used in all comparisons.
            orders_of: the extractors that are also given the sequences in another order.
            order_laws: the laws whose sequences are also given in another order.
            epochs: the length of the recorded trainings; at least 3 longer than the first ``k``.
            images: the number of recorded training images, and of recorded validation images, at most 300.
            taps: the stages of the student whose attention maps are recorded.
        """
        _check(k, epochs, images)
        self.seeds = range(seeds)
        self.steps = steps
        self.k, self.layers, self.hidden = k, layers, hidden
        self.orders_of, self.order_laws = orders_of, order_laws
        self.recordings = [RecordingJob(seed, epochs, k[0], images, tuple(taps)) for seed in self.seeds]

    def run(self, place: Place) -> Found:
        """Record the trainings, fit all extractors, and return what they explain."""
        fits = tuple(self._on_recordings())
        recordings = place.map("recordings", record, self.recordings)
        wanted = [
            (tap, FitJob(job.seed, job.k, target, maps, fits))
            for job, taps in zip(self.recordings, recordings, strict=True)
            for tap, maps in taps.items()
            for target in TARGETS
        ]
        fitted = place.map("recorded", fit_recorded, [job for _, job in wanted])
        recorded = [
            OnRecording(tap, job.target, job.seed, fit, one)
            for (tap, job), results in zip(wanted, fitted, strict=True)
            for fit, one in zip(job.fits, results, strict=True)
        ]
        jobs = list(dict.fromkeys(self._generated()))
        generated = [
            Generated(job, one) for job, one in zip(jobs, place.map("generated", fit_generated, jobs), strict=True)
        ]
        return found(Results(tuple(generated), tuple(recorded), self._base(), self._sizes()))

    def _base(self) -> dict[str, int]:
        """Return the sizes with which all extractors are compared."""
        return {"k": self.k[0], "layers": self.layers[0], "hidden": self.hidden[0]}

    def _sizes(self) -> list[dict[str, int]]:
        """Return the sizes of `conv_lstm`: those of the comparison, and each in which one value is another one."""
        base = self._base()
        others = {"k": self.k, "layers": self.layers, "hidden": self.hidden}
        return [base, *(base | {key: value} for key, values in others.items() for value in values[1:])]

    def _fit(self, extractor: str, order: Order = "forward", sizes: Mapping[str, int] | None = None) -> Fit:
        sizes = sizes or self._base()
        options = {"hidden": sizes["hidden"]} if extractor not in LINEAR else {}
        if extractor == "conv_lstm":
            options["layers"] = sizes["layers"]
        return Fit(extractor, self.steps, order, tuple(options.items()))

    def _on_recordings(self) -> Iterator[Fit]:
        yield from (self._fit(name) for name in (*LINEAR, *TIME))
        yield from (self._fit(name, order) for name in self.orders_of for order in ORDERS[1:])

    def _generated(self) -> Iterator[Job]:
        """Yield the fits, the long ones first, so that no core waits for the last one."""
        for seed in self.seeds:
            for sizes in reversed(self._sizes()):
                yield Job("blob", sizes["k"], seed, self._fit("conv_lstm", sizes=sizes))
            other = [self._fit(name, order) for name in self.orders_of for order in ORDERS[1:]]
            yield from (Job(law, self.k[0], seed, fit) for law in self.order_laws for fit in other)
            forward = [self._fit(name) for name in (*TIME, *LINEAR)]
            yield from (Job(law, self.k[0], seed, fit) for law in LAWS for fit in forward)


def _check(k: list[int], epochs: int, images: int) -> None:
    """Refuse sizes with which there is nothing to measure."""
    if min(k) < 2:
        raise InputError(f"k: a sequence of {min(k)} map has no order; give lengths of at least 2")
    if epochs < k[0] + 3:
        raise InputError(
            f"epochs: {epochs} epochs leave fewer than two increments to predict from {k[0]} others; "
            f"give at least {k[0] + 3}"
        )
    if images > IMAGES:
        raise InputError(f"images: the recorded trainings have {IMAGES} images of each part, got {images}; give fewer")
