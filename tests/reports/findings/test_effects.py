from __future__ import annotations

import pytest

from tskd_tune.errors import InputError
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.reports.findings import effects


def an_experiment(k=3, delta=5, sequence="increment", weight=1.0, **rest):
    review = {"k": k, "delta": delta, "lambda": weight, "sequence": sequence}
    return {"seed": 1, "distiller": {"name": "none"}, "review": review} | rest


# k and delta


def test_arms_that_differ_only_in_k_and_delta_stand_together(an_arm):
    budgets = {(3, 5): 12, (6, 5): 6, (3, 10): 6, (9, 5): 4, (3, 15): 4}
    arms = [
        an_arm(f"{k} {d}", an_experiment(k, d, seed=k * d), reviews=n, interval=(69, 72))
        for (k, d), n in budgets.items()
    ]
    (found,) = effects.responses(arms)
    assert [(point.k, point.delta) for point in found.points] == sorted(budgets)
    assert found.varied == ["k", "delta"]
    assert found.points[0] == effects.Point("3 5", 3, 5, 12, 5, 70.0, (69, 72))
    assert {value: [p.k for p in points] for value, points in found.lines("k").items()} == {
        5: [3, 6, 9],
        10: [3],
        15: [3],
    }
    assert {value: [p.delta for p in points] for value, points in found.lines("delta").items()} == {
        3: [5, 10, 15],
        6: [5],
        9: [5],
    }
    assert {n: [p.arm for p in points] for n, points in found.matched().items()} == {
        4: ["3 15", "9 5"],
        6: ["3 10", "6 5"],
    }


def test_a_budget_is_matched_only_where_k_and_delta_both_differ(an_arm):
    arms = [an_arm("a", an_experiment(3, 40), reviews=2), an_arm("b", an_experiment(3, 41), reviews=2)]
    (found,) = effects.responses(arms)
    assert found.varied == ["delta"]
    assert found.matched() == {}


@pytest.mark.parametrize(
    "other", [an_experiment(6, weight=2.0), an_experiment(6, distiller={"name": "kd"}), an_experiment(6, review=None)]
)
def test_arms_that_differ_in_more_are_no_response(an_arm, other):
    first = an_arm("a", an_experiment(3))
    assert effects.responses([first, an_arm("b", other)]) == []
    assert len(effects.responses([first, an_arm("b", an_experiment(6))])) == 1


def test_an_arm_without_a_finished_seed_has_no_place_and_one_seed_no_interval(an_arm):
    means = {"a": 70.0, "b": None, "c": 70.0}
    arms = [an_arm(name, an_experiment(3 + place), mean=mean) for place, (name, mean) in enumerate(means.items())]
    (found,) = effects.responses(arms)
    assert [(point.arm, point.interval) for point in found.points] == [("a", None), ("c", None)]


def test_what_cannot_be_k_is_refused(an_arm):
    with pytest.raises(InputError, match=r"a: review.k and review.delta must be whole numbers, got 'x' and 5"):
        effects.responses([an_arm("a", an_experiment(k="x"))])


# Sequences


def test_increments_are_paired_with_the_feature_maps_that_differ_in_nothing_else(an_arm):
    experiments = {
        "t0": an_experiment(sequence="feature_map"),
        "t1": an_experiment(review=None),
        "t2": an_experiment(seed=9),
        "t3": an_experiment(k=6),
        "t4": an_experiment(k=9, sequence="feature_map"),
    }
    arms = [an_arm(name, experiment) for name, experiment in experiments.items()]
    assert effects.sequence_pairs(arms) == [effects.SequencePair(increment=2, feature_map=0)]


# What a search has tried


def test_each_parameter_that_varies_is_set_against_the_headline(an_arm):
    def trial(mean, **point):
        return an_arm(str(point), mean=mean, point=point)

    arms = [
        trial(60.0, k=1, weight=0.1, kind="a", same=1), trial(61.0, k=3, weight=30.0, same=1),
        trial(None, k=9, weight=1.0, kind="b", same=2), trial(62.0, k=2, weight=5.0, kind="c", same=1),
    ]  # fmt: skip
    k, kind, weight = effects.slices(arms)
    assert (kind.parameter, kind.values, kind.means, kind.numbers) == ("kind", ("a", "c"), (60.0, 62.0), None)
    assert (k.values, k.numbers, k.is_wide) == ((1, 3, 2), [1, 3, 2], False)
    assert (weight.parameter, weight.is_wide, len(weight.arms)) == ("weight", True, 3)


