"""Schedulers, driven by hand: where their rungs lie, whom they stop, and what they learn from an earlier process."""

import re
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule

from tskd_tune.errors import InputError
from tskd_tune.sweeps.messages.results import EpochMeans, TrialResult
from tskd_tune.sweeps.scheduling.schedulers import SCHEDULERS, refuse_unmeasured, stops_trials, unfit
from tskd_tune.sweeps.searching.known import Known
from tskd_tune.training.schedule import Schedule

EPOCHS = 4


class Trial:
    """What a scheduler takes of a trial of Ray Tune."""

    def __init__(self, number: int):
        self.trial_id = f"t{number}"
        self.config = {"number": number}


def result(epoch: int, value: float) -> dict[str, Any]:
    return {"epoch": epoch, "epochs": EPOCHS, "training_iteration": epoch + 1, "val_top1": value}


def rungs_of(one: Any) -> list[list[int]]:
    return one.brackets


def scheduler(first_review: int | None = 20, epochs: int = 240, **options: Any):
    reviews = [] if first_review is None else [[first_review]]
    return SCHEDULERS.build("asha", epochs, reviews, "val_top1", "max", **options)


def test_asha_waits_for_the_first_review():
    assert rungs_of(scheduler(20)) == [[21, 63, 189]]
    assert rungs_of(scheduler(None)) == [[1, 3, 9, 27, 81]]
    assert rungs_of(scheduler(20, grace=60)) == [[60, 180]]
    assert rungs_of(scheduler(20, grace=21)) == [[21, 63, 189]]
    assert rungs_of(scheduler(20, reduction_factor=2)) == [[21, 42, 84, 168]]
    assert rungs_of(scheduler(20, brackets=2)) == [[21, 63, 189], [63, 189]]
    one = scheduler(20)
    assert (one.judged_by, one.mode) == ("val_top1", "max")


def reviews_of(k: int, delta: int, epochs: int = 240) -> list[int]:
    """Review epochs of disjoint cycles, written out: k memories delta apart, then a review."""
    cycle = (k + 1) * delta
    return [epoch for epoch in range(epochs) if epoch % cycle == k * delta]


def test_rungs_are_rounded_up_to_the_ends_of_the_longest_cycle():
    """With 3 memories 5 epochs apart a cycle has 20 epochs and ends with its review, after 16, 36, 56, ... epochs."""

    def asha(*reviews: list[int], **options: Any) -> list[list[float]]:
        return rungs_of(SCHEDULERS.build("asha", 240, reviews, "val_top1", "max", **options))

    assert reviews_of(3, 5)[:3] == [15, 35, 55]
    assert asha(reviews_of(3, 5)) == [[16, 56, 156]]
    assert asha(reviews_of(3, 5), grace=30) == [[36, 96]]
    # Of several points the one with the longest cycle counts, in whichever order, and never its shorter neighbors.
    long = reviews_of(6, 5)
    assert long[:3] == [30, 65, 100]
    assert asha(reviews_of(3, 5), long) == asha(long, reviews_of(3, 5)) == [[31, 101]]
    # Behind the last review every epoch will do.
    assert asha(reviews_of(3, 5)[:2]) == [[16, 48, 144]]
    assert asha(reviews_of(3, 5), brackets=2) == [[16, 56, 156], [56, 156]]
    # Where two rungs end in the same cycle one is left.
    assert asha(reviews_of(9, 10), grace=95, reduction_factor=2) == [[191]]


def test_no_rung_lies_within_a_cycle_whatever_the_plan():
    for k in (1, 3, 6):
        for delta in (1, 4, 7):
            reviews = reviews_of(k, delta)
            (found,) = rungs_of(SCHEDULERS.build("asha", 240, [reviews], "val_top1", "max"))
            assert all(rung - 1 in reviews or rung > reviews[-1] for rung in found)
            assert found[0] == reviews[0] + 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"grace": 20},
            "scheduler.grace: 20 epochs would compare runs before their first review, which can be as late as epoch 20",
        ),
        ({"grace": 241}, "scheduler.grace: 241 epochs are more than the 240 of training"),
        (
            {"brackets": 4},
            "scheduler.brackets: 4 brackets, but from epoch 21 to 240 by a factor of 3 there are 3 rungs",
        ),
    ],
)
def test_asha_refuses(options: dict[str, int], sentence: str):
    with pytest.raises(InputError) as error:
        scheduler(20, **options)
    assert sentence in str(error.value)


