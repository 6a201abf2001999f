from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tskd_tune.errors import InputError
from tskd_tune.method.plan import ReviewPlan

ARMS = [(3, 5), (6, 5), (9, 5), (3, 10), (3, 15), (6, 10), (6, 15), (9, 10), (9, 15)]
# Reviews of 240 epochs, and those of them before epoch 150, for every arm in the order of ARMS.
COUNTS = {
    ("disjoint", "period", "delta"): "12/7 6/4 4/3 6/3 4/2 3/2 2/1 2/1 1/1",
    ("disjoint", "gap", "delta"): "10/6 5/3 4/2 5/3 3/2 3/2 2/1 2/1 1/1",
    ("chained", "period", "delta"): "15/9 7/4 5/3 7/4 5/3 3/2 2/1 2/1 1/1",
    ("chained", "gap", "delta"): "13/8 6/4 4/2 7/4 4/3 3/2 2/1 2/1 1/1",
    ("sliding", "period", "delta"): "45/27 42/24 39/21 21/12 13/7 18/9 10/4 15/6 7/1",
    ("sliding", "gap", "delta"): "37/22 34/19 31/16 19/11 12/7 16/8 9/4 13/5 6/1",
    ("disjoint", "period", "next"): "15/9 7/4 5/3 8/5 5/3 4/2 2/1 2/1 1/1",
}


def test_the_papers_default():
    plan = ReviewPlan(240, 3, 5)
    assert plan.review_epochs == (15, 35, 55, 75, 95, 115, 135, 155, 175, 195, 215, 235)
    assert plan.memory_epochs[:9] == (0, 5, 10, 20, 25, 30, 40, 45, 50)
    assert plan.memory_epochs[-3:] == (220, 225, 230)
    assert len(plan.memory_epochs) == 36
    assert [plan.phase(epoch) for epoch in (0, 1, 15, 16, 20)] == [
        "memorize",
        "general",
        "review",
        "general",
        "memorize",
    ]


@pytest.mark.parametrize(
    ("reading", "arm", "counts"),
    [
        (reading, arm, tuple(int(count) for count in cell.split("/")))
        for reading, row in COUNTS.items()
        for arm, cell in zip(ARMS, row.split(), strict=True)
    ],
)
def test_counts_of_every_reading(reading, arm, counts):
    cycle, spacing, offset = reading
    plan = ReviewPlan(240, *arm, cycle=cycle, spacing=spacing, review_offset=offset)
    assert (len(plan.review_epochs), sum(epoch < 150 for epoch in plan.review_epochs)) == counts


@pytest.mark.parametrize("arm", ARMS)
def test_beginning_with_an_interval_keeps_the_counts(arm):
    late = ReviewPlan(240, *arm, first_memory="interval")
    assert len(late.review_epochs) == len(ReviewPlan(240, *arm).review_epochs)


@pytest.mark.parametrize(
    ("options", "memories", "reviews"),
    [
        ({}, (0, 2, 6, 8, 12), (4, 10)),
        ({"spacing": "gap"}, (0, 3, 9, 12), (6,)),
        ({"cycle": "chained"}, (0, 2, 4, 6, 8, 10, 12), (4, 8, 12)),
        ({"cycle": "chained", "spacing": "gap"}, (0, 3, 6, 9, 12), (6, 12)),
        ({"cycle": "sliding"}, (0, 2, 4, 6, 8, 10, 12), (4, 6, 8, 10, 12)),
        ({"cycle": "sliding", "spacing": "gap"}, (0, 3, 6, 9, 12), (6, 9, 12)),
        ({"review_offset": "next"}, (0, 2, 5, 7, 10, 12), (3, 8)),
        ({"review_offset": "next", "spacing": "gap"}, (0, 3, 7, 10), (4, 11)),
        ({"first_memory": 3}, (3, 5, 9, 11), (7,)),
        ({"first_memory": "interval"}, (1, 3, 7, 9), (5, 11)),
        ({"first_memory": "interval", "spacing": "gap"}, (2, 5, 11), (8,)),
        ({"max_reviews": 1}, (0, 2), (4,)),
        ({"max_reviews": 1, "cycle": "chained"}, (0, 2), (4,)),
        ({"max_reviews": 2, "cycle": "sliding"}, (0, 2, 4), (4, 6)),
        ({"review_window": [5, 12]}, (0, 2, 6, 8, 12), (10,)),
        ({"review_window": [6, 10], "cycle": "sliding"}, (0, 2, 4, 6, 8, 10, 12), (6, 8, 10)),
        ({"review_window": [6, 12], "cycle": "sliding", "max_reviews": 1}, (0, 2, 4), (6,)),
    ],
)
def test_small_plans_by_hand(options, memories, reviews):
    plan = ReviewPlan(13, 2, 2, **options)
    assert (plan.memory_epochs, plan.review_epochs) == (memories, reviews)