# L_ST falls and the gap stays


def a_seed(losses, gaps, every=5):
    lines = [{"seed": 1, "epoch": epoch, "phase": "general"} for epoch in range(every * len(losses) + every)]
    for index, (loss, gap) in enumerate(zip(losses, gaps, strict=True), start=1):
        lines[index * every] |= {"review_loss": loss, "teacher_gap": gap}
    return [HistoryLine.read(line) for line in lines]


def test_a_falling_loss_over_a_flat_gap_is_a_failure():
    found = effects.gap_change("tskd", [a_seed([4, 2, 2, 1, 0.5, 0.7], [0.2, 0.2, 0.3, 0.1, 0.19, 0.19])])
    assert (found.seeds, found.reviews, found.shown, found.failed) == (1, 6, 1, True)
    assert (found.loss, found.gap) == (pytest.approx(0.2), pytest.approx(0.95))
    assert found.sentence == (
        "'tskd': from the first 2 reviews to the last 2 of 6, L_ST went to 20 % of what it was and the gap to the "
        "teacher to 95 % (one seed). L_ST fell but the gap stayed: the extractors learned, the student did not (in the "
        "only seed)."
    )


@pytest.mark.parametrize(
    ("losses", "gaps", "failed"),
    [
        ([1, 0.7, 0.5], [1, 1, 0.9], True),
        ([1, 0.7, 0.51], [1, 1, 0.9], False),
        ([1, 0.7, 0.5], [1, 1, 0.89], False),
        ([1, 0.7, 0.5], [1, 1, 1.4], True),
        ([1, 0.5, 0.25], [1, 0.7, 0.5], False),
        ([1, 1, 1], [1, 1, 1], False),
        ([1, 2, 3], [1, 1, 0.2], False),
        ([1, 0.1, 0.0], [1, 1, 1], True),
    ],
)
def test_the_rule_is_half_the_loss_over_nine_tenths_of_the_gap(losses, gaps, failed):
    found = effects.gap_change("a", [a_seed(losses, gaps)])
    assert found.failed is failed
    assert ("L_ST fell but the gap stayed" in found.sentence) is failed
    assert ("No sign that the method fails" in found.sentence) is not failed


def test_the_median_seed_decides_and_the_seeds_that_show_it_are_counted():
    bad, good = a_seed([1, 1, 0.1], [1, 1, 1]), a_seed([1, 1, 0.1], [1, 1, 0.1])
    most = effects.gap_change("a", [bad, good, bad])
    assert (most.failed, most.seeds, most.shown) == (True, 3, 2)
    assert "the student did not (in 2 of 3 seeds)" in most.sentence
    few = effects.gap_change("a", [bad, good, good])
    assert (few.failed, few.shown) == (False, 1)
    assert few.sentence.endswith(
        "No sign that the method fails, although L_ST fell and the gap stayed in 1 of 3 seeds."
    )


def test_seeds_that_ended_early_do_not_count():
    whole, cut = a_seed([1, 1, 1, 1], [1, 1, 1, 1]), a_seed([1, 0.1, 0.01], [1, 1, 1])
    found = effects.gap_change("a", [cut, whole, cut])
    assert (found.seeds, found.reviews, found.failed, found.shown) == (1, 4, False, 0)


@pytest.mark.parametrize(
    "seeds",
    [
        [],
        [[]],
        [a_seed([1, 0.1], [1, 1])],
        [a_seed([1, 0.1, None], [1, 1, 1])],
        [a_seed([1, 0.1, 0.1], [1, None, 1])],
        [a_seed([1, 0.1, 0.1], [0, 0, 0])],
        [a_seed([0, 0, 0], [1, 1, 1])],
        [[HistoryLine(1, 0, numbers={"review_loss": 1.0})]],
    ],
)
def test_too_few_reviews_have_no_change(seeds):
    assert effects.gap_change("a", seeds) is None