def test_asha_needs_a_factor_that_halves():
    with pytest.raises(ValidationError, match="reduction_factor"):
        scheduler(20, reduction_factor=1)


@pytest.mark.parametrize(("mode", "ends"), [("max", ["CONTINUE", "STOP"]), ("min", ["CONTINUE", "CONTINUE"])])
def test_asha_stops_the_worse_and_keeps_the_better(mode: str, ends: list[str]):
    one = SCHEDULERS.build("asha", EPOCHS, [[1]], "val_top1", mode)
    decisions = []
    for number, value in enumerate((90.0, 10.0)):
        assert one.on_trial_result(None, Trial(number), result(0, value)) == "CONTINUE"
        decisions.append(one.on_trial_result(None, Trial(number), result(1, value)))
    assert decisions == ends


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("factor", [2, 3])
def test_without_cycles_halving_decides_as_tunes_own(mode: str, factor: int):
    """Trials advance in turns with random metrics; every decision is that of Ray Tune's scheduler."""
    chance = np.random.default_rng(factor)
    epochs = 30
    ours = SCHEDULERS.build("asha", epochs, [], "val_top1", mode, grace=2, reduction_factor=factor)
    theirs = AsyncHyperBandScheduler(
        metric="val_top1", mode=mode, max_t=epochs, grace_period=2, reduction_factor=factor
    )
    left = dict.fromkeys(range(40), 0)
    stopped = 0
    for number in left:
        theirs.on_trial_add(None, Trial(number))
    while left:
        number = int(chance.choice(list(left)))
        told = result(left[number], float(chance.normal()))
        decision = ours.on_trial_result(None, Trial(number), told)
        assert decision == theirs.on_trial_result(None, Trial(number), told) or left[number] + 1 == epochs
        left[number] += 1
        if decision == "STOP" or left[number] == epochs:
            stopped += decision == "STOP"
            for one in (ours, theirs):
                one.on_trial_complete(None, Trial(number), told)
            del left[number]
    assert 10 < stopped < 40


def test_a_resumed_asha_judges_as_if_it_had_run_on():
    """What an earlier process trained is recorded: the metric of a diverged trial is the worst."""
    whole, resumed = (SCHEDULERS.build("asha", EPOCHS, [[1]], "val_top1", "max") for _ in range(2))
    for epoch in range(2):
        whole.on_trial_result(None, Trial(0), result(epoch, 50.0))
    whole.on_trial_complete(None, Trial(1), {**result(1, -1e9), "failed": "the loss is not finite"})
    results = [EpochMeans(epoch, {"val_top1": 50.0}) for epoch in range(2)]
    failed = TrialResult(1, EPOCHS, [], failed="the loss is not finite")
    resumed.take_up({0: Known({}, results), 1: Known({}, [], failed)})
    for number, value in ((2, 40.0), (3, 60.0), (0, 50.0)):
        decisions = {one.on_trial_result(None, Trial(number), result(1, value)) for one in (whole, resumed)}
        assert len(decisions) == 1
    fresh = SCHEDULERS.build("asha", EPOCHS, [[1]], "val_top1", "max")
    assert fresh.on_trial_result(None, Trial(2), result(1, 40.0)) == "CONTINUE", "it knows of no better one"
    assert resumed.on_trial_result(None, Trial(4), result(1, 40.0)) == "STOP"


