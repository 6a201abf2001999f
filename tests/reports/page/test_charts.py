from __future__ import annotations

import math

import pytest

from tskd_tune.metrics import undeclared
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.reports.page import charts, figures

NAMES = ("val_top1", "test_top1")
VAL = charts.Followed("val_top1", "val top-1 (%)", undeclared("top1"))


def curves(arm, lines):
    return charts.curves(arm, [(None, [HistoryLine.read(line) for line in lines])])


def a_history(seeds=(1, 2), epochs=8, review_epochs=(3, 7), metric="val_top1"):
    lines = []
    for seed in seeds:
        for epoch in range(epochs):
            line = {"seed": seed, "epoch": epoch, "phase": "general", metric: 10.0 * epoch + seed}
            if epoch in review_epochs:
                line |= {
                    "phase": "review",
                    "review_loss": 0.1 * seed,
                    "teacher_gap": 0.2,
                    "grad_norm_others": 2.0,
                    "grad_norm_review": 1.0 * seed,
                    "grad_cosine_review": 0.5,
                }
            lines.append(line)
    return lines


def a_pair(seeds=(1, 2, 3)):
    increment = curves("increment", a_history(seeds=seeds))
    shifted = [line | {"val_top1": line["val_top1"] - line["seed"] / 10} for line in a_history(seeds=seeds)]
    return charts.Pair(increment, curves("maps", shifted))


def test_values_by_epoch_over_seeds():
    arm = curves("tskd", a_history())
    assert len(arm.seeds) == 2
    assert arm.values("val_top1")[3] == [31.0, 32.0]
    assert arm.values("review_loss") == {3: [0.1, 0.2], 7: [0.1, 0.2]}
    assert arm.ratio() == {3: [0.5, 1.0], 7: [0.5, 1.0]}
    assert arm.review_epochs() == [3, 7]


def test_what_was_not_finite_or_has_no_task_gradient_does_not_count():
    line = {"seed": 1, "epoch": 0, "val_top1": None, "grad_norm_review": 1.0, "grad_norm_others": 0.0}
    arm = curves("a", [line, {"seed": 1, "epoch": 1, "grad_norm_review": None, "grad_norm_others": 1.0}])
    assert (arm.values("val_top1"), arm.ratio(), arm.review_epochs()) == ({}, {}, [])


def test_the_metric_is_the_first_that_was_followed():
    measured = curves("a", a_history())
    unmeasured = curves("b", a_history(metric="test_top1"))
    assert charts.followed([unmeasured, measured], NAMES) == "val_top1"
    assert charts.followed([unmeasured], NAMES) == "test_top1"
    assert charts.followed([curves("c", [{"seed": 1, "epoch": 9, "test_top1": 50.0}])], NAMES) is None
    assert charts.followed([], NAMES) is None


def test_accuracy_is_the_mean_with_its_interval_and_its_reviews():
    figure = charts.accuracy([curves("tskd", a_history(seeds=(1, 2, 3)))], VAL)
    band, mean, reviews = figure.data
    half = 4.302652729749464 / math.sqrt(3)  # t(0.975, 2) times the sd of 1, 2, 3 over the root of 3
    assert list(mean.x) == list(range(8))
    assert list(mean.y) == [10.0 * epoch + 2 for epoch in range(8)]
    assert list(band.x) == [*range(8), *reversed(range(8))]
    high, low = [10.0 * e + 2 + half for e in range(8)], [max(0.0, 10.0 * e + 2 - half) for e in reversed(range(8))]
    assert list(band.y) == pytest.approx(high + low)
    assert (list(reviews.x), list(reviews.y)) == ([3, 7], [32.0, 72.0])
    assert (mean.name, band.showlegend, reviews.showlegend) == ("tskd", False, False)
    bottom, top = figure.layout.yaxis.range
    assert 30 < bottom < 42 and 72 < top < 80, "the means of the last four epochs, 42 to 72, with some room"
    first, last = figure.layout.xaxis.range
    assert 3 < first <= 4 and 7 < last < 7.5


def test_wide_bands_leave_the_view_to_the_means_and_end_where_accuracies_do():
    """Three seeds of 70, 99 and 99 % have an interval far beyond 100 %; the view shows no more of it than it needs."""
    seeds = {1: 70.0, 2: 99.0, 3: 99.0}
    history = [
        {"seed": seed, "epoch": epoch, "phase": "general", "val_top1": value - (20.0 if epoch == 0 else epoch / 10)}
        for seed, value in seeds.items()
        for epoch in range(8)
    ]
    arms = [curves(name, history) for name in ("a", "b")]
    figure = charts.accuracy(arms, VAL)
    bands, means = figure.data[:2], figure.data[2:]
    assert [trace.fill for trace in bands] == ["toself"] * 2, "lines are drawn above all bands"
    assert all(max(band.y) == 100.0 and min(band.y) >= 0.0 for band in bands)
    low, high = figure.layout.yaxis.range
    late = list(means[0].y)[4:]
    assert low < min(late) and max(late) < high < 100 and high - low < 1.5
    differences = charts.sequence_differences([charts.Pair(*arms)], VAL, 0.3)
    assert differences.layout.yaxis.range is not None


def test_two_seeds_have_no_band_and_an_epoch_of_two_is_left_out_of_it():
    two = charts.accuracy([curves("a", a_history(review_epochs=()))], VAL)
    assert [trace.fill for trace in two.data] == [None]
    uneven = [line for line in a_history(seeds=(1, 2, 3), review_epochs=()) if (line["seed"], line["epoch"]) != (3, 7)]
    band, mean = charts.accuracy([curves("a", uneven)], VAL).data
    assert max(band.x) == 6
    assert max(mean.x) == 7


