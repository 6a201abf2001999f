"""The errors that a trial raises for Ray Tune, which sends them to the driver."""

from __future__ import annotations

from tskd_tune.errors import RunError


class UnfitNodeError(RunError):
    """A machine cannot train the sweep.

    Attributes:
        node: Ray's id of the machine.
        sentence: what the machine lacks, and what to do.
    """

    def __init__(self, node: str, sentence: str) -> None:
        """Keep the facts that the driver tells."""
        super().__init__(node, sentence)
        self.node, self.sentence = node, sentence

    def __str__(self) -> str:
        """Return the sentence."""
        return self.sentence


class BrokenTrialError(RunError):
    """An error that breaks a trial. Ray Tune sends it to the driver, with what broke, the reason and the whole error.

    Attributes:
        seed: the seed of the training that broke.
        reason: one line.
        text: the whole error.
        run: the id of the training's trial; None: of the only one.
        lost_worker: whether another worker of the trial was lost.
        silent: the IP addresses of the machines whose workers neither answered nor ended.
    """

    def __init__(
        self,
        seed: int,
        reason: str,
        text: str,
        run: str | None = None,
        *,
        lost_worker: bool = False,
        silent: tuple[str, ...] = (),
    ) -> None:
        """Keep the facts that the driver records."""
        super().__init__(seed, reason, text, run)
        self.silent = silent
        self.seed, self.reason, self.text, self.run, self.lost_worker = seed, reason, text, run, lost_worker
