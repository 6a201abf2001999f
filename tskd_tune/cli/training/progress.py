"""The progress of a run: bars on a terminal, otherwise lines, and the time left at the measured rate."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from tskd_tune.cli.terminal import console, say
from tskd_tune.metrics import Measured, Metric, heading, metric_of
from tskd_tune.reports.forms.short import duration

# A rate needs at least this many epochs.
FEWEST_EPOCHS = 3
STEPS = 10
LOSS = "loss"


class Pace:
    """Counts epochs, and computes the time left from the rate of epochs in this process."""

    def __init__(self, total: int, done: int, clock: Callable[[], float]) -> None:
        """Expect ``total`` epochs; an earlier process trained ``done`` of them. The clock counts seconds."""
        self.total = total
        self.done = done
        self._clock = clock
        self._times: list[float] = []
        self._reached: dict[tuple[str, int | None], int] = {}

    def trained(self, run: str, seed: int | None, epoch: int) -> None:
        """Count an epoch. An epoch that is trained again, such as after a crash, counts once."""
        reached = self._reached.get((run, seed), epoch - 1)
        if epoch > reached:
            self._reached[run, seed] = epoch
            self.done = min(self.total, self.done + epoch - reached)
            self._times.append(self._clock())

    def skip(self, epochs: int) -> None:
        """Expect this many epochs fewer, because a training ended early."""
        self.total = max(self.done, self.total - epochs)

    def left(self) -> float | None:
        """Return the seconds left at the rate since the first epoch; None without a rate."""
        if len(self._times) < FEWEST_EPOCHS:
            return None
        rate = (len(self._times) - 1) / max(self._clock() - self._times[0], 1e-9)
        return (self.total - self.done) / rate


class Screen(ABC):
    """The place where progress is shown."""

    @abstractmethod
    def advance(self, what: str, done: int, total: int, note: str) -> None:
        """Show that ``what`` has trained ``done`` of ``total`` epochs."""

    @abstractmethod
    def tell(self, line: str, *, failed: bool) -> None:
        """Show that a training ended."""

    @abstractmethod
    def note(self, line: str) -> None:
        """Show a message on a separate line."""

    @abstractmethod
    def open(self) -> None:
        """Start the display."""

    @abstractmethod
    def close(self) -> None:
        """Stop the display and restore the terminal."""


class LineScreen(Screen):
    """Plain lines: one line per training that ended, and one line for about every 10 % of the epochs."""

    def __init__(self) -> None:
        """Begin with no line written."""
        self._tenths: dict[str, int] = {}

    def advance(self, what: str, done: int, total: int, note: str) -> None:
        """Write a line when another 10 % of the epochs are done."""
        tenth = STEPS * done // max(total, 1)
        if tenth > self._tenths.get(what, 0):
            self._tenths[what] = tenth
            say(f"{what}: {done} of {total} epochs" + (f", {note}" if note else ""))

    def tell(self, line: str, *, failed: bool) -> None:
        """Write the line."""
        say(line)

    def note(self, line: str) -> None:
        """Write the line."""
        say(line)

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class BarScreen(Screen):
    """One bar per teacher and one bar for all trainings, with the failed trainings above the bars."""

    def __init__(self, terminal: Console) -> None:
        """Draw on a terminal."""
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def advance(self, what: str, done: int, total: int, note: str) -> None:
        """Move a bar; the bar appears at its first call."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(_plain(what), total=total, note="")
        self._bars.update(self._tasks[what], completed=done, total=total, note=_plain(note))

    def tell(self, line: str, *, failed: bool) -> None:
        """Write the line of a failed training; the bars show the trainings that ended well."""
        if failed:
            self.note(line)

    def note(self, line: str) -> None:
        """Write the line above the bars."""
        self._bars.console.print(line, markup=False)

    def open(self) -> None:
        """Start drawing."""
        self._bars.start()

    def close(self) -> None:
        """Stop drawing; the last state stays on the terminal."""
        self._bars.stop()