def test_a_node_may_be_both():
    assert ReviewPlan(13, 2, 2, cycle="chained").phase(4) == "memorize+review"
    assert ReviewPlan(13, 2, 2, cycle="chained", max_reviews=1).phase(4) == "review"


@pytest.mark.parametrize(
    ("fraction", "steps", "expected"), [(1.0, 391, 391), (0.5, 391, 196), (0.1, 30, 3), (0.001, 30, 1)]
)
def test_review_steps(fraction, steps, expected):
    assert ReviewPlan(240, 3, 5, review_fraction=fraction).review_steps(steps) == expected


def test_warnings():
    assert ReviewPlan(240, 3, 5).warnings([150, 180, 210]) == []
    few, late = ReviewPlan(240, 9, 15, first_memory=20).warnings([150])
    assert few.startswith("review: only 1 review in 240 epochs (epoch 155), fewer than 3;")
    assert late.startswith("review: the first review is epoch 155, but the learning rate drops at epoch 150;")
    assert "2 reviews in 240 epochs (epoch 90, 195)" in ReviewPlan(240, 6, 15).warnings([])[0]
    assert ReviewPlan(60, 3, 5).warnings([15])[0].startswith("review: the first review is epoch 15, but")
    assert ReviewPlan(60, 3, 5).warnings([16, 150]) == []


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (30, 9, 5),
            {},
            "review: the first review is epoch 45 but training has 30 epochs; lower k or delta, or train longer",
        ),
        ((15, 3, 5), {}, "the first review is epoch 15 but training has 15 epochs"),
        ((240, 0, 5), {}, "review.k: must be at least 1, got 0"),
        ((240, 3, 0), {}, "review.delta: must be at least 1, got 0"),
        ((240, 3, 5), {"cycle": "sliding", "review_offset": "next"}, "'next' is defined for cycle: disjoint only"),
        ((240, 3, 5), {"cycle": "chained", "review_offset": "next"}, "got cycle: chained"),
        ((240, 3, 5), {"review_window": [10]}, r"must be \[first, last\] epoch"),
        ((240, 3, 5), {"review_window": [10, 5]}, r"got \[10, 5\]"),
        ((240, 3, 5), {"review_window": [16, 34]}, "planned for 15, 35, 55, 75, ..., 235; widen"),
    ],
)
def test_refusals(arguments, options, message):
    with pytest.raises(InputError, match=message):
        ReviewPlan(*arguments, **options)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ReviewPlan(240, 3, 5).k = 4


readings = st.fixed_dictionaries(
    {
        "cycle": st.sampled_from(["disjoint", "chained", "sliding"]),
        "spacing": st.sampled_from(["period", "gap"]),
        "first_memory": st.integers(0, 9) | st.just("interval"),
        "max_reviews": st.none() | st.integers(1, 4),
    }
)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 60), readings)
def test_invariants(k, delta, beyond, options):
    interval = delta + (options["spacing"] == "gap")
    start = interval - 1 if options["first_memory"] == "interval" else options["first_memory"]
    epochs = start + k * interval + 1 + beyond
    plan = ReviewPlan(epochs, k, delta, **options)
    assert plan.review_epochs[0] == start + k * interval
    assert plan.memory_epochs[0] == start
    held: list[int] = []
    for epoch in range(epochs):
        if plan.reviews(epoch):
            assert [epoch - (k - i) * interval for i in range(k)] == held[-k:]
        if plan.memorizes(epoch):
            held.append(epoch)
    assert tuple(held) == plan.memory_epochs
    if options["cycle"] == "disjoint":
        assert not set(plan.memory_epochs) & set(plan.review_epochs)
    if options["max_reviews"] is not None:
        assert len(plan.review_epochs) <= options["max_reviews"]
        if len(plan.review_epochs) == options["max_reviews"]:
            assert plan.memory_epochs[-1] < plan.review_epochs[-1]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 60))
