"""The target of a review: the shipped arms, the dose against differences written out, and one small sweep."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, stdev

import pytest
import yaml
from scipy import stats

from factories import a_row, write_rows
from tskd_tune.experiment import Experiment
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.reports.findings.summary import summary
from tskd_tune.studies import STUDIES, work
from tskd_tune.studies.target.found import Reviews, changes, comparisons, dose_arms, found, reviews_of
from tskd_tune.studies.target.study import TargetStudy
from tskd_tune.sweeps.declared.schema import Sweep

FILE = Path(__file__).parents[2] / "search_spaces" / "study_target.yaml"
VALUES = {
    "s0": [70.0, 70.5, 69.8, 70.2, 70.1],
    "s50": [70.4, 70.2, 70.3, 70.0, 70.9],
    "s100": [75.0, 75.3, 74.9, 75.2, 75.4],
}
SCALES = {"s0": 0.0, "s50": 0.5, "s100": 1.0}
LOSSES = [4.0, 2.0, 1.0]


def arms(*settings: str) -> dict[str, Experiment]:
    sweep = Sweep.load(FILE, settings)
    return {point.label: sweep.experiment_at(point) for point in sweep.space().grid()}


@pytest.mark.parametrize("settings", [(), tuple(TargetStudy.quick["settings"])], ids=["full", "quick"])
def test_the_shipped_arms_review_in_the_same_epochs_and_differ_in_target_and_sequence_alone(settings: tuple[str, ...]):
    shipped = arms(*settings)
    reviewing = {name: one for name, one in shipped.items() if one.review is not None}
    assert [*shipped.keys() - reviewing.keys()] == ["no_review"]
    plans = {one.plan().review_epochs for one in reviewing.values()}
    assert len(plans) == 1 and len(*plans) >= 3, (
        "matched budgets, and enough reviews to compare the first with the last"
    )
    plain = {name: one.review.plain() for name, one in reviewing.items()}
    rest = [{key: value for key, value in one.items() if key not in ("target", "sequence")} for one in plain.values()]
    assert all(one == rest[0] for one in rest)
    seen = {name: (one["sequence"], *(one["target"].values())) for name, one in plain.items()}
    attached = ("increment", "absolute_increment", "attach")
    assert seen == {
        **{f"scale_{percent}": (*attached, percent / 100) for percent in (0, 25, 50, 75, 100)},
        "detach": ("increment", "absolute_increment", "detach", 1.0),
        "maps": ("feature_map", "absolute_increment", "attach", 1.0),
        "increments_teacher_map": ("increment", "teacher_map", "attach", 1.0),
        "maps_teacher_map": ("feature_map", "teacher_map", "attach", 1.0),
    }
    pairs = Sweep.load(FILE, settings).compare.pairs
    assert {name for pair in pairs for name in pair} == set(shipped), "each arm is compared"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a sweep of three doses over five seeds, whose loss halves from review to review and whose gap stays."""
    document = {
        "search": {"name": "grid"},
        "seeds": [1, 2, 3, 4, 5],
        "compare": {"pairs": [["s50", "s0"], ["s100", "s0"]]},
    }
    folder = RunFolder.create(tmp_path, "target", "sweep", document, expected=15)
    rows = []
    for name, values in VALUES.items():
        target = {"kind": "absolute_increment", "gradient": "attach", "prediction_scale": SCALES[name]}
        experiment = {"review": {"k": 1, "delta": 1, "sequence": "increment", "target": target}}
        for seed, value in enumerate(values, 1):
            trial = f"{name}-{seed}"
            rows.append(a_row(trial, seed, name, metrics={"test_top1": value}, experiment=experiment))
            lines = [
                {"seed": seed, "epoch": epoch, "review_loss": loss * seed, "teacher_gap": 0.5}
                for epoch, loss in enumerate(LOSSES)
            ]
            folder.append_history(trial, [*lines, {"seed": seed, "epoch": 3, "loss": 1.0}])
    write_rows(folder, rows)
    return folder


def test_the_dose_is_the_paired_difference_to_the_static_target_as_the_judge_has_it(run: RunFolder):
    results = summary(run)
    assert [*dose_arms(results.arms)] == [0.0, 0.5, 1.0]
    whole = found(results, {arm.arm: reviews_of(run, arm) for arm in results.arms})
    tables = {one.name: one.table for one in (*whole.figures, *whole.tables)}
    static, half, full = tables["dose"].rows
    assert static == (0.0, "s0", 5, 0.0, None, None, "the static target")
    for row, name in ((half, "s50"), (full, "s100")):
        differences = [mine - theirs for mine, theirs in zip(VALUES[name], VALUES["s0"], strict=True)]
        width = stats.t.ppf(0.975, 4) * stdev(differences) / math.sqrt(5)
        assert row[:3] == (SCALES[name], name, 5)
        assert row[3] == pytest.approx(fmean(differences))
        [judged] = [one for one in results.family.family.findings if one.contrast.arm == name]
        assert row[4:6] == pytest.approx((judged.evidence.interval.low, judged.evidence.interval.high), abs=1e-12)
        assert row[4] <= fmean(differences) - width + 1e-9 and row[5] >= fmean(differences) + width - 1e-9
        assert row[6] == judged.verdict and judged.sentence in whole.sentences
    assert (half[6], full[6]) == ("undecided", "resolved")
    assert results.family.family.sentence in whole.sentences
    by_dose = tables["reviews_by_dose"].rows
    assert [row[:4] for row in by_dose[:3]] == [(scale, "review loss L_ST", 5, 0.25) for scale in (0.0, 0.5, 1.0)]
    assert [row[:4] for row in by_dose[3:]] == [(scale, "gap to the teacher", 5, 1.0) for scale in (0.0, 0.5, 1.0)]
    assert sum("L_ST fell but the gap stayed" in sentence for sentence in whole.sentences) == 3
    assert [row[6:] for row in tables["arms"].rows] == [(12.0, 3.0, 0.5, 0.5)] * 3
    assert whole.counted.column("number") == [0, 0, 0, 0, 0, 0]


