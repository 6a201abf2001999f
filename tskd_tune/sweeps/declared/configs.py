"""Makes the configs of trials from the points of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.experiment.identity import identity
from tskd_tune.plain import Document
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.teacher_keys import key_of
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.space.points import Point


class Describe:
    """Makes the configs of a sweep's points, without a number, which the searcher adds.

    Ray Tune pickles a searcher together with this object. The pickle holds the sweep as plain data, because the types
    of the sweep's components are made at run time. Loading the pickle reads the sweep again.
    """

    def __init__(self, sweep: Sweep, seeds: Sequence[int]) -> None:
        """Describe trials that train ``seeds`` of a point of ``sweep``."""
        self._sweep, self._seeds = sweep, list(seeds)

    def __call__(self, point: Point) -> TrialConfig:
        """Return the config of a point, without a number.

        Raises:
            InputError: the point is not a valid experiment.
        """
        experiment = self._sweep.experiment_at(point)
        plain = {key: value for key, value in experiment.plain().items() if key != "seed"}
        return TrialConfig(
            arm=point.label,
            point=point.values,
            experiment=plain,
            seeds=self._seeds,
            teacher=key_of(experiment),
            identity=identity(experiment),
        )

    def __getstate__(self) -> Document:
        """Return the sweep as plain data."""
        return {"sweep": self._sweep.plain(), "seeds": self._seeds}

    def __setstate__(self, state: Document) -> None:
        """Read the sweep of a pickle."""
        self._sweep, self._seeds = Sweep.read(state["sweep"]), list(state["seeds"])
