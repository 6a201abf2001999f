"""An observer that makes a training last some seconds without work for the processor; the training's numbers stay."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveInt

from tskd_tune.training.observers import Observer, Training
from tskd_tune.training.trainer import Trainer

SHARED = Path("/mnt/shared")


class Pace(Observer):
    """Sleep after each step, and write into the file ``at-HOST`` what it does.

    Trainings with late seeds wait in the middle of an epoch while the file ``hold`` exists, and all trainings of a host
    while ``hold-HOST`` exists. All of these files lie in the folder that the hosts share.
    """

    def __init__(self, *, seconds: NonNegativeFloat = 0.0, free: PositiveInt = 1, epoch: PositiveInt = 1) -> None:
        """Choose how long, and which trainings wait.

        Args:
            seconds: the seconds after each step.
            free: the last seed that never waits for the file ``hold``.
            epoch: the epoch in which the others wait.
        """
        self._seconds, self._free, self._epoch = seconds, free, epoch

    def stepped(self, training: Training) -> None:
        """Sleep."""
        assert isinstance(training, Trainer)
        host, seed = socket.gethostname(), training.schedule.seed
        at = SHARED / f"at-{host}"
        at.write_text(f"{seed} {training.next_epoch} trains")
        time.sleep(self._seconds)
        held = [SHARED / f"hold-{host}"]
        if seed > self._free and training.next_epoch == self._epoch:
            held.append(SHARED / "hold")
        while any(file.exists() for file in held):
            at.write_text(f"{seed} {training.next_epoch} waits")
            time.sleep(0.1)
