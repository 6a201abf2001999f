from __future__ import annotations

import pytest

from tskd_tune.reports import charts


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


def test_values_by_epoch_over_seeds():
    arm = charts.curves("tskd", a_history())
    assert len(arm.seeds) == 2
    assert arm.values("val_top1")[3] == [31.0, 32.0]
    assert arm.values("review_loss") == {3: [0.1, 0.2], 7: [0.1, 0.2]}
    assert arm.ratio() == {3: [0.5, 1.0], 7: [0.5, 1.0]}
    assert arm.review_epochs() == [3, 7]


def test_what_was_not_finite_or_has_no_task_gradient_does_not_count():
    line = {"seed": 1, "epoch": 0, "val_top1": None, "grad_norm_review": 1.0, "grad_norm_others": 0.0}
    arm = charts.curves("a", [line, {"seed": 1, "epoch": 1, "grad_norm_review": None, "grad_norm_others": 1.0}])
    assert (arm.values("val_top1"), arm.ratio(), arm.review_epochs()) == ({}, {}, [])


def test_the_metric_is_validation_if_measured_then_training():
    measured = charts.curves("a", a_history())
    unmeasured = charts.curves("b", a_history(metric="test_top1"))
    assert charts.accuracy_metric([unmeasured, measured]) == "val_top1"
    assert charts.accuracy_metric([unmeasured]) == "test_top1"
    assert charts.accuracy_metric([charts.curves("c", [{"seed": 1, "epoch": 9, "test_top1": 50.0}])]) is None
    assert charts.accuracy_metric([]) is None


def test_accuracy_is_the_mean_with_its_range_and_its_reviews():
    figure = charts.accuracy([charts.curves("tskd", a_history())], "val_top1")
    band, mean, reviews = figure.data
    assert list(mean.x) == list(range(8))
    assert list(mean.y) == [10.0 * epoch + 1.5 for epoch in range(8)]
    assert list(band.x) == [*range(8), *reversed(range(8))]
    assert list(band.y) == [10.0 * e + 2 for e in range(8)] + [10.0 * e + 1 for e in reversed(range(8))]
    assert (list(reviews.x), list(reviews.y)) == ([3, 7], [31.5, 71.5])
    assert (mean.name, band.showlegend, reviews.showlegend) == ("tskd", False, False)
    low, high = figure.layout.yaxis.range
    assert 10 < low < 21
    assert high > 72


def test_one_seed_has_no_band_and_arms_have_colors_of_their_own():
    arms = [charts.curves(str(i), a_history(seeds=(1,), review_epochs=())) for i in range(10)]
    figure = charts.accuracy(arms, "val_top1")
    assert len(figure.data) == 10
    assert len({(trace.line.color, trace.line.dash) for trace in figure.data}) == 10


def test_a_flat_curve_still_has_a_range():
    flat = [{"seed": 1, "epoch": epoch, "phase": "general", "val_top1": 10.0} for epoch in range(3)]
    low, high = charts.accuracy([charts.curves("a", flat)], "val_top1").layout.yaxis.range
    assert low < 10 < high


def test_telemetry_draws_what_was_measured():
    arms = [charts.curves("none", a_history(review_epochs=())), charts.curves("tskd", a_history())]
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
    arms = [charts.curves("none", a_history(review_epochs=())), charts.curves("tskd", a_history())]
    colors = {trace.name: trace.line.color for trace in charts.accuracy(arms, "val_top1").data if trace.mode == "lines"}
    assert charts.telemetry(arms)[0].figure.data[0].line.color == colors["tskd"] == charts.COLORS[1]


def test_a_figure_is_the_same_bytes_and_closes_no_script():
    arms = [charts.curves("</script><b>x", a_history())]
    first, second = (charts.as_html(charts.accuracy(arms, "val_top1"), "accuracy") for _ in range(2))
    assert first == second
    assert 'id="figure-accuracy"' in first
    assert first.count("</script>") == first.count("<script")
    assert "<b>" not in first
