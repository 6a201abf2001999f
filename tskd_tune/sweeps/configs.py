"""The config of a trial: plain data that says what the trial trains, passed on by Ray Tune."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tskd_tune.experiment.identity import identity
from tskd_tune.plain import Document
from tskd_tune.sweeps.points import Point
from tskd_tune.sweeps.schema import Sweep
from tskd_tune.sweeps.teacher_keys import key_of


@dataclass(frozen=True)
class TrialConfig:
    """What one trial trains, as plain data in Ray Tune's config.

    Attributes:
        number: the number of the trial in the sweep, which names the trial's folder.
        arm: the label of the point.
        point: search parameter -> sampled value.
        experiment: the resolved experiment, without its seed.
        seeds: the seeds that train in lockstep.
        teacher: the key of the trial's teacher among the teachers that the sweep sends; None if it needs none of these.
        identity: the digest of the experiment, which names the trial's trainings.
    """

    number: int
    arm: str
    point: Document
    experiment: Document
    seeds: list[int]
    teacher: str | None
    identity: str

    @property
    def run(self) -> str:
        """The id of the trial, which names its folder."""
        return f"{self.number:05d}"

    def plain(self) -> Document:
        """Return the config as plain data."""
        return asdict(self)


class Describe:
    """Makes the configs of a sweep's points, without ``number``, which the searcher adds.

    Ray Tune pickles a searcher together with this object. The pickle holds the sweep as plain data, because the types
    of the sweep's components are made at run time. Loading the pickle reads the sweep again.
    """

    def __init__(self, sweep: Sweep, seeds: Sequence[int]) -> None:
        """Describe trials that train ``seeds`` of a point of ``sweep``."""
        self._sweep, self._seeds = sweep, list(seeds)

    def __call__(self, point: Point) -> Document:
        """Return the config of a point, without ``number``.

        Raises:
            InputError: the point is not a valid experiment.
        """
        experiment = self._sweep.experiment_at(point)
        plain = {key: value for key, value in experiment.plain().items() if key != "seed"}
        config = TrialConfig(
            number=-1,
            arm=point.label,
            point=point.values,
            experiment=plain,
            seeds=self._seeds,
            teacher=key_of(experiment),
            identity=identity(experiment),
        ).plain()
        return {key: value for key, value in config.items() if key != "number"}

    def __getstate__(self) -> Document:
        """Return the sweep as plain data."""
        return {"sweep": self._sweep.plain(), "seeds": self._seeds}

    def __setstate__(self, state: Document) -> None:
        """Read the sweep of a pickle."""
        self._sweep, self._seeds = Sweep.read(state["sweep"]), list(state["seeds"])
