from __future__ import annotations

from dataclasses import replace

import pytest

from tskd_tune.reports.findings.effects import Point, Response, Slice
from tskd_tune.reports.page import effect_charts


def a_response():
    points = [("a", 3, 5, 12), ("b", 3, 10, 6), ("c", 6, 5, 6), ("d", 6, 10, 3)]
    return Response(tuple(Point(arm, k, delta, n, 5, 70.0 + n, (69.0 + n, 72.0 + n)) for arm, k, delta, n in points))


def test_a_response_has_a_line_for_each_value_of_the_other_and_joins_matched_budgets():
    matched, five, ten = effect_charts.response(a_response(), "k", "test top-1 (%)").data
    assert (list(matched.x), list(matched.y), matched.line.dash) == ([3, 6], [76.0, 76.0], "dot")
    assert (five.name, list(five.x), list(five.y), list(five.text)) == ("δ = 5", [3, 6], [82.0, 76.0], ["12", "6"])
    assert (ten.name, list(ten.text)) == ("δ = 10", ["6", "3"])
    assert (list(five.error_y.array), list(five.error_y.arrayminus)) == ([2.0, 2.0], [1.0, 1.0])
    few = Response(tuple(replace(point, n=2) for point in a_response().points))
    assert list(effect_charts.response(few, "k", "x").data[1].error_y.array) == [0.0, 0.0]
    figure = effect_charts.response(a_response(), "delta", "test top-1 (%)")
    assert [trace.name for trace in figure.data[1:]] == ["k = 3", "k = 6"]
    assert list(figure.layout.xaxis.tickvals) == [5, 10]


def test_costs_number_and_join_the_front():
    points = [
        effect_charts.Costed("a", 60.0, 70.0, (69.0, 71.0), 1),
        effect_charts.Costed("<b>", 120.0, 69.0, None, None),
        effect_charts.Costed("c", 90.0, 72.0, None, 2),
    ]
    figure = effect_charts.costs(points, "test top-1 (%)", "seconds")
    beaten, front = figure.data
    assert (list(beaten.x), list(beaten.customdata), beaten.mode) == ([2.0], ["&lt;b&gt;"], "markers")
    assert (list(front.x), list(front.y), list(front.text)) == ([1.0, 1.5], [70.0, 72.0], ["1", "2"])
    assert list(front.error_y.array) == [1.0, 0.0]
    assert figure.layout.xaxis.title.text == "training per seed (min)"
    assert figure.layout.xaxis.type == "linear"
    far = [effect_charts.Costed("a", 1.0, 70.0, None, 1), effect_charts.Costed("b", 11.0, 71.0, None, 2)]
    assert effect_charts.costs(far, "x", "seconds").layout.xaxis.type == "log"


def test_a_front_of_three_objectives_is_no_line_in_the_plane_of_two():
    points = [effect_charts.Costed("a", 2.0**21, 70.0, None, 1), effect_charts.Costed("b", 2.0**20, 71.0, None, 2)]
    figure = effect_charts.costs(points, "x", "memory", joined=False)
    (front,) = figure.data
    assert (front.mode, list(front.x), figure.layout.xaxis.title.text) == (
        "markers+text", [2.0, 1.0], "peak memory (MiB)",
    )  # fmt: skip
    assert effect_charts.costs(points, "x", "val loss").layout.xaxis.title.text == "val loss"


@pytest.mark.parametrize(
    ("values", "kind"), [((1, 2, 3), "linear"), ((0.1, 1.0, 30.0), "log"), (("a", "b", "b"), "category")]
)
def test_a_slice_has_the_axis_of_its_values(values, kind):
    figure = effect_charts.sliced(Slice("<lambda>", ("x", "y", "<z>"), values, (60.0, 61.0, 62.0)), "val top-1 (%)")
    assert figure.layout.xaxis.type == kind and figure.layout.xaxis.title.text == "&lt;lambda&gt;"
    assert (tuple(figure.data[0].x), tuple(figure.data[0].y)) == (values, (60.0, 61.0, 62.0))
    assert figure.data[0].customdata[2] == "&lt;z&gt;"


def test_shares_stand_as_two_bars_for_each_parameter_the_largest_on_top():
    figure = effect_charts.shares(effect_charts.Shares(["lambda", "<k>"], [0.75, 0.25], [0.5, 0.5]))
    variance, best = figure.data
    assert (list(variance.y), list(variance.x), list(best.x)) == (["lambda", "&lt;k&gt;"], [75.0, 25.0], [50.0, 50.0])
    assert "fANOVA" in variance.name and "PED-ANOVA" in best.name
    assert (figure.layout.yaxis.autorange, list(figure.layout.xaxis.range)) == ("reversed", [0, 100])
