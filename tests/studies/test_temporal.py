"""The study of predictability: its numbers against formulas, its counts, and its known result with ``--quick``."""

from __future__ import annotations

import json
import math
import statistics
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter
from statsmodels.tools.sm_exceptions import ConvergenceWarning
from studies.toy_study import Here
from typer.testing import CliRunner

from tskd_tune.cli import app
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.studies.found import Found, Made, StudyFile, read_found
from tskd_tune.studies.page import page
from tskd_tune.studies.temporal import forecasters
from tskd_tune.studies.temporal.cells import BEST, Judged, comparisons, failures
from tskd_tune.studies.temporal.forecasters import Forecast, forecasts, persistence
from tskd_tune.studies.temporal.scores import (
    FLOOR,
    best_elsewhere,
    mase,
    ratio_over_seeds,
    rmse,
)
from tskd_tune.studies.temporal.study import Temporal
from tskd_tune.studies.temporal.windows import (
    BEYOND,
    BROKEN,
    CONSTANT,
    DEAD,
    SHORT,
    SPARE,
    Cell,
    Cut,
    Recording,
    Window,
    permuted,
    random_walks,
    windows,
)

CUT = Cut(window=12, steps=2, series=3, components=2)


def test_errors_and_their_ratios_are_those_of_the_formulas():
    assert rmse([1.0, 4.0], [0.0, 2.0]) == math.sqrt((1 + 4) / 2)
    assert rmse([1.0], [1.0 + 1e-9]) == FLOOR
    assert mase([1.0, 4.0], [0.0, 2.0], [0.0, 1.0, -1.0]) == ((1 + 2) / 2) / ((1 + 2) / 2)
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    by_seed = {1: 0.5, 2: 0.7, 3: 0.9, 4: 0.6}
    logs = [math.log(value) for value in by_seed.values()]
    half = stats.t.ppf(0.975, 3) * statistics.stdev(logs) / 2
    found = ratio_over_seeds(by_seed)
    assert (found.seeds, found.ratio) == (4, pytest.approx(math.exp(statistics.fmean(logs))))
    assert found.low == pytest.approx(math.exp(statistics.fmean(logs) - half))
    assert found.high == pytest.approx(math.exp(statistics.fmean(logs) + half))
    assert found.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)
    assert found.beats and found.skill == 1 - found.ratio
    alone = ratio_over_seeds({1: 0.5})
    assert (alone.ratio, alone.low, alone.high, alone.p, alone.beats) == (pytest.approx(0.5), None, None, None, False)
    # Over all seeds drift is better than persistence; without seed 1 it is worse, so seed 1 meets persistence.
    errors = {"persistence": {1: 1.0, 2: 1.0, 3: 1.0}, "drift": {1: 0.01, 2: 1.5, 3: 1.5}}
    assert best_elsewhere(errors) == {1: "persistence", 2: "drift", 3: "drift"}


def test_simple_rivals_are_their_formulas_and_models_find_their_own_processes():
    window = np.array([0.0, 4.0, 1.0, 2.0, 5.0, 3.0, 2.0, 6.0, 8.0, 9.0])
    found = {one.model: one.values for one in forecasts(window, 3, [], auto=False)}
    assert found["persistence"] == (9.0, 9.0, 9.0)
    assert found["drift"] == (9.0 + 1, 9.0 + 2, 9.0 + 3)
    assert found["slope"] == (9.0 + 1.5, 9.0 + 3, 9.0 + 4.5)
    # Increments that keep 0.9 of themselves: ARIMA(1,1,0), and nearly a damped trend. Persistence expects none.
    generator = np.random.default_rng(0)
    errors: dict[str, list[float]] = {"persistence": [], "damped": [], "arima_1_1_1": []}
    for _ in range(5):
        noise = 0.05 * generator.standard_normal(35)
        series = lfilter([1], [1, -0.9], [10, *noise]).cumsum()
        models = {one.model: one.values for one in forecasts(series[:30], 6, [(1, 1, 1)], auto=False)}
        for model, found_errors in errors.items():
            found_errors.append(rmse(models[model], series[30:]))
    simple = geometric_mean(errors["persistence"])
    assert geometric_mean(errors["arima_1_1_1"]) < 0.7 * simple and geometric_mean(errors["damped"]) < 0.7 * simple
    several = {one.model: one for one in forecasts(series[:30], 5, [(1, 1, 1), (2, 1, 0), (1, 2, 1)], auto=True)}
    assert list(several)[3:] == ["damped", "theta", "arima_1_1_1", "arima_2_1_0", "arima_1_2_1", "arima_auto"]
    assert several["arima_auto"].values in [several[name].values for name in list(several)[5:8]]
    assert not any(one.failed for one in several.values())