class Progress:
    """Shows the progress of a run's trainings on a terminal or in lines."""

    def __init__(
        self,
        trainings: int,
        epochs: int,
        *,
        finished: int = 0,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Expect ``trainings`` with ``epochs`` in total; an earlier process did ``finished`` and ``done`` of them."""
        self._trainings = trainings
        self._finished = finished
        self._early = 0
        self._broke = 0
        self._pace = Pace(epochs, done, clock)
        terminal = console()
        self._screen: Screen = BarScreen(terminal) if terminal.is_terminal else LineScreen()

    def __enter__(self) -> Self:
        """Start the display."""
        self._screen.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the display and restore the terminal."""
        self._screen.close()

    def teacher(self, name: str, epoch: int, epochs: int) -> None:
        """Show an epoch of a teacher's training."""
        self._screen.advance(f"teacher {name}", epoch + 1, epochs, "")

    def waiting(self, name: str) -> None:
        """Show that this run waits because another run trains a teacher now."""
        self._screen.note(f"teacher {name}: another run trains the same teacher now; this run waits for it")

    def ready(self, name: str, facts: Mapping[str, object], source: str) -> None:
        """Show that a teacher was trained or verified; the source is ``auto`` or the path of the teacher's weights."""
        tested = [name for name in _leading(facts) if name.startswith("test_")]
        measured = "".join(f", {_in_words(name, facts[name])}" for name in tested)
        weights = "trained here" if source == "auto" else source
        self._screen.note(f"teacher {name}: {facts['parameters']:,} parameters{measured} ({weights})")

    def warn(self, line: str) -> None:
        """Show a warning."""
        self._screen.note(f"warning: {line}")

    def tell(self, sentence: str) -> None:
        """Show a sentence for the user, such as the decision of an interim analysis."""
        self._screen.note(sentence)

    def epoch(self, run: str, seed: int | None, epoch: int) -> None:
        """Show an epoch of a training."""
        self._pace.trained(run, seed, epoch)
        self._advance()

    def finished(
        self,
        arm: str,
        seed: int | None,
        epoch: int,
        epochs: int,
        *,
        metrics: Mapping[str, object],
        measures: Sequence[Metric] = (),
        reason: str | None = None,
    ) -> None:
        """Show that a training ended after ``epoch`` and has a row; ``reason`` says why the training ended early.

        ``measures`` are the metrics that the row declares.
        """
        self._finished += 1
        self._early += reason is not None
        self._pace.skip(epochs - 1 - epoch)
        count = f"({self._finished} of {self._trainings})"
        last = f"after epoch {epoch}" if epoch >= 0 else "in its first epoch"
        end = f"ended {last}: {reason}" if reason else f"finished, {figures(metrics, measures)}"
        self._screen.tell(f"{arm}, seed {seed}: {end} {count}", failed=reason is not None)
        self._advance()

    def failed(self, arm: str, seed: int | None, epoch: int, epochs: int, reason: str | None) -> None:
        """Show that a training broke after ``epoch``; only a resume trains it again."""
        self._broke += 1
        self._pace.skip(epochs - 1 - epoch)
        self._screen.tell(f"{arm}, seed {seed}: broke: {reason}", failed=True)
        self._advance()

    def _advance(self) -> None:
        early = f", {self._early} ended early" if self._early else ""
        early += f", {self._broke} broke" if self._broke else ""
        left = self._pace.left()
        ahead = "" if left is None else f", about {duration(left)} left"
        note = f"{self._finished} of {self._trainings} trainings finished{early}{ahead}"
        self._screen.advance("training", self._pace.done, self._pace.total, note)


def figures(metrics: Mapping[str, object], measures: Sequence[Metric] = ()) -> str:
    """Return the two most important values of a training in words, such as ``test top-1 (%) 71.20``."""
    known = [*_leading(metrics), *([LOSS] if isinstance(metrics.get(LOSS), float) else [])]
    return ", ".join(f"{heading(name, measures)} {metrics[name]:.2f}" for name in known[:2]) or "nothing measured"


def _leading(metrics: Mapping[str, object]) -> list[str]:
    """Return the first metric of the test set and the first of the validation set; both are the headline."""
    found: dict[str, str] = {}
    for name, value in metrics.items():
        known = Measured.read(name)
        if known is not None and not known.teacher and isinstance(value, float):
            found.setdefault(known.part, name)
    return [found[part] for part in ("test", "validation") if part in found]


def _in_words(name: str, value: object) -> str:
    """Return ``test top-1 72.34 %``."""
    metric = metric_of(name, ())
    return f"{name.partition('_')[0]} {metric.title} {metric.text(value) if isinstance(value, float) else value}"


def _plain(text: str) -> str:
    """Escape brackets in names, which rich would take as markup."""
    return text.replace("[", r"\[")
