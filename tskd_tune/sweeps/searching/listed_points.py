"""A searcher of Ray Tune for points that are all known in advance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tskd_tune.sweeps.messages.trial_config import UNNUMBERED, TrialConfig
from tskd_tune.sweeps.searching.known import Known
from tskd_tune.sweeps.searching.objectives import Goals
from tskd_tune.sweeps.searching.run_searcher import FINISHED, Config, RunSearcher


class ListedPoints(RunSearcher):
    """Suggests each config of a list once, in order."""

    def __init__(self, configs: Sequence[TrialConfig], goals: Goals | None = None) -> None:
        """Suggest ``configs``; a config without a number gets its place in the list as its number.

        Without goals, results need no metric.
        """
        super().__init__(goals)
        self._left = [
            replace(config, number=place) if config.number == UNNUMBERED else config
            for place, config in enumerate(configs)
        ]

    def suggest(self, trial_id: str) -> Config | None:
        """Return the next config, or `FINISHED` after the last."""
        return self._left.pop(0).plain() if self._left else FINISHED

    def on_trial_complete(self, trial_id: str, result: Config | None = None, error: bool = False) -> None:
        """Do nothing: results do not change the list."""

    def take_up(self, known: Mapping[int, Known], *, highest: int = -1) -> None:
        """Leave out the trials that have ended."""
        ended = {number for number, trial in known.items() if trial.end is not None}
        self._left = [config for config in self._left if config.number not in ended]