def test_a_fit_that_fails_is_persistence_and_one_that_does_not_converge_is_used_and_both_are_told(
    monkeypatch: pytest.MonkeyPatch,
):
    window = np.linspace(0, 1, 12) ** 2

    def singular(*given: object) -> Any:
        raise np.linalg.LinAlgError("singular")

    def endless(window: np.ndarray, steps: int) -> np.ndarray:
        warnings.warn("no optimum", ConvergenceWarning, stacklevel=1)
        return np.full(steps, 7.0)

    monkeypatch.setattr(forecasters, "_fitted", singular)
    monkeypatch.setattr(forecasters, "damped", endless)
    monkeypatch.setattr(forecasters, "theta", lambda window, steps: np.full(steps, np.inf))
    found = {one.model: one for one in forecasts(window, 2, [(1, 1, 1)], auto=True)}
    stand_in = persistence(window, 2)
    for model in ("theta", "arima_1_1_1", "arima_auto"):
        assert found[model] == Forecast(model, stand_in, failed=True)
    assert found["damped"] == Forecast("damped", (7.0, 7.0), unconverged=True)
    one = Judged(Window(Cell("a", "unit", 1, 12), 1, 0, tuple(window), (1.0, 1.0)), found)
    counts = failures([one, one])
    assert counts["a", "unit", "theta", "fit failed; the last value stands in"] == 2
    assert counts["a", "unit", "damped", "fit did not converge; its forecast is used"] == 2
    assert counts["a", "unit", "damped", "fit failed; the last value stands in"] == 0
    assert ("a", "unit", "damped", "fit failed; the last value stands in") in counts


def recording(columns: list[np.ndarray], rates: list[float] | None = None, prefix: str = "unit") -> Recording:
    matrix = np.stack(columns, 1).astype(float)
    return Recording("arm", 1, {prefix: matrix}, tuple(rates or [0.1] * len(matrix)))


def test_each_series_that_is_left_out_is_counted_with_its_reason():
    epochs = np.arange(16.0)
    broken = np.where(epochs == 5, np.nan, epochs)
    left: Counter[tuple[str, str, str]] = Counter()
    series = [epochs**2, np.zeros(16), 5 + 1e-6 * epochs, broken, np.sin(epochs), epochs, np.cos(epochs)]
    found = windows(recording(series), 1, 14, CUT, left)
    assert [one.series for one in found] == [0, 4, 5]  # evenly out of 0, 4, 5 and 6
    assert left == {("arm", "unit", reason): 1 for reason in (DEAD, CONSTANT, BROKEN, SPARE)}
    past = epochs[2:14] ** 2
    assert found[0].past == pytest.approx(tuple((past - past.mean()) / past.std()))
    assert found[0].future == pytest.approx(tuple((epochs[14:] ** 2 - past.mean()) / past.std()))
    for origin, delta, reason in ((9, 1, SHORT), (15, 1, BEYOND), (20, 1, BEYOND), (16, 2, SHORT)):
        counts: Counter[tuple[str, str, str]] = Counter()
        assert windows(recording([epochs, epochs]), delta, origin, CUT, counts) == []
        assert counts == {("arm", "unit", reason): 2}, (origin, delta)


