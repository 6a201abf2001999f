"""Replicates of a search: which seeds they have, and which sweeps have none."""

from __future__ import annotations

from typing import Any

import pytest

from tskd_tune.errors import InputError
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.evidence.replicates import refuse_replicates, replicate_of


def a_sweep(tiny: dict[str, Any], search: dict[str, Any] | None = None, **keys: Any) -> Sweep:
    rate = {"lr": {"loguniform": [1e-3, 1e-1]}}
    experiment = {**tiny, "training": {**tiny["training"], **rate}, **keys.pop("own", {})}
    given = search or {"name": "random", "trials": 4, "seed": 7}
    return Sweep.read({"experiment": experiment, "search": given, **keys})


def test_each_replicate_has_its_own_seeds_and_the_first_is_the_sweep_itself(tiny_document: dict[str, Any]) -> None:
    given = a_sweep(tiny_document, seeds=[1, 4])
    first, third = replicate_of(given, 1), replicate_of(given, 3)
    assert first is given
    assert (third.search.options()["seed"], third.seeds) == (9, [9, 12])
    same = {**third.plain(), "seeds": [1, 4], "search": given.plain()["search"]}
    assert same == given.plain(), "nothing else differs"
    used = [seed for number in (1, 2, 3, 4) for seed in replicate_of(given, number).all_seeds()]
    assert len(set(used)) == len(used)


def test_the_seed_of_the_experiment_moves_on_too(tiny_document: dict[str, Any]) -> None:
    found = replicate_of(a_sweep(tiny_document, own={"seed": 5}), 2)
    assert found.all_seeds() == [6] and "seed" not in found.experiment


@pytest.mark.parametrize("search", [{"name": "random"}, {"name": "optuna"}, {"name": "optuna", "sampler": "qmc"}])
def test_replicates_try_other_points(tiny_document: dict[str, Any], search: dict[str, Any]) -> None:
    given = a_sweep(tiny_document, {**search, "trials": 2})
    refuse_replicates(given)
    points = []
    for number in (1, 2, 1):
        one = replicate_of(given, number)
        searcher, _ = one.searcher_for(one.space())
        points.append([searcher.suggest(f"t{place}")["point"] for place in range(2)])
    assert points[0] == points[2] != points[1]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"name": "grid"}, r"--replicates: repeats a search, and this sweep trains every point \(search: grid\)"),
        (
            {"name": "optuna", "trials": 4, "sampler": {"name": "TPESampler", "seed": 3}},
            r"--replicates: search\.sampler\.seed is 3, so every replicate would draw the same",
        ),
    ],
)
def test_a_sweep_without_replicates_is_refused(
    tiny_document: dict[str, Any], search: dict[str, Any], message: str
) -> None:
    grid = {"experiment": tiny_document, "search": search}
    given = Sweep.read(grid) if search["name"] == "grid" else a_sweep(tiny_document, search)
    with pytest.raises(InputError, match=message):
        refuse_replicates(given)
