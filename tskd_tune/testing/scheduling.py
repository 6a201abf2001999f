"""The contract of schedulers."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

import pytest

from tskd_tune.plain import Document
from tskd_tune.sweeps.scheduling.schedulers import SCHEDULERS, stops_trials
from tskd_tune.testing.base import Contract, Options, check_description, own_options

METRIC = "val_loss"
MODES = ("min", "max")
EPOCHS, TRIALS = 24, 12
FIRST_REVIEW, CYCLE = 2, 3
REVIEWS = [list(range(FIRST_REVIEW, EPOCHS, CYCLE))]

Decision: TypeAlias = tuple[int, int, str]
"""The number of a trial, an epoch, and what the scheduler decided after it."""


@dataclass(frozen=True)
class Trial:
    """What a scheduler reads of a trial of Ray Tune."""

    trial_id: str
    config: Document = field(default_factory=dict)


def trial(number: int) -> Trial:
    """Return the trial with a number."""
    return Trial(f"t{number}", {"number": number})


def result(number: int, epoch: int, mode: str) -> Document:
    """Return a trial's result after an epoch; trial 0 is the best in every epoch, all others are random."""
    value = 1.0 if number == 0 else Random(100 * number + epoch).random()
    return {
        METRIC: value if mode == "max" else -value,
        "epoch": epoch,
        "epochs": EPOCHS,
        "training_iteration": epoch + 1,
        "done": epoch + 1 == EPOCHS,
    }


def decided(scheduler: Any, mode: str, trials: int = TRIALS) -> list[Decision]:
    """Let trials train in turns, an epoch at a time, as Ray Tune would, and return the decisions in their order."""
    found: list[Decision] = []
    left = list(range(trials))
    for number in left:
        scheduler.on_trial_add(None, trial(number))
    for epoch in range(EPOCHS):
        for number in list(left):
            told = result(number, epoch, mode)
            decision = "STOP" if told["done"] else scheduler.on_trial_result(None, trial(number), told)
            found.append((number, epoch, decision))
            if decision == "STOP":
                scheduler.on_trial_complete(None, trial(number), told)
                left.remove(number)
    return found


class SchedulerContract(Contract):
    """The requirements for every scheduler, tested on twelve trials of 24 epochs that review every third epoch.

    A scheduler may stop trials; it must not pause them, because a trial's process then trains another trial.

    Attributes:
        flips: option -> options with another value of this option, with which another decision is taken.
    """

    def made(self, name: str, mode: str = "min", over: Options | None = None) -> Any:
        """Return a new scheduler."""
        options = {**self.options_of(name), **(over or {})}
        return SCHEDULERS.build(name, EPOCHS, REVIEWS, METRIC, mode, **options)

    def test_it_is_a_scheduler_of_ray_tune(self, name: str) -> None:
        """Ray Tune accepts the scheduler; metric and mode are given to the factory and not by Ray Tune."""
        from ray.tune.schedulers import TrialScheduler

        scheduler = self.made(name)
        assert isinstance(scheduler, TrialScheduler)
        assert scheduler.set_search_properties(None, None)
        assert isinstance(scheduler.debug_string(), str)

    @pytest.mark.parametrize("mode", MODES)
    def test_trials_go_on_or_stop(self, name: str, mode: str) -> None:
        """A trial goes on or is stopped; a scheduler whose factory has ``stops = False`` stops no trial."""
        early = [decision for _, epoch, decision in decided(self.made(name, mode), mode) if epoch + 1 < EPOCHS]
        assert set(early) <= {"CONTINUE", "STOP"}
        assert ("STOP" in early) == stops_trials(name), "set the attribute `stops` of the factory"

    @pytest.mark.parametrize("mode", MODES)
    def test_the_best_trial_runs_to_its_end(self, name: str, mode: str) -> None:
        """A trial that is the best in every epoch is not stopped, whether less or more is better."""
        assert (0, EPOCHS - 1, "STOP") in decided(self.made(name, mode), mode)

    def test_no_trial_is_stopped_before_its_first_review(self, name: str) -> None:
        """A trial is judged only after it has reviewed; before, its metric says nothing about the review."""
        assert all(
            epoch >= FIRST_REVIEW for _, epoch, decision in decided(self.made(name), "min") if decision == "STOP"
        )

    def test_the_same_results_give_the_same_decisions(self, name: str) -> None:
        """Decisions depend only on the options and the results, so a run can be repeated."""
        assert decided(self.made(name), "min") == decided(self.made(name), "min")

    def test_trials_may_break_diverge_or_never_run(self, name: str) -> None:
        """A scheduler is told of trials that broke, that diverged before any result, and that were removed."""
        scheduler = self.made(name)
        for number in range(TRIALS, TRIALS + 3):
            scheduler.on_trial_add(None, trial(number))
        scheduler.on_trial_error(None, trial(TRIALS))
        diverged = {**result(TRIALS + 1, 0, "min"), METRIC: 1e9, "failed": "the loss is not finite"}
        scheduler.on_trial_complete(None, trial(TRIALS + 1), diverged)
        scheduler.on_trial_remove(None, trial(TRIALS + 2))
        assert (0, EPOCHS - 1, "STOP") in decided(scheduler, "min")

    def test_every_option_changes_a_decision(self, name: str) -> None:
        """Every option has an effect: each entry of ``flips`` changes a decision."""
        flips = self.flips_of(name)
        assert set(flips) == own_options(SCHEDULERS, name), "flips needs an entry for every option"
        plain = decided(self.made(name), "min")
        for option, other in flips.items():
            assert decided(self.made(name, over=other), "min") != plain, f"{option} changes nothing"

    def test_it_is_described(self, name: str) -> None:
        """The scheduler and its options have descriptions."""
        check_description(SCHEDULERS, name)