def test_a_window_knows_nothing_of_its_future():
    generator = np.random.default_rng(0)
    series = [generator.standard_normal(30).cumsum() for _ in range(6)]
    changed = [np.where(np.arange(30) >= 20, 99.0, one) for one in series]
    for prefix, signals in (("unit", {"unit"}), ("map", {"map pixel", "map component"})):
        cuts = [windows(recording(columns, prefix=prefix), 1, 20, CUT, Counter()) for columns in (series, changed)]
        assert {one.cell.signal for one in cuts[0]} == signals
        for mine, theirs in zip(*cuts, strict=True):
            assert (mine.cell, mine.series, mine.past) == (theirs.cell, theirs.series, theirs.past)
    every_second = windows(recording(series), 2, 25, CUT, Counter())[0]
    kept = series[0][[2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]]
    assert every_second.past == pytest.approx(tuple((kept - kept.mean()) / kept.std()))
    assert every_second.future == pytest.approx(tuple((series[0][[26, 28]] - kept.mean()) / kept.std()))
    rates = [0.1] * 21 + [0.01] * 9
    assert [windows(recording(series, rates), 1, origin, CUT, Counter())[0].drops for origin in (18, 20, 24)] == [
        False,
        True,
        False,
    ]


def test_nulls_have_no_time():
    walks = random_walks(1, 30, replace(CUT, window=30, series=4))
    assert walks == random_walks(1, 30, replace(CUT, window=30, series=4)) != random_walks(2, 30, CUT)
    steps = np.diff([*walks[0].past, *walks[0].future])
    assert len(walks) == 4 and abs(np.corrcoef(steps[:-1], steps[1:])[0, 1]) < 0.5
    [given] = windows(recording([np.arange(16.0) ** 2]), 1, 14, CUT, Counter())
    [mixed] = permuted([given])
    before, after = (np.diff([*one.past, *one.future]) for one in (given, mixed))
    scale = after.sum() / before.sum()  # each is standardized by its own window
    assert sorted(after / scale) == pytest.approx(sorted(before)) and list(after) != sorted(after)
    assert mixed.cell.arm == "null: permuted increments of arm"


def judged_of(arm: str, seed: int, errors: dict[str, float]) -> Judged:
    window = Window(Cell(arm, "unit", 1, 14), seed, 0, tuple(np.arange(12.0)), (0.0, 0.0))
    return Judged(window, {model: Forecast(model, (error, error)) for model, error in errors.items()})


def test_a_cell_compares_geometric_means_of_seeds_and_holm_leaves_the_nulls_out():
    simple = {"persistence": 1.0, "drift": 2.0, "slope": 4.0, "damped": 0.5, "theta": 3.0}
    given = [
        judged_of(arm, seed, {**simple, "arima_1_1_1": error})
        for arm in ("real", "null: walk")
        for seed, error in ((1, 0.5), (1, 2.0), (2, 1.5), (3, 1.25))
    ]
    found = comparisons(given, [1, 2], ["arima_1_1_1"], ["null: walk"])
    one = next(c for c in found if (c.cell.arm, c.horizon, c.rival) == ("real", 2, "persistence"))
    # Seed 1 has two series, and counts once: (0.5 * 2)^(1/2) = 1.
    assert one.ratio.ratio == pytest.approx((1.0 * 1.5 * 1.25) ** (1 / 3)) and one.series == 4
    best = next(c for c in found if (c.cell.arm, c.horizon, c.rival) == ("real", 2, BEST))
    assert best.ratio.ratio == pytest.approx(one.ratio.ratio / 0.5)
    assert all((c.holm is None) == (c.cell.arm == "null: walk") for c in found)
    # Two horizons are one family.
    assert one.ratio.p is not None and one.holm == pytest.approx(min(1.0, 2 * one.ratio.p))


@dataclass
class Row:
    arm: str
    run: str
    seed: int


class Run:
    """A run whose histories are made up: units that decay with noise, a dead one, and maps that wander."""

    def rows(self) -> list[Row]:
        return [Row(arm, arm, seed) for arm in ("quadratic_sgd", "digits_cnn") for seed in (1, 2)]

    def history(self, run: str) -> list[HistoryLine]:
        lines = []
        for seed in (1, 2):
            walk = np.random.default_rng([seed, len(run)]).standard_normal((24, 4)).cumsum(0)
            for epoch in range(24):
                units = {f"unit_0_{u}": 0.8**epoch * (u + 1) + 0.01 * walk[epoch, u] for u in range(2)} | {
                    "unit_0_2": 0.0
                }
                maps = {f"map_0_{p}": walk[epoch, p] for p in range(4)}
                lines.append(HistoryLine(seed, epoch, None, {"lr": 0.1, **(maps if run == "digits_cnn" else units)}))
        return lines