def test_a_review_right_after_its_last_memory(k, delta, beyond):
    epochs = (k - 1) * delta + 2 + beyond
    plan = ReviewPlan(epochs, k, delta, review_offset="next")
    for review in plan.review_epochs:
        assert plan.memorizes(review - 1)
        assert plan.memorizes(review + delta) == (review + delta < epochs)


def test_nodes_of_iterations_by_hand():
    # 3 epochs of 10 steps, nodes of 4 steps: seven nodes, steps 28 and 29 are general.
    plan = ReviewPlan(3, 2, 1, 10, node=4)
    assert plan.nodes == 7
    assert plan.memory_nodes == (0, 1, 3, 4, 6) and plan.review_nodes == (2, 5)
    assert plan.moments(plan.review_nodes) == [(0, 8), (2, 0)]  # steps 8 to 11, and 20 to 23
    assert plan.review_epochs == (0, 1, 2)
    assert plan.memory_epochs == (0, 1, 2)  # kept after steps 3, 7, 15, 19 and 27
    assert [plan.phase(epoch) for epoch in range(3)] == ["memorize+review"] * 3
    assert [plan.at(1, step) for step in (0, 1, 2)] == [(2, 2), (2, 3), (3, 0)]
    assert [plan.begun(0, step) for step in range(5)] == [0, None, None, None, 1]
    assert [plan.ended(epoch) for epoch in range(3)] == [None, 4, None]


def test_the_papers_detection_plan_reviews_three_times():
    plan = ReviewPlan(12, 3, 1)
    assert plan.review_epochs == (3, 7, 11)  # the 4th, the 8th and the 12th epoch
    by_steps = ReviewPlan(12, 3, 1, 7330, node=7330)
    assert (by_steps.memory_epochs, by_steps.review_epochs) == (plan.memory_epochs, plan.review_epochs)
    often = ReviewPlan(12, 3, 1, 7330, node=1000)
    assert len(often.review_nodes) == 21 and often.moments(often.review_nodes[:3]) == [(0, 3000), (0, 7000), (1, 3670)]


def test_a_node_may_be_longer_than_an_epoch():
    plan = ReviewPlan(12, 2, 1, 10, node=25)
    assert plan.nodes == 4 and plan.review_nodes == (2,)
    assert plan.review_epochs == (5, 6, 7) and plan.memory_epochs == (2, 4, 9)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 30))
def test_nodes_cover_each_step_once(epochs, steps, node):
    try:
        plan = ReviewPlan(epochs, 1, 1, steps, node=node)
    except InputError:
        assert epochs * steps // node < 2
        return
    numbers = [plan.at(epoch, step) for epoch in range(epochs) for step in range(steps)]
    assert numbers == [divmod(number, node) for number in range(epochs * steps)]
    begun = [plan.begun(epoch, step) for epoch in range(epochs) for step in range(steps)]
    assert [one for one in begun if one is not None] == list(range(-(-epochs * steps // node)))


def test_nodes_of_iterations_need_the_steps_and_say_their_unit():
    with pytest.raises(InputError, match=r"4 steps need the number of steps of an epoch"):
        ReviewPlan(3, 2, 1, node=4)
    with pytest.raises(InputError, match=r"first review is node 2 but training has 1 nodes of 9 steps"):
        ReviewPlan(1, 2, 1, 10, node=9)