def test_a_trial_that_was_stopped_just_before_the_driver_died_is_stopped_when_it_goes_on():
    """The history has the trial's last line, but no row: the driver died between the two."""

    def history(*values: float) -> list[EpochMeans]:
        return [EpochMeans(epoch, {"val_top1": value}) for epoch, value in enumerate(values)]

    one = SCHEDULERS.build("asha", 30, [], "val_top1", "max", grace=2)
    known = {
        0: Known({}, history(50.0, 40.0)),  # behind trial 2, which has a higher number
        1: Known({}, history(50.0, 40.0, 40.0)),  # has trained on after the rung, so it was not stopped there
        2: Known({}, history(50.0, 60.0), TrialResult(1, 30, [])),
        3: Known({}, history(50.0)),  # before the rung
        4: Known({}, history(50.0, 70.0)),
        5: Known({}),
    }
    one.take_up(known)
    told = {number: one.on_trial_result(None, Trial(number), result(3, 99.0)) for number in known}
    assert told == {0: "STOP", 1: "CONTINUE", 2: "CONTINUE", 3: "CONTINUE", 4: "CONTINUE", 5: "CONTINUE"}
    again = SCHEDULERS.build("asha", 30, [], "val_top1", "max", grace=2)
    again.take_up(known)
    assert again.on_trial_result(None, Trial(0), result(1, 40.0)) == "STOP", "also where its checkpoint is older"


def test_a_stopped_trial_whose_checkpoint_is_older_trains_up_to_the_epoch_at_which_it_was_stopped():
    one = SCHEDULERS.build("asha", 30, [], "val_top1", "max", grace=2)
    left = [EpochMeans(epoch, {"val_top1": value}) for epoch, value in enumerate((50.0, 40.0))]
    one.take_up(
        {
            0: Known({}, left),
            1: Known({}, [EpochMeans(0, {}), EpochMeans(1, {"val_top1": 60.0})], TrialResult(1, 30, [])),
        }
    )
    told = [one.on_trial_result(None, Trial(0), result(epoch, 40.0)) for epoch in range(2)]
    assert told == ["CONTINUE", "STOP"]


@pytest.mark.parametrize(
    ("validation", "sentence"),
    [("every_epoch", ""), (3, ""), (2, "not evaluated after 3 epochs, .* 'asha' compares trials after 3, 9 epochs")],
)
def test_a_scheduler_is_refused_where_no_validation_is_evaluated_at_its_rungs(validation, sentence):
    schedules = [Schedule(12, 1), Schedule(12, 1, validation=validation)]
    asha = SCHEDULERS.build("asha", 12, [], "val_top1", "max", grace=3)
    if sentence:
        with pytest.raises(InputError, match=sentence):
            refuse_unmeasured("asha", asha, schedules)
        with pytest.raises(InputError, match="not evaluated after 1 epoch, .* compares trials after any epoch"):
            refuse_unmeasured("asha", object(), schedules)
    else:
        refuse_unmeasured("asha", asha, schedules)
    refuse_unmeasured("fifo", SCHEDULERS.build("fifo", 12, [], "val_top1", "max"), schedules)


def test_brackets_share_the_trials_the_same_way_in_every_process():
    one, other = (SCHEDULERS.build("asha", 240, [[20]], "val_top1", "max", brackets=2) for _ in range(2))
    chosen = [one._bracket(number) for number in range(200)]
    assert chosen == [other._bracket(number) for number in range(200)]
    assert 0.6 < chosen.count(0) / 200 < 0.85, "the bracket with three rungs is e times as likely as that with two"


def test_fifo_lets_every_trial_run():
    one = SCHEDULERS.build("fifo", EPOCHS, [], "val_top1", "max")
    assert [one.on_trial_result(None, None, result(epoch, 0.0)) for epoch in range(EPOCHS)] == ["CONTINUE"] * EPOCHS
    assert not stops_trials("fifo") and stops_trials("asha")


# Hyperband and the median stopping rule


