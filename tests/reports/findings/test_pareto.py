"""The Pareto front against its definition, and what is left out of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import factories
from factories import a_cost
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings import pareto
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json

MODES = {"val_top1": "max", "seconds": "min", "memory": "min"}


def a_row(run: str, top1: float | None, seconds: float, memory: int | None = None, seed: int = 1, **over: Any) -> Row:
    cost = a_cost(seconds + 100, train_seconds=seconds, peak_memory_bytes=memory, device="cuda")
    facts: dict[str, Any] = {"point": {"x": run}, "metrics": {"val_top1": top1, "test_top1": 0.0}, "cost": cost}
    return factories.a_row(run, seed, f"x={run}", planned=6, **(facts | over))


@pytest.fixture
def shown(tmp_path: Path) -> Any:
    def make(*rows: Row, objectives: dict[str, str] | None = MODES, name: str = "optuna") -> Findings:
        search = {"name": name, "metric": "val_top1", "mode": "max", "objectives": objectives}
        folder = RunFolder.create(tmp_path, f"run{len(list(tmp_path.iterdir()))}", "sweep", {"search": search})
        factories.write_rows(folder, rows)
        return summary(folder)

    return make


@pytest.fixture
def found(shown: Any) -> Any:
    return lambda *rows, **search: as_json(shown(*rows, **search))


def lines(found: Findings) -> list[str]:
    return pareto.lines(found.pareto, found.measures)


def test_the_front_is_what_no_other_point_beats(found: Any) -> None:
    source = random.Random(4)
    numbers = {f"{n:05d}": (source.randrange(5), source.randrange(5), source.randrange(5)) for n in range(40)}
    summary = found(*(a_row(run, 60.0 + a, 1.0 + b, 100 + c) for run, (a, b, c) in numbers.items()))

    def beaten(mine: tuple[int, ...], other: tuple[int, ...]) -> bool:
        """Higher is better in the first number, lower in the others."""
        as_good = other[0] >= mine[0] and other[1] <= mine[1] and other[2] <= mine[2]
        return as_good and other != mine

    expected = {run for run, mine in numbers.items() if not any(beaten(mine, other) for other in numbers.values())}
    (only,) = summary["pareto"]
    points = only["points"]
    assert {point["run"] for point in points if point["on_front"]} == expected
    assert 1 < len(expected) < 40
    front = only["front"]
    assert len(front) == len(expected)
    order = [numbers[label.removeprefix("x=")] for label in front]
    assert order == sorted(order, key=lambda each: (-each[0], each[1], each[2]))


def test_equal_points_share_the_front(found: Any) -> None:
    assert found(a_row("a", 60.0, 5.0, 9), a_row("b", 60.0, 5.0, 9))["pareto"][0]["front"] == ["x=a", "x=b"]


@pytest.mark.parametrize("name", ["val_top1", "seconds", "memory"])
def test_the_mode_of_every_objective_counts(found: Any, name: str) -> None:
    rows = a_row("a", 60.0, 5.0, 9), a_row("b", 50.0, 6.0, 10)
    assert found(*rows)["pareto"][0]["front"] == ["x=a"]
    other = {"max": "min", "min": "max"}[MODES[name]]
    assert set(found(*rows, objectives={**MODES, name: other})["pareto"][0]["front"]) == {"x=a", "x=b"}


def test_a_point_has_the_mean_of_its_seeds_and_the_most_memory_of_any(found: Any) -> None:
    rows = [a_row("a", 60.0, 2.0, 7, 1), a_row("a", 61.0, 4.0, 9, 2), a_row("b", 1.0, 1.0, 1, 1)]
    (point,) = [point for point in found(*rows)["pareto"][0]["points"] if point["run"] == "a"]
    assert (point["n"], point["values"]) == (2, {"val_top1": 60.5, "seconds": 3.0, "memory": 9.0})


def test_a_point_that_lacks_a_seed_or_a_measurement_is_said_to_be_left_out(found: Any, shown: Any) -> None:
    rows = [
        a_row("a", 60.0, 2.0, 7), a_row("b", 50.0, 1.0, 1),
        a_row("c", 99.0, 0.1, 1, 1), a_row("c", None, 0.1, 1, 2, status="failed", reason="NaN", epochs=2),
        a_row("d", 99.0, 0.1, 1, 1, status="stopped", reason="asha", epochs=2),
        a_row("d", 99.0, 0.1, 1, 2, status="stopped", reason="asha", epochs=2),
        a_row("e", 99.0, 0.1, None), a_row("f", None, 0.1, 1),
    ]  # fmt: skip
    summary = found(*rows)
    left_out = {each["arm"]: each["reason"] for each in summary["pareto"][0]["left_out"]}
    assert left_out == {
        "x=c": "seed 2 failed",
        "x=d": "seeds 1, 2 were stopped",
        "x=e": "memory was not measured",
        "x=f": "val_top1 was not measured",
    }
    assert set(summary["pareto"][0]["front"]) == {"x=a", "x=b"}
    assert "x=c is left out: seed 2 failed." in lines(shown(*rows))


def test_fewer_than_two_points_have_no_front(found: Any, tmp_path: Path) -> None:
    assert found(a_row("a", 60.0, 2.0, 7), a_row("b", None, 2.0, 7))["pareto"] == []
    folder = RunFolder.create(tmp_path, "train", "train", {"task": "digits"})
    factories.write_rows(folder, [a_row("a", 60.0, 2.0)])
    assert as_json(summary(folder))["pareto"] == []


def test_a_search_without_objectives_has_its_metric_beside_the_seconds_and_nothing_is_said(
    found: Any, shown: Any
) -> None:
    rows = a_row("a", 60.0, 5.0), a_row("b", 50.0, 6.0), a_row("c", 40.0, 4.0)
    summary = found(*rows, objectives=None)
    assert summary["pareto"][0]["objectives"] == {"val_top1": "max", "seconds": "min"}
    assert summary["pareto"][0]["front"] == ["x=a", "x=c"] and not summary["pareto"][0]["asked"]
    told = shown(*rows, objectives=None)
    assert lines(told) == [] and "Pareto" not in markdown(told)


def test_a_grid_has_a_front_of_its_headline_for_each_task_and_student(found: Any) -> None:
    def arm(run: str, test: float, seconds: float, student: str) -> Row:
        experiment = {"review": None, "task": {"name": "digits"}, "student": {"name": student}}
        return a_row(run, None, seconds, metrics={"test_top1": test}, experiment=experiment)

    rows = arm("a", 60.0, 5.0, "s"), arm("b", 50.0, 6.0, "s"), arm("c", 40.0, 9.0, "t"), arm("d", 41.0, 9.5, "t")
    summary = found(*rows, arm("e", 1.0, 9.0, "alone"), objectives=None, name="grid")
    assert [one["objectives"] for one in summary["pareto"]] == [{"test_top1": "max", "seconds": "min"}] * 2
    assert [one["front"] for one in summary["pareto"]] == [["x=a"], ["x=d", "x=c"]]


def test_it_is_said_in_words(shown: Any) -> None:
    rows = [a_row("a", 60.0, 5.0, 3 * 2**20, 1), a_row("a", 61.0, 5.0, 3 * 2**20, 2), a_row("b", 50.0, 6.0, 2**30)]
    told = shown(*rows)
    assert lines(told) == [
        "1 of 2 points are on the Pareto front of val_top1 (max), seconds (min), memory (min).",
        "x=a (trial a, 2 seeds): val_top1 60.50, seconds 5.0, memory 3.0 MiB",
        "seconds: seconds of training steps per seed, without evaluation; mean over seeds;"
        " memory: peak bytes of the GPU's tensors; the most of any seed.",
        "The front compares means, and neighbors on the front may differ by chance: confirm them on fresh seeds.",
    ]
    assert "## Pareto front\n\n- 1 of 2 points" in markdown(told)
