from __future__ import annotations

from dataclasses import replace

import pytest

from tskd_tune.reports.judge.contrasts import contrast
from tskd_tune.reports.judge.records import Evidence, Finding
from tskd_tune.reports.judge.values import Interval
from tskd_tune.reports.page.forest import forest, ticks


def a_finding(difference, low=None, high=None):
    interval = None if low is None else Interval(low, high, 0.95, "t")
    item = replace(contrast({}, {}), difference=difference)
    return Finding(item, Evidence(None, None, interval), 1, None, None, None)


def test_everything_stands_on_one_scale():
    found = forest([a_finding(1.0, 0.5, 1.5), a_finding(-0.2, -0.4, 0.0)], 0.3)
    first, second = found.strips
    points = {
        -0.4: second.low,
        -0.3: found.band_low,
        -0.2: second.dot,
        0.0: found.zero,
        0.3: found.band_high,
        0.5: first.low,
        1.0: first.dot,
        1.5: first.high,
    }
    assert second.high == found.zero
    unit = (first.high - first.low) / 1.0
    for value, place in points.items():
        assert place == pytest.approx(found.zero + unit * value, abs=0.01)
        assert 0 < place < 100
    assert not any(strip.cut_low or strip.cut_high for strip in found.strips)


def test_an_interval_without_end_is_cut_and_leaves_room_for_the_others():
    found = forest([a_finding(0.1, -90.0, 90.2), a_finding(0.5, 0.4, 0.6)], 0.3)
    wide, narrow = found.strips
    assert (wide.cut_low, wide.cut_high) == (True, True)
    assert 0 <= wide.low < wide.high <= 100
    assert narrow.high - narrow.low > 4
    one_sided = forest([a_finding(0.1, 0.0, 50.0)], 0.3).strips[0]
    assert (one_sided.cut_low, one_sided.cut_high) == (False, True)


def test_what_is_missing_is_not_drawn():
    none, one_seed = forest([a_finding(None), a_finding(0.2)], 0.3).strips
    assert (none.dot, none.low, none.high) == (None, None, None)
    assert one_seed.dot is not None
    assert one_seed.low is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.35, 0.35, ["-0.2", "0", "+0.2"]),
        (-1.2, 5.1, ["0", "+2", "+4"]),
        (-0.031, 0.024, ["-0.03", "-0.02", "-0.01", "0", "+0.01", "+0.02"]),
        (-30, 130, ["0", "+50", "+100"]),
    ],
)
def test_ticks_are_few_and_round(low, high, expected):
    found = ticks(low, high)
    assert [text for _, text in found] == expected
    assert all(low <= value <= high and float(text) == pytest.approx(value) for value, text in found)


def test_without_a_margin_there_is_no_band_and_still_a_scale():
    found = forest([a_finding(0.5, 0.4, 0.6)], None)
    assert found.band_low == found.band_high == found.zero < found.strips[0].low
    assert forest([a_finding(None)], None).zero == 50.0
