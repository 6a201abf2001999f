"""The extrapolation of the tables: which cells, how many steps, and the arithmetic from steps to hours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import tables
from benchmarks.contenders import END, GENERAL, LOOK, REVIEW, Ours
from benchmarks.exactness import Found
from benchmarks.rows import Spent
from benchmarks.tables import CELLS, SEEDS, Counts, Mode, cell, sized
from benchmarks.workload import Variant, Workload
from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment

CPU = torch.device("cpu")
ALL = {name: cell(*name) for name in CELLS}


def test_tables_5_to_7_have_eight_different_cells() -> None:
    assert len(ALL) == len(set(CELLS)) == 8
    of = {name: (each.workload, each.counts) for name, each in ALL.items()}
    assert len(set(of.values())) == 8
    assert {each.workload.student for each in ALL.values()} == {"resnet20", "wrn_40_1"}


@pytest.mark.parametrize(
    ("space", "arm", "reviews", "k"),
    [("table5_sequence", "increment", 12, 3), ("table6_delta", "k3_delta10", 6, 3), ("table7_k", "k9_delta5", 4, 9)],
)
def test_the_steps_of_a_cell_are_counted_from_its_plan(space: str, arm: str, reviews: int, k: int) -> None:
    found = ALL[space, arm]
    assert (found.counts.looks, found.workload.k) == (reviews, k)
    assert found.counts == Counts(general=(240 - reviews) * 391, reviews=reviews * 390, looks=reviews, epochs=240)
    assert (found.tests, found.steps, found.workload.batch_size, found.workload.hidden) == (10_000, 391, 128, 16)
    assert found.workload.adam


def test_all_cells_have_the_steps_that_the_arithmetic_by_hand_gives() -> None:
    steps = sum(each.counts.general + each.counts.reviews + each.counts.looks for each in ALL.values())
    assert SEEDS * steps == 8 * 3 * 240 * 391 == 2_252_160


def test_the_time_of_a_run_is_the_sum_over_its_steps() -> None:
    counts = Counts(general=100, reviews=9, looks=1, epochs=4)
    phases = {GENERAL: Spent(1.0, 2.0), REVIEW: Spent(10.0, 20.0), END: Spent(0.5, 0.25)}
    assert counts.seconds(phases) == Spent(100 + 90 + 10 + 2, 200 + 180 + 20 + 1)
    assert counts.seconds({**phases, LOOK: Spent(15.0, 30.0)}) == Spent(100 + 90 + 15 + 2, 200 + 180 + 30 + 1)


@pytest.mark.parametrize("quick", [True, False])
def test_fewer_images_are_scaled_to_those_of_the_tables(quick: bool) -> None:
    each = ALL["table5_sequence", "increment"]
    workload, scale = sized(each, CPU, quick)
    times = scale({GENERAL: Spent(1.0, 1.0), END: Spent(1.0, 1.0)})
    assert times[GENERAL].cpu * workload.batch_size == 128
    assert times[END].cpu * workload.tested == 10_000
    on_gpu, scale = sized(each, torch.device("cuda"), quick)
    assert (scale.step, scale.end, on_gpu.tested, on_gpu.batch_size) == (1.0, 1.0, 10_000, 128)


def test_a_total_is_the_sum_of_its_cells() -> None:
    cells = [ALL["table5_sequence", "increment"], ALL["table6_delta", "k3_delta10"]]
    found = Found("rounding", 1e-3, "weights")
    ours = {GENERAL: Spent(1e-3, 1e-3), REVIEW: Spent(3e-3, 3e-3), LOOK: Spent(4e-3, 4e-3), END: Spent(0.1, 0.1)}
    slower = {name: spent * 4 for name, spent in ours.items()}
    workloads = {each.workload for each in cells}
    mode = Mode("fast, alone", Variant("fast"), dict.fromkeys(workloads, ours), dict.fromkeys(workloads, found))
    *rows, total = tables._rows(cells, mode, dict.fromkeys(workloads, slower), CPU)
    assert total.ours.cpu == pytest.approx(sum(row.ours.cpu for row in rows))
    assert rows[0].ours.cpu == pytest.approx(3 * (89_148 * 1e-3 + 4_680 * 3e-3 + 12 * 4e-3 + 24))
    assert total.unit == "6 runs" and total.exactness == "rounding" and total.goals == ()
    assert total.ratio == pytest.approx(4.0, rel=1e-2)


def test_a_cell_with_other_options_than_the_measured_steps_is_refused() -> None:
    document = documents.load(Path("table5_sequence")).data["experiment"]
    arms = document.pop("choice")
    experiment = Experiment.read(documents.merge(document, arms["detach"]))
    with pytest.raises(InputError, match=r"review\.target"):
        tables._refuse_unknown(experiment, ALL["table5_sequence", "increment"].workload, "table5_sequence: detach")


def test_the_end_of_an_epoch_is_timed_with_its_evaluation() -> None:
    tiny = Workload("resnet8", "resnet14", batch_size=20, general=5, tested=4000)
    evaluates = Ours(tiny, Variant(""), CPU).run()
    does_not = Ours(replace(tiny, tested=0), Variant(""), CPU).run()
    assert set(evaluates) == {GENERAL, END}
    assert evaluates[END].cpu > 3 * does_not[END].cpu