def test_the_reviews_of_a_seed_under_several_teachers_are_their_mean():
    def trial(seed: int, *losses: float) -> list[HistoryLine]:
        return [HistoryLine(seed, epoch, "review", {"review_loss": loss}) for epoch, loss in enumerate(losses)]

    found = Reviews.of(trial(1, 1.0, 2.0), trial(1, 3.0, 6.0), trial(2, 5.0, 5.0), trial(2, 7.0, 7.0))
    assert found.loss == {1: [2.0, 4.0], 2: [6.0, 6.0]} and found.unit == "training"
    assert [len(lines) for lines in found.lines] == [2, 2, 2, 2]
    alone = Reviews.of(trial(1, 1.0, 2.0) + trial(2, 3.0, 4.0))
    assert alone.loss == {1: [1.0, 2.0], 2: [3.0, 4.0]} and alone.unit == "seed"


def test_no_difference_is_zero_and_not_the_rounding_of_sums(run: RunFolder):
    # The sums of both arms are equal; as floats they are not.
    values = {"s0": [93.62, 94.44, 93.23, 92.09, 95.65], "s50": [94.88, 94.53, 95.33, 92.66, 91.63]}
    assert fmean(mine - theirs for mine, theirs in zip(values["s50"], values["s0"], strict=True)) != 0
    kept = [row for row in run.rows() if row.arm in values]
    write_rows(run, [row.model_copy(update={"metrics": {"test_top1": values[row.arm][row.seed - 1]}}) for row in kept])
    (difference,) = [row[2] for row in comparisons(summary(run).family).rows if "s50" in str(row[0])]
    assert str(difference) == "0.0"


def test_with_few_seeds_nothing_is_a_finding_and_what_is_missing_is_counted(run: RunFolder):
    rows = [row for row in run.rows() if row.seed < 3 and row.arm != "s0"]
    write_rows(run, [*rows, a_row("bad", 1, "s0", status="failed", reason="diverged", experiment=rows[0].experiment)])
    results = summary(run)
    whole = found(results, {arm.arm: Reviews.of([HistoryLine(1, 0)]) for arm in results.arms})
    said = " ".join(whole.sentences)
    assert "a smoke run" in said and "Resolved" not in said and "Equivalent" not in said
    numbers = dict(whole.counted.rows)
    assert numbers["trainings that failed or diverged; they count in no comparison"] == 1
    assert numbers["comparisons without a verdict"] == 2
    assert numbers["arms with fewer than three reviews, of which loss and gap say nothing"] == 3


def test_the_change_over_the_reviews_is_a_mean_over_seeds_with_its_interval():
    ratios = [0.5, 0.25, 0.3]
    count, mean, low, high = changes({seed: [2.0, 9.0, 2.0 * ratio] for seed, ratio in enumerate(ratios)} | {9: [1.0]})
    width = stats.t.ppf(0.975, 2) * stdev(ratios) / math.sqrt(3)
    assert (count, mean) == (3, pytest.approx(0.35))
    assert (low, high) == (pytest.approx(0.35 - width), pytest.approx(0.35 + width))
    assert changes({1: [], 2: [0.0, 1.0]}) == (0, None, None, None)


@pytest.mark.slow
def test_a_small_sweep_is_judged_and_a_rerun_writes_the_same_bytes(tmp_path: Path):
    reviewing = {"k": 1, "delta": 1, "lambda": 0.5, "extractor": {"name": "conv_lstm", "hidden": 2}}
    space = {
        "experiment": {
            "task": {"name": "synthetic", "batch_size": 16, "size": 8, "train": 32, "test": 16},
            "teacher": {"name": "resnet8", "training": {"epochs": 1}},
            "student": "resnet8",
            "review": reviewing,
            "training": {"epochs": 6, "lr": 0.01},
            "choice": {"scale_0": {"review": {"target": {"prediction_scale": 0.0}}}, "scale_100": {}},
        },
        "compare": {"pairs": [["scale_100", "scale_0"]]},
        "seeds": [7],
        "search": {"name": "grid"},
        "resources": {"cpu": 1},
    }
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(space))
    settings = [f"space={file}", "seeds=[1, 2]", 'settings=["experiment.review.extractor.hidden=3"]']
    folder = tmp_path / "target"
    whole = work.do_study("target", folder, settings=settings)
    [static, full] = next(one.table for one in whole.found.figures if one.name == "dose").rows
    assert static[:4] == (0.0, "scale_0", 2, 0.0) and full[:3] == (1.0, "scale_100", 2) and full[6] == "no verdict"
    assert any("smoke run" in sentence for sentence in whole.found.sentences)
    [run] = (folder / "sweeps").iterdir()
    trained = RunFolder.open(run.name, run.parent).rows()
    assert {row.seed for row in trained} == {1, 2}
    assert {row.experiment["review"]["extractor"]["hidden"] for row in trained} == {3}
    written = [folder / "index.html", folder / "found.json", *sorted((folder / "figures").iterdir())]
    before = [path.read_bytes() for path in written]
    work.do_study("target", folder, settings=settings)
    assert [path.read_bytes() for path in written] == before
    assert not any(str(tmp_path).encode() in text for text in before[2:])
    assert {"overhead", "target"} <= set(STUDIES.names())
