"""Writes the curves of a sweep for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tskd_tune.callbacks.base import CALLBACKS, Callback, Heard
from tskd_tune.callbacks.figures import figures, training
from tskd_tune.records.entries.events import Event

if TYPE_CHECKING:  # it loads TensorBoard, which takes seconds
    from torch.utils.tensorboard import SummaryWriter


@CALLBACKS.register("tensorboard", source="torch.utils.tensorboard")
class TensorBoard(Callback):
    """Writes the numbers of each epoch for TensorBoard, a folder per training.

    The command ``tensorboard --logdir RUN/tensorboard`` shows them. After a resume, epochs that are trained again
    replace those that were written before.
    """

    extra = "tensorboard"

    def __init__(self, run: Heard, *, teachers: bool = True) -> None:
        """Choose what is written.

        Args:
            run: the run whose events are heard.
            teachers: also write the curves of teachers.
        """
        self._folder = run.path / "tensorboard"
        self._teachers = teachers
        self._writers: dict[str, SummaryWriter] = {}
        self._last: dict[str, int] = {}

    def hear(self, event: Event) -> None:
        """Write the numbers of an epoch."""
        if event.what == "epoch" or (event.what == "teacher" and self._teachers):
            self._write(training(event), event)
        elif event.what in ("finished", "failed", "ready"):
            writer = self._writers.pop(training(event), None)
            if writer is not None:
                writer.close()

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _write(self, name: str, event: Event) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if event.epoch <= self._last.get(name, -1):
            return  # an epoch that was trained again; its numbers are the same
        if name not in self._writers:
            # TensorBoard forgets what an earlier process wrote of this epoch and those after.
            self._writers[name] = SummaryWriter(str(self._folder / name), purge_step=event.epoch)
            self._writers[name].add_text("arm", event.arm, event.epoch)
        for key, value in figures(event).items():
            self._writers[name].add_scalar(key, value, event.epoch)
        self._last[name] = event.epoch
