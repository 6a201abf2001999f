"""How far a run is: bars on a terminal, lines where there is none, and a time left that was measured."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from tskd_tune.cli.terminal import console, say
from tskd_tune.metrics import Measured, heading, metric_of
from tskd_tune.reports.forms.short import duration

# Before so many epochs a rate is a guess.
FEWEST_EPOCHS = 3
STEPS = 10
LOSS = "loss"


class Pace:
    """Counts epochs, and tells from their rate in this process how long the others will take."""

    def __init__(self, total: int, done: int, clock: Callable[[], float]) -> None:
        """Expect ``total`` epochs, ``done`` of which an earlier process trained; the clock counts seconds."""
        self.total = total
        self.done = done
        self._clock = clock
        self._times: list[float] = []
        self._reached: dict[tuple[str, int | None], int] = {}

    def trained(self, run: str, seed: int | None, epoch: int) -> None:
        """Count an epoch; one that was trained before, as after a crash, counts once."""
        reached = self._reached.get((run, seed), epoch - 1)
        if epoch > reached:
            self._reached[run, seed] = epoch
            self.done = min(self.total, self.done + epoch - reached)
            self._times.append(self._clock())

    def skip(self, epochs: int) -> None:
        """Expect so many epochs less: a training ended early."""
        self.total = max(self.done, self.total - epochs)

    def left(self) -> float | None:
        """Return the seconds left at the rate since the first epoch; None before there is a rate."""
        if len(self._times) < FEWEST_EPOCHS:
            return None
        rate = (len(self._times) - 1) / max(self._clock() - self._times[0], 1e-9)
        return (self.total - self.done) / rate


class Screen(ABC):
    """Where progress is shown."""

    @abstractmethod
    def advance(self, what: str, done: int, total: int, note: str) -> None:
        """Show that ``what`` has ``done`` of ``total`` epochs."""

    @abstractmethod
    def tell(self, line: str, *, failed: bool) -> None:
        """Tell that a training ended."""

    @abstractmethod
    def note(self, line: str) -> None:
        """Tell what is worth a line of its own."""

    @abstractmethod
    def open(self) -> None:
        """Begin to show."""

    @abstractmethod
    def close(self) -> None:
        """Leave the terminal in order."""


class LineScreen(Screen):
    """Plain lines: one a training that ended, and one for about every tenth of the epochs."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._tenths: dict[str, int] = {}

    def advance(self, what: str, done: int, total: int, note: str) -> None:
        """Write a line where another tenth is done."""
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
        """Draw nothing."""

    def close(self) -> None:
        """Leave nothing behind."""


class BarScreen(Screen):
    """A bar a teacher and one for all trainings; what failed stands above them."""

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
        """Move a bar, which appears when it is first heard of."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(_plain(what), total=total, note="")
        self._bars.update(self._tasks[what], completed=done, total=total, note=_plain(note))

    def tell(self, line: str, *, failed: bool) -> None:
        """Write what failed; what ended well is in the bars."""
        if failed:
            self.note(line)

    def note(self, line: str) -> None:
        """Write the line above the bars."""
        self._bars.console.print(line, markup=False)

    def open(self) -> None:
        """Begin to draw."""
        self._bars.start()

    def close(self) -> None:
        """Stop drawing; the last state stays."""
        self._bars.stop()


class Progress:
    """Follows the trainings of a run on a terminal or in lines."""

    def __init__(
        self,
        trainings: int,
        epochs: int,
        *,
        finished: int = 0,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Expect so many trainings with so many epochs in all, some of which an earlier process did."""
        self._trainings = trainings
        self._finished = finished
        self._early = 0
        self._broke = 0
        self._pace = Pace(epochs, done, clock)
        terminal = console()
        self._screen: Screen = BarScreen(terminal) if terminal.is_terminal else LineScreen()

    def __enter__(self) -> Self:
        """Begin to show."""
        self._screen.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal in order."""
        self._screen.close()

    def teacher(self, name: str, epoch: int, epochs: int) -> None:
        """Hear of an epoch of a teacher's training."""
        self._screen.advance(f"teacher {name}", epoch + 1, epochs, "")

    def waiting(self, name: str) -> None:
        """Hear that another run trains a teacher now, so that this one waits."""
        self._screen.note(f"teacher {name}: another run trains the same teacher now; this run waits for it")

    def ready(self, name: str, facts: Mapping[str, object], source: str) -> None:
        """Hear that a teacher was trained or verified; a source is ``auto`` or the path of its weights."""
        tested = [name for name in _leading(facts) if name.startswith("test_")]
        measured = "".join(f", {_in_words(name, facts[name])}" for name in tested)
        weights = "trained here" if source == "auto" else source
        self._screen.note(f"teacher {name}: {facts['parameters']:,} parameters{measured} ({weights})")

    def warn(self, line: str) -> None:
        """Tell what is odd."""
        self._screen.note(f"warning: {line}")

    def look(self, decision: str) -> None:
        """Hear what a declared look decided, or another sentence for the user."""
        self._screen.note(decision)

    def epoch(self, run: str, seed: int | None, epoch: int) -> None:
        """Hear of an epoch of a training."""
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
        reason: str | None = None,
    ) -> None:
        """Hear that a training has its row, after its last ``epoch``; a reason says why it ended early."""
        self._finished += 1
        self._early += reason is not None
        self._pace.skip(epochs - 1 - epoch)
        count = f"({self._finished} of {self._trainings})"
        end = f"ended after epoch {epoch}: {reason}" if reason else f"finished, {figures(metrics)}"
        self._screen.tell(f"{arm}, seed {seed}: {end} {count}", failed=reason is not None)
        self._advance()

    def failed(self, arm: str, seed: int | None, epoch: int, epochs: int, reason: str | None) -> None:
        """Hear that a training broke after its ``epoch``; only a resume tries it again."""
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


def figures(metrics: Mapping[str, object]) -> str:
    """Return the first two figures of a training that a reader looks for, ``test top-1 (%) 71.20``."""
    known = [*_leading(metrics), *([LOSS] if isinstance(metrics.get(LOSS), float) else [])]
    return ", ".join(f"{heading(name, ())} {metrics[name]:.2f}" for name in known[:2]) or "nothing measured"


def _leading(metrics: Mapping[str, object]) -> list[str]:
    """Return the first metric of the test set and the first of the validation set, which are the headline's."""
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
    """Keep brackets in names from being read as rich's markup."""
    return text.replace("[", r"\[")