def test_hyperband_has_a_bracket_for_each_rung_and_gives_each_about_the_same_epochs():
    one = SCHEDULERS.build("hyperband", 81, [], "val_top1", "max")
    assert rungs_of(one) == [[1, 3, 9, 27, 81], [3, 9, 27, 81], [9, 27, 81], [27, 81], [81]]
    chosen = [one._bracket(number) for number in range(8000)]
    shares = [chosen.count(bracket) / 8000 for bracket in range(5)]
    # Li et al. 2018, table 1: 81, 34, 15, 8 and 5 configurations begin in the five brackets.
    assert shares == pytest.approx([n / 143 for n in (81, 34, 15, 8, 5)], abs=0.03)
    assert rungs_of(SCHEDULERS.build("hyperband", 240, [[20]], "val_top1", "max"))[0][0] == 21


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_median_rule_decides_as_tunes_own(mode: str):
    chance = np.random.default_rng(0)
    epochs, grace = 20, 4
    ours = SCHEDULERS.build("median_stopping", epochs, [[grace - 1]], "val_top1", mode)
    options = {"grace_period": grace, "min_time_slice": 1000}
    theirs = MedianStoppingRule(time_attr="training_iteration", metric="val_top1", mode=mode, **options)
    trials = [Trial(number) for number in range(30)]
    left, stopped = dict.fromkeys(range(30), 0), 0
    while left:
        number = int(chance.choice(list(left)))
        told = result(left[number], float(chance.normal() + number / 10))
        decision = ours.on_trial_result(None, trials[number], told)
        assert decision == theirs.on_trial_result(NoTrials, trials[number], told)
        assert decision == "CONTINUE" or left[number] + 1 >= grace, "nothing is stopped before its first review"
        left[number] += 1
        if decision == "STOP" or left[number] == epochs:
            stopped += decision == "STOP"
            del left[number]
    assert 3 < stopped < 27


class NoTrials:
    """A controller without waiting trials."""

    @staticmethod
    def get_live_trials() -> list[Trial]:
        return []


@pytest.mark.parametrize("name", ["hyperband", "median_stopping"])
def test_a_resumed_scheduler_judges_as_if_it_had_run_on(name: str):
    """One trial after the other, as with one place: the decisions are those of the unbroken run."""

    def value(number: int, epoch: int) -> float:
        return float(np.random.default_rng(100 * number + epoch).normal())

    def run(one: Any, numbers: range) -> dict[int, list[float]]:
        trained: dict[int, list[float]] = {}
        for number in numbers:
            values = trained.setdefault(number, [])
            for epoch in range(12):
                values.append(value(number, epoch))
                told = {**result(epoch, values[-1]), "epochs": 12}
                if epoch == 11 or one.on_trial_result(None, Trial(number), told) == "STOP":
                    one.on_trial_complete(None, Trial(number), told)
                    break
        return trained

    whole, first, second = (SCHEDULERS.build(name, 12, [[1]], "val_top1", "max") for _ in range(3))
    unbroken, begun = run(whole, range(20)), run(first, range(10))
    second.take_up(
        {
            number: Known(
                {},
                [EpochMeans(epoch, {"val_top1": value}) for epoch, value in enumerate(values)],
                TrialResult(len(values) - 1, 12, [], numbers={"val_top1": values[-1]}, done=True),
            )
            for number, values in begun.items()
        }
    )
    assert {**begun, **run(second, range(10, 20))} == unbroken
    assert 0 < sum(len(values) < 12 for values in unbroken.values()) < 20


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pbt", "'pbt' changes options in the middle of a training .*k and delta decide .* beside a search"),
        ("ray.tune.schedulers:PB2", "changes options in the middle"),
        ("bohb", "'bohb' pauses trials until others have caught up"),
        ("ray.tune.schedulers:HyperBandForBOHB", "pauses trials"),
        ("MedianStoppingRule", "'MedianStoppingRule' is called median_stopping here"),
        ("ray.tune.schedulers:ASHAScheduler", "is called asha here"),
    ],
)
def test_schedulers_of_tune_that_do_not_fit_are_refused_with_the_reason(name: str, sentence: str):
    assert re.search(sentence, unfit(name) or "")
    assert [known for known in SCHEDULERS.names() if unfit(known)] == []