def test_one_seed_has_no_band_and_arms_have_colors_of_their_own():
    arms = [curves(str(i), a_history(seeds=(1,), review_epochs=())) for i in range(10)]
    figure = charts.accuracy(arms, VAL)
    assert len(figure.data) == 10
    assert len({(trace.line.color, trace.line.dash) for trace in figure.data}) == 10


def test_a_flat_curve_still_has_a_range():
    flat = [{"seed": 1, "epoch": epoch, "phase": "general", "val_top1": 10.0} for epoch in range(3)]
    low, high = charts.accuracy([curves("a", flat)], VAL).layout.yaxis.range
    assert low < 10 < high


def test_telemetry_draws_what_was_measured():
    arms = [curves("none", a_history(review_epochs=())), curves("tskd", a_history())]
    drawn = charts.telemetry(arms)
    assert [item.name for item in drawn] == ["review_loss", "teacher_gap", "ratio", "grad_cosine_review"]
    loss, _, ratio, _ = (item.figure for item in drawn)
    assert [trace.name for trace in loss.data] == ["tskd"]
    assert list(loss.data[0].y) == [pytest.approx(0.15)] * 2
    assert list(ratio.data[0].y) == [0.75, 0.75]
    assert loss.layout.yaxis.type == "log"
    assert ratio.layout.shapes[0].y0 == charts.FAINT
    assert charts.telemetry(arms[:1]) == []


def test_the_color_of_an_arm_is_the_same_in_every_figure():
    arms = [curves("none", a_history(review_epochs=())), curves("tskd", a_history())]
    colors = {trace.name: trace.line.color for trace in charts.accuracy(arms, VAL).data if trace.mode == "lines"}
    assert charts.telemetry(arms)[0].figure.data[0].line.color == colors["tskd"] == figures.COLORS[1]


def test_a_figure_is_the_same_bytes_and_closes_no_script():
    arms = [curves("</script><b>x", a_history())]
    first, second = (figures.as_html(charts.accuracy(arms, VAL), "accuracy") for _ in range(2))
    assert first == second
    assert 'id="figure-accuracy"' in first
    assert first.count("</script>") == first.count("<script")
    assert "<b>" not in first


def test_sequences_share_a_color_and_differ_in_dashes():
    lines = [trace for trace in charts.sequences([a_pair(), a_pair()], VAL).data if trace.fill is None]
    looks = [(line.name, line.line.dash, line.line.color) for line in lines]
    assert looks == [
        (name, dash, color) for color in figures.COLORS[:2] for name, dash in (("increment", "solid"), ("maps", "dash"))
    ]


def test_differences_are_paired_by_seed():
    assert a_pair().differences("val_top1")[4] == pytest.approx([0.1, 0.2, 0.3])
    other = charts.Pair(a_pair().increment, a_pair(seeds=(2, 3, 4)).feature_map)
    assert other.differences("val_top1")[4] == pytest.approx([0.2, 0.3])
    assert charts.Pair(other.increment, curves("b", [])).differences("val_top1") == {}
    figure = charts.sequence_differences([a_pair()], VAL, 0.3)
    band, line = figure.data
    assert list(line.y) == pytest.approx([0.2] * 8)
    assert band.y[0] == pytest.approx(0.2 + 4.302652729749464 * 0.1 / math.sqrt(3))
    assert [(shape.type, shape.y0, shape.y1) for shape in figure.layout.shapes] == [("rect", -0.3, 0.3), ("line", 0, 0)]
    assert len(charts.sequence_differences([a_pair()], VAL, None).layout.shapes) == 1


def test_the_gap_stands_against_the_review_loss_relative_to_the_first_review():
    history = a_history(seeds=(1,))
    history[7] |= {"review_loss": 0.02, "teacher_gap": 0.19}
    figure = charts.gaps([curves("none", a_history(review_epochs=())), curves("tskd", history)])
    loss, gap = figure.data
    assert (list(loss.x), list(loss.y)) == ([3, 7], pytest.approx([1.0, 0.2]))
    assert list(gap.y) == pytest.approx([1.0, 0.95])
    assert (loss.line.dash, gap.line.dash) == ("solid", "dot")
    assert loss.line.color == gap.line.color == figures.COLORS[1]
    assert figure.layout.yaxis.type == "log"
    assert charts.gaps([curves("none", a_history(review_epochs=()))]) is None
    assert charts.gaps([curves("one", a_history(review_epochs=(3,)))]) is None
    assert charts.relative({0: [0.0], 1: [1.0]}) == {}


def test_a_legend_makes_its_own_room():
    arms = [curves(f"arm {n}", a_history(seeds=(1,), review_epochs=())) for n in range(8)]
    few, many = charts.accuracy(arms[:1], VAL), charts.accuracy(arms, VAL)
    assert many.layout.height - few.layout.height == 7 * figures.LEGEND_ROW
    assert many.layout.legend.y == few.layout.legend.y < 0


def test_labels_keep_their_quotes_and_lose_their_tags():
    figure = charts.accuracy([curves("'a' \"b\" <i>", a_history(seeds=(1,), review_epochs=()))], VAL)
    assert figure.data[0].name == "'a' \"b\" &lt;i&gt;"


def test_looks_are_told_apart_beyond_the_colors():
    looks = [tuple(figures.look(index).items()) for index in range(4 * len(figures.COLORS))]
    assert len(set(looks)) == len(looks)
