"""Progress: epochs counted once, a time left that is measured, lines without a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tskd_tune.cli.training import progress
from tskd_tune.cli.training.progress import LineScreen, Pace, Progress
from tskd_tune.metrics import Metric


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def trained(pace: Pace, clock: Clock, epochs: range, arm: str = "kd", seconds: float = 2.0) -> None:
    for epoch in epochs:
        clock.now += seconds
        pace.trained(arm, 1, epoch)


def test_the_time_left_is_the_epochs_left_at_the_measured_rate() -> None:
    clock = Clock()
    pace = Pace(20, 0, clock)
    trained(pace, clock, range(2))
    assert pace.left() is None, "two epochs are no rate"
    trained(pace, clock, range(2, 5))
    # Four epochs in the 8 s since the first one ended, and 15 to go.
    assert pace.left() == pytest.approx(15 * 8 / 4)
    clock.now += 8
    assert pace.left() == pytest.approx(15 * 16 / 4), "a standstill makes it longer"


def test_an_epoch_that_was_trained_again_counts_once() -> None:
    clock = Clock()
    pace = Pace(20, 0, clock)
    trained(pace, clock, range(4))
    trained(pace, clock, range(2, 4))
    assert pace.done == 4
    trained(pace, clock, range(4), arm="at")
    assert pace.done == 8


def test_a_resumed_run_goes_on_where_it_was() -> None:
    clock = Clock()
    pace = Pace(20, 10, clock)
    trained(pace, clock, range(6, 9))
    assert pace.done == 13
    assert pace.left() == pytest.approx(7 * 2.0), "what an earlier process did is not for the rate"


def test_what_ended_early_is_not_waited_for() -> None:
    pace = Pace(20, 0, Clock())
    pace.trained("kd", 1, 0)
    pace.skip(9)
    assert pace.total == 11
    pace.skip(99)
    assert pace.total == pace.done == 1


def test_lines_come_a_tenth_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    screen = LineScreen()
    for done in range(1, 101):
        screen.advance("training", done, 100, "note")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"training: {done} of 100 epochs, note" for done in range(10, 101, 10)]


def test_a_run_is_followed_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(2, 8, clock=clock) as shown:
        shown.teacher("resnet56", 0, 2)
        shown.ready("resnet56", {"parameters": 861620, "test_top1": 72.34}, "auto")
        for epoch in range(4):
            clock.now += 1
            shown.epoch("kd", 1, epoch)
        shown.finished("kd", 1, 3, 4, metrics={"test_top1": 71.25, "val_top1": 70.0, "loss": 0.5})
        shown.epoch("at", 1, 0)
        shown.finished("at", 1, 0, 4, metrics={}, reason="the loss is not finite")
        shown.failed("gone", 2, -1, 4, "a worker was lost")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "teacher resnet56: 1 of 2 epochs"
    assert lines[1] == "teacher resnet56: 861,620 parameters, test top-1 72.34 % (trained here)"
    assert "training: 4 of 8 epochs, 0 of 2 trainings finished, about 4.0 s left" in lines
    assert "kd, seed 1: finished, test top-1 (%) 71.25, val top-1 (%) 70.00 (1 of 2)" in lines
    assert "at, seed 1: ended after epoch 0: the loss is not finite (2 of 2)" in lines
    assert "training: 5 of 5 epochs, 2 of 2 trainings finished, 1 ended early, about 0.0 s left" in lines
    assert "gone, seed 2: broke: a worker was lost" in lines


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    terminal = Console(file=file, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(progress, "console", lambda: terminal)
    with Progress(1, 2) as shown:
        shown.teacher("[bold]", 0, 1)
        shown.epoch("kd", 1, 0)
        shown.failed("kd", 1, 1, 2, "[reason]")
        shown.epoch("kd", 1, 1)
        shown.finished("kd", 1, 1, 2, metrics={})
    drawn = file.getvalue()
    assert "teacher [bold]" in drawn and "2/2" in drawn
    assert "kd, seed 1: broke: [reason]" in drawn
    assert "1 of 1 trainings finished, 1 broke" in drawn
    assert "kd, seed 1: finished" not in drawn, "what ended well is in the bar"


def test_figures_are_the_first_two_that_were_measured() -> None:
    assert progress.figures({"loss": 0.5, "val_top1": 70.0, "epoch": 3}) == "val top-1 (%) 70.00, loss 0.50"
    assert progress.figures({"epoch": 3}) == "nothing measured"
    ap = Metric("ap", "AP", "%", "max")
    assert progress.figures({"test_ap": 30.0}, [ap]) == "test AP (%) 30.00"


def test_a_training_that_ends_in_its_first_epoch_has_no_epoch_before(capsys: pytest.CaptureFixture[str]) -> None:
    Progress(1, 2).finished("kd", 1, -1, 2, metrics={}, reason="the loss is not finite")
    assert "kd, seed 1: ended in its first epoch: the loss is not finite (1 of 1)" in capsys.readouterr().out
