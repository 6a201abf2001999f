"""Which times of a report can be compared: trainings that shared a GPU took another time than trainings alone."""

from __future__ import annotations

import pytest

import factories
from tskd_tune.metrics import metric_of
from tskd_tune.reports.findings.arms import arm_findings
from tskd_tune.reports.findings.comparison import Headline
from tskd_tune.reports.findings.costs import sharing
from tskd_tune.reports.findings.records import ArmFindings

HEADLINE = Headline("test_top1", metric_of("test_top1", ()))


def arm(name: str, *together: int, device: str = "a GPU", share: float = 1.0) -> ArmFindings:
    costs = [factories.a_cost(device=device, together=count, gpu_share=share) for count in together]
    rows = [factories.a_row(f"{name}{seed}", seed, name, cost=cost) for seed, cost in enumerate(costs)]
    return arm_findings(rows, HEADLINE, 0)


@pytest.mark.parametrize(
    "arms",
    [
        [],
        [arm("kd", 1, 1), arm("tskd", 1)],
        [arm("kd", 6, 2, device="cpu"), arm("tskd", 1, device="cpu")],
    ],
)
def test_nothing_is_said_of_trainings_alone_and_of_those_on_a_cpu(arms: list[ArmFindings]) -> None:
    assert sharing(arms) == ""


def test_equally_many_are_comparable_among_themselves() -> None:
    said = sharing([arm("kd", 6, 6), arm("tskd", 6)])
    assert said.startswith("Times and memory are those of 6 trainings that shared a GPU in one process")


def test_unequally_many_are_named_with_their_arms() -> None:
    said = sharing([arm("kd", 6, 4), arm("tskd", 1), arm("at", 1), arm("crd", 3, device="cpu")])
    assert "(4 to 6: kd; 1: tskd; at). Compare only those of equally many." in said


def test_equal_shares_of_a_gpu_are_comparable_among_themselves() -> None:
    said = sharing([arm("kd", 1, 1, share=0.25), arm("tskd", 1, share=0.25)])
    assert said.startswith("Times are those of trainings with 0.25 of a GPU each")


def test_unequal_shares_of_a_gpu_are_named_with_their_arms() -> None:
    said = sharing([arm("kd", 1, share=0.5), arm("tskd", 1), arm("crd", 1, share=0.5, device="cpu")])
    assert "unequal shares of a GPU (0.5: kd; 1: tskd). Compare only those of equal shares." in said