class MadeUp(Here):
    def sweep(self, space: Any, settings: Any = ()) -> Any:
        assert (space, settings) == ("study_temporal_quick", ["seeds=[1, 2]"])
        return Run()


def test_the_study_counts_says_and_draws(tmp_path: Path):
    options = {**Temporal.quick, "seeds": 2, "origins": [20], "horizons": [1, 4], "series": 2, "window": 20}
    study = Temporal(**options)
    found = study.run(MadeUp(tmp_path))
    assert found == study.run(MadeUp(tmp_path))
    counted = {row[:3]: row[3] for row in found.counted.rows}
    assert counted["quadratic_sgd", "unit", f"left out: {DEAD}"] == 2
    assert counted["quadratic_sgd", "unit", f"left out: {CONSTANT}"] == 0
    assert counted["quadratic_sgd", "unit", "series that were forecast"] == 4
    assert counted["digits_cnn", "map component", "arima_1_1_1: fit failed; the last value stands in"] == 0
    names = {figure.name for figure in found.figures}
    assert names == {"figure_1", "figure_1_all", "best_arima_1_1_1", "rivals"}
    assert any("network of the paper's figure 1, ARIMA(1,1,1) beats" in sentence for sentence in found.sentences)
    assert any(sentence.startswith("Control: null: random walk, walk") for sentence in found.sentences)
    whole = StudyFile(Made("temporal", "?", "tskd-tune study temporal"), found)
    assert page(whole) == page(whole) and json.loads(whole.json())["found"]["counted"]["columns"][-1] == "number"


def test_the_origin_that_no_series_reaches_is_counted_and_the_study_ends(tmp_path: Path):
    options = {**Temporal.quick, "seeds": 2, "origins": [23]}
    found = Temporal(**options).run(MadeUp(tmp_path))
    assert any(row[2] == f"left out: {BEYOND}" and row[3] for row in found.counted.rows)
    assert any(sentence.startswith("Against the best simple rival") for sentence in found.sentences)


def ratio(found: Found, arm: str, signal: str, rival: str, horizon: int = 10) -> tuple[float, float, float]:
    """Return a ratio and its interval out of the table of all comparisons."""
    [table] = found.tables
    [row] = [
        row
        for row in table.table.rows
        if (row[0], row[1], row[4], row[6]) == (arm, signal, horizon, rival) and row[5] == "arima_1_1_1"
    ]
    low, value, high = row[10], row[9], row[11]
    assert isinstance(low, float) and isinstance(value, float) and isinstance(high, float)
    return low, value, high


@pytest.mark.long
def test_quick_reproduces_the_known_result_and_goes_on_with_the_same_bytes(tmp_path: Path):
    """On the paper's network ARIMA beats persistence and drift, but not slope and damped trend; no skill on maps."""
    folder = tmp_path / "study"
    arguments = ["study", "temporal", "--quick", "--output", str(folder)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = read_found(folder / "found.json").found
    for rival in ("persistence", "drift"):
        assert ratio(found, "quadratic_sgd", "unit", rival)[2] < 1, rival
    assert max(ratio(found, "quadratic_sgd", "unit", rival)[2] for rival in ("slope", "damped")) > 1
    assert ratio(found, "digits_cnn", "map pixel", "persistence")[2] > 1
    for rival in ("persistence", BEST):
        low, value, high = ratio(found, "null: random walk", "walk", rival)
        assert low < 1 < high and abs(1 - value) < 0.15, rival
    names = [*(folder / "figures").glob("*.csv"), folder / "index.html", folder / "found.json"]
    before = {path: path.read_bytes() for path in names}
    for path in sorted((folder / "jobs" / "forecasts").iterdir())[::4]:  # as if the study had been killed before them
        path.unlink()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, again.output
    assert "points x" not in again.output  # the trainings are kept
    assert {path: path.read_bytes() for path in before} == before
