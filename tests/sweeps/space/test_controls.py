"""Control arms: what each changes, which fit, and that nothing is trained twice."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.space.controls import CONTROLS, Name

CHANGED = {
    "control_ce_kl": {"review": None, "distiller.name": "kd", "distiller.weight": 1.0, "distiller.task_weight": 1.0},
    "control_at_review": {"review.target.prediction_scale": 0.0},
    "control_at_every_epoch": {"review": None, "distiller.name": "at"},
    "control_detach": {"review.target.gradient": "detach"},
    "control_zeros": {"review.sequence_order": "zeros"},
    "control_shuffled": {"review.sequence_order": "shuffled"},
    "control_reversed": {"review.sequence_order": "reversed"},
    "control_random_memory": {"review.sequence_order": "random_memory"},
    "control_matched_budget_k4_delta2": {"review.k": 4},
    "control_matched_budget_k2_delta4": {"review.delta": 4},
    "control_matched_budget_k6_delta2": {"review.k": 6},
    "control_matched_budget_k2_delta6": {"review.delta": 6},
    "control_max_reviews_2": {"review.plan.max_reviews": 2},
    "control_max_reviews_1": {"review.plan.max_reviews": 1},
}


def sweep(tiny: dict[str, Any], **over: Any) -> Sweep:
    experiment = documents.merge(tiny, {"training": {"epochs": 24}, "review": {"delta": 2}})
    experiment["choice"] = {"plain": {"review": None}, "tskd": {}}
    return Sweep.read({"experiment": experiment, "seeds": [1], "search": {"name": "grid"}, **over})


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {key: leaf for name, part in value.items() for key, leaf in flat(part, f"{path}.{name}".strip(".")).items()}


def labels(given: Sweep) -> list[str]:
    return [point.label for point in given.space().grid()]


def test_every_control_changes_what_it_says_and_nothing_else(tiny_document: dict[str, Any]) -> None:
    assert list(CONTROLS) == list(get_args(Name))
    given = sweep(tiny_document, controls=True)
    arms = {point.label: flat(given.experiment_at(point).plain()) for point in given.space().grid()}
    assert list(arms) == ["plain", "tskd", *CHANGED]
    for label, change in CHANGED.items():
        ours, theirs = arms[label], arms["tskd"]
        assert {key: ours[key] for key in change} == change, label
        differing = {key for key in ours | theirs if ours.get(key) != theirs.get(key)}
        whole = {"review", "distiller"} if "review" in change else set()
        assert {key for key in differing if key.split(".")[0] not in whole} == change.keys() - {
            key for key in change if key.split(".")[0] in whole
        }, label
    assert given.derived.left_out == ["controls.ce: is the arm 'plain', which is not trained twice"]


def test_matched_budgets_review_as_often(tiny_document: dict[str, Any]) -> None:
    given = sweep(tiny_document, controls=["matched_budget"])
    points = {point.label: given.experiment_at(point).plan() for point in given.space().grid()}
    counts = {label: len(plan.review_epochs) for label, plan in points.items() if plan is not None}
    assert counts["control_matched_budget_k2_delta4"] == counts["control_matched_budget_k4_delta2"] == 2


def test_controls_of_a_named_arm(tiny_document: dict[str, Any]) -> None:
    given = sweep(tiny_document, controls={"of": "tskd", "arms": ["zeros"]})
    assert labels(given) == ["plain", "tskd", "control_zeros"]
    assert check(given) == []
    with pytest.raises(InputError, match=r"controls.of: there is no arm 'tsk'; did you mean 'tskd'\?"):
        sweep(tiny_document, controls={"of": "tsk"})
    with pytest.raises(InputError, match="controls.of: the arm 'plain' has no review to control"):
        sweep(tiny_document, controls={"of": "plain"})


def test_what_does_not_fit_is_left_out_or_refused_by_name(tiny_document: dict[str, Any]) -> None:
    short = documents.merge(tiny_document, {"training": {"epochs": 3}})
    document = {"experiment": short, "search": {"name": "grid"}}
    found = Sweep.read({**document, "controls": True})
    assert not any("matched" in label or "max_reviews" in label for label in labels(found))
    assert any("k 2, delta 2 and k 4, delta 1 review 0 and 0 times in 3" in why for why in found.derived.left_out)
    with pytest.raises(InputError, match=r"controls.max_reviews: there is only one review; leave max_reviews out"):
        Sweep.read({**document, "controls": ["max_reviews"]})
    bare = {**document, "experiment": {**short, "review": None}}
    with pytest.raises(InputError, match="controls: no arm of the sweep reviews"):
        Sweep.read({**bare, "controls": True})
    with pytest.raises(InputError, match="controls: need the exact grid, but the search is 'random'"):
        Sweep.read({**document, "search": {"name": "random", "trials": 2}, "controls": True})
    with pytest.raises(InputError, match="controls.arms.0: must be 'ce', .*, got 'zero'"):
        Sweep.read({**document, "controls": ["zero"]})


def test_an_arm_with_the_name_of_a_control_but_another_content_is_refused(tiny_document: dict[str, Any]) -> None:
    experiment = {**tiny_document, "choice": {"tskd": {}, "control_zeros": {"review": {"k": 1}}}}
    with pytest.raises(InputError, match="controls.zeros: another arm is named 'control_zeros'; rename that arm"):
        Sweep.read({"experiment": experiment, "search": {"name": "grid"}, "controls": ["zeros"]})


def test_a_control_is_compared_with_its_arm_and_a_matched_budget_with_its_match(tiny_document: dict[str, Any]) -> None:
    compared = sweep(tiny_document, controls=True).resolved().compare.controls
    matched = {
        "control_matched_budget_k2_delta4": "control_matched_budget_k4_delta2",
        "control_matched_budget_k2_delta6": "control_matched_budget_k6_delta2",
    }
    assert compared == {label: matched.get(label, "tskd") for label in CHANGED}


def test_a_matched_budget_that_is_an_arm_already_is_compared_by_that_arms_name(tiny_document: dict[str, Any]) -> None:
    given = sweep(tiny_document, controls=["matched_budget"])
    choice = {**given.experiment["choice"], "four": {"review": {"k": 4}}}
    resolved = Sweep.read({**given.plain(), "experiment": {**given.experiment, "choice": choice}}).resolved()
    assert resolved.compare.controls["control_matched_budget_k2_delta4"] == "four"
    assert check(resolved) == []


@pytest.mark.parametrize(
    "own",
    [{"target": {"prediction_scale": 0.0}}, {"target": {"gradient": "detach"}}, {"sequence_order": "zeros"}],
)
def test_an_arm_that_is_a_control_itself_is_not_controlled(own: dict[str, Any], tiny_document: dict[str, Any]) -> None:
    given = sweep(tiny_document, controls=["reversed"])
    first = {"plain": {"review": None}, "own": {"review": own}}
    either = Sweep.read({**given.plain(), "experiment": {**given.experiment, "choice": {**first, "tskd": {}}}})
    assert either.resolved().compare.controls == {"control_reversed": "tskd"}
    alone = Sweep.read({**given.plain(), "experiment": {**given.experiment, "choice": first}})
    assert alone.resolved().compare.controls == {"control_reversed": "own"}


def test_a_resolved_sweep_has_its_controls_written_out(tiny_document: dict[str, Any]) -> None:
    given = sweep(tiny_document, controls=["zeros", "detach"])
    resolved = given.resolved()
    assert resolved.controls is None and list(resolved.arms) == ["control_zeros", "control_detach"]
    assert labels(Sweep.read(resolved.plain())) == labels(given)
    assert resolved.resolved() is resolved and resolved.derived.arms == {}


def test_arms_are_whole_experiments_of_a_grid(tiny_document: dict[str, Any]) -> None:
    arm = {**tiny_document, "review": None}
    found = sweep(tiny_document, arms={"mine": arm})
    assert labels(found)[-1] == "mine" and found.space().size() == 3
    assert [point.label for point in found.space().corners()] == labels(found)
    wrong = sweep(tiny_document, arms={"mine": {**arm, "student": {"name": "resnet9"}}})
    assert check(wrong)[0].startswith("point 'mine': ")
    with pytest.raises(InputError, match="arms.mine: 'review.k' is a choice"):
        sweep(tiny_document, arms={"mine": {**arm, "review": {"k": {"choice": [1, 2]}}}})
    with pytest.raises(InputError, match="arms.tskd: an arm of the space has this name too"):
        labels(sweep(tiny_document, arms={"tskd": arm}))
