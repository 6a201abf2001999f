"""The suite ``tracking``: what W&B costs a sweep whose server is away, silent, or vanishes, by trials that sleep.

The trials of the suite `platform` are run without W&B and with W&B, in turns, on one cluster of Ray. The server is a
stub on loopback (`benchmarks.wandb_stub`). What W&B adds to an epoch, to a further trial and to the begin and the end
of a sweep is extrapolated to the sweep of the goal, as in the suite `platform`.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.exactness import ExactnessError
from benchmarks.platform import EPOCH, SECONDS, TRIALS, Course, Epoch, Setting, Tax, course, let_workers_import
from benchmarks.rows import Goal, Report, Row, Spent
from benchmarks.wandb_stub import KEY, Server

LIMIT = 1.02
"""The goal: the time with W&B over the time without, whatever its server does."""


@dataclass(frozen=True)
class Case:
    """A way in which the server fails.

    Attributes:
        name: the words for it; empty: no W&B at all.
        begins: puts the server into its state before the sweep.
        goes: puts the server into its state in the middle of the sweep.
        after: makes the server answer again.
    """

    name: str
    begins: Callable[[Server], object] = lambda server: None
    goes: Callable[[Server], object] | None = None
    after: Callable[[Server], object] = lambda server: None


def _hang(server: Server) -> None:
    server.trouble = "hangs"


CASES = (
    Case(""),
    Case("W&B answers"),
    Case("W&B away from the start", Server.close, None, Server.open),
    Case("W&B accepts and never answers", _hang, None, Server.recover),
    Case("W&B away from the middle, never back", goes=Server.close, after=Server.open),
)


@dataclass(frozen=True)
class Measured:
    """A sweep that ran: its course, and the seconds of the whole call before its first epoch and after its last row."""

    course: Course
    around: float

    @property
    def cpu(self) -> float:
        """CPU seconds of the worker's process for a trial, with W&B's threads in that process."""
        trials: dict[str, list[Epoch]] = {}
        for epoch in self.course.epochs:
            trials.setdefault(epoch.trial, []).append(epoch)
        spent = [of[-1].ended.cpu - of[0].begun.cpu for of in trials.values()]
        return median(spent)

    @property
    def tax(self) -> Tax:
        """What the platform and W&B add to an epoch and to a further trial."""
        return Tax(self.course.reported().wall, median(gap.wall for gap in self.course.between(trials=True)), 0.0)


def run(*, quick: bool) -> Report:
    """Measure each case in turn, and again."""
    from tskd_tune.sweeps.on_ray.ray_session import session

    let_workers_import()
    setting, rounds = Setting(3, 8, EPOCH), 1 if quick else 3
    server = Server()
    os.environ.pop("WANDB_MODE", None)
    os.environ.update(WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY)
    found: dict[str, list[Measured]] = {case.name: [] for case in CASES}
    with tempfile.TemporaryDirectory(prefix="tracking-") as name:
        folder = Path(name)
        os.environ["HOME"] = name  # no account of this machine
        with session(folder / "ray"):
            course(Setting(2, 5, 0.01), folder, "warm-up", track=True)
            for turn in range(rounds):
                for number, case in enumerate(CASES):
                    found[case.name].append(_measured(case, setting, server, folder, f"{number}-{turn}"))
    server.close()
    _refuse_other_numbers(found)
    return _report(found)


def _refuse_other_numbers(found: Mapping[str, Sequence[Measured]]) -> None:
    """Refuse a W&B that changes a number.

    Raises:
        ExactnessError: losses differ.
    """
    losses = {tuple(epoch.loss for epoch in one.course.epochs) for measured in found.values() for one in measured}
    if len(losses) > 1:
        raise ExactnessError("tracking: sweeps with and without W&B have different losses")


def _measured(case: Case, setting: Setting, server: Server, folder: Path, name: str) -> Measured:
    case.begins(server)
    seconds = setting.trials * setting.epochs * setting.seconds
    timer = None if case.goes is None else threading.Timer(seconds / 2, case.goes, [server])
    if timer is not None:
        timer.start()
    begun = time.perf_counter()
    found = course(setting, folder, name, track=bool(case.name))
    whole = time.perf_counter() - begun
    if timer is not None:
        timer.join()
    case.after(server)
    return Measured(found, whole - found.span)


def _report(found: Mapping[str, Sequence[Measured]]) -> Report:
    without, around = _tax(found[""]), median(one.around for one in found[""])
    bare = TRIALS * SECONDS + without.seconds
    rows, notes = [], [HOW]
    for name, measured in found.items():
        if not name:
            continue
        tax, once = _tax(measured), max(0.0, median(one.around for one in measured) - around)
        whole = TRIALS * SECONDS + tax.seconds + once
        goal = Goal(f"{TRIALS} trials of {SECONDS:g} s over the time without W&B", whole / bare, LIMIT, at_least=False)
        cpu = median(one.cpu for one in measured) - median(one.cpu for one in found[""])
        more = {
            "trial_cpu_ms": 1000 * cpu,
            "epoch_ms": 1000 * (tax.epoch - without.epoch),
            "trial_ms": 1000 * (tax.trial - without.trial),
            "once_s": once,
        }
        rows.append(_row(name, whole, bare, (goal,), more))
        spans = [f"{one.course.span / other.course.span:.4f}" for one, other in zip(measured, found[""], strict=True)]
        notes.append(f"{name}: as measured, first epoch to last row over the same without W&B: {', '.join(spans)}")
    return Report(tuple(rows), notes=tuple(notes))


HOW = (
    "how: tskd_tune.sweep, one trial at a time, each case after the other, in turns; what W&B adds to an epoch and to a"
    f" further trial, and once to the begin and the end of a sweep, extrapolated to {TRIALS} trials of {SECONDS:g} s"
)


def _tax(of: Sequence[Measured]) -> Tax:
    return Tax(median(one.tax.epoch for one in of), median(one.tax.trial for one in of), 0.0)


def _row(name: str, whole: float, bare: float, goals: tuple[Goal, ...], more: Mapping[str, float]) -> Row:
    return Row(
        suite="tracking",
        name=name,
        device="cpu",
        precision="float32",
        layout="NCHW",
        unit="sweep",
        clock="wall",
        ours=Spent(whole, 0.0),
        reference=Spent(bare, 0.0),
        exactness="bitwise",
        compared="the losses of each sweep, with those of the sweep without W&B",
        goals=goals,
        more=more,
    )
