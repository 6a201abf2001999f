"""What a review costs: the formulas written out, the counts against counts by hand, and what the study says of both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from studies.toy_study import Here
from torch import nn

from tskd_tune.errors import InputError
from tskd_tune.method.plan import ReviewPlan
from tskd_tune.studies import work
from tskd_tune.studies.overhead import model
from tskd_tune.studies.overhead.arms import Arm, Pair, reviewing
from tskd_tune.studies.overhead.study import Overhead
from tskd_tune.studies.overhead.timing import METHODS, TimingJob, Timings
from tskd_tune.studies.overhead.work import LiveBytes, Work, WorkJob, count, counted, kept_for_backward
from tskd_tune.studies.place import Place

STUDENT, TEACHER, SNAPSHOT = 2.0, 3.0, 0.5
COSTS = {"plain": 1.0, "KD": 1.5, "AT": 1.75, "ReviewKD": 4.0}
FLOPS = 1e9
OPTIONS = {"ks": [2, 3], "measured_ks": [1, 5], "widths": [4, 8], "deltas": [1, 2], "epochs": 60, "rounds": 2}


def extractor(k: int, width: int) -> float:
    return 0.1 * width * (1 + k)


class Known(Place):
    """A place whose results follow the cost model exactly, but for measured steps of width 8, which take 20 % more."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.jobs: dict[str, list] = {}

    def map(self, name, function, jobs):
        self.jobs[name] = jobs
        return [self.work(job.arm) for job in jobs] if name == "work" else [self.timings(job) for job in jobs]

    def work(self, arm: Arm) -> Work:
        own = extractor(arm.k, arm.width) if arm.k else 0.0
        flops = 3 * STUDENT + arm.k * SNAPSHOT + 3 * own + (TEACHER if arm.k else 0.0)
        parts = (FLOPS * part for part in (flops, STUDENT, TEACHER, SNAPSHOT, own))
        device = 1000 + (200 + 100 * arm.k + round(10 * own) if arm.k else 0)
        return Work(*parts, device, 1000, 200, 100, round(10 * own), 900, 909)

    def timings(self, job: TimingJob) -> Timings:
        steps = {name: [cost, 2 * cost] for name, cost in COSTS.items()}
        for arm in job.arms():
            if arm.k:
                added = TEACHER + arm.k * SNAPSHOT + extractor(arm.k, arm.width)
                cost = 1 + added * (1.2 if arm.width == 8 else 1.0)
                steps[arm.name] = [cost, 2 * cost]  # the second round is disturbed: everything takes twice as long
        own = {
            width: {k: [extractor(k, width), 2 * extractor(k, width)] for k in job.measured_ks} for width in job.widths
        }
        return Timings(steps, [TEACHER, 2 * TEACHER], [SNAPSHOT, 2 * SNAPSHOT], own)


def done(tmp_path: Path, **options: object):
    place = Known(tmp_path)
    return Overhead(**(OPTIONS | options)).run(place), place


def test_the_formulas_of_a_step_and_of_a_whole_training():
    line = {2: 5.0, 8: 17.0}  # 1 + 2 k
    assert [model.along(line, k) for k in (1, 2, 5, 8, 10)] == [3.0, 5.0, 11.0, 17.0, 21.0]
    pieces = model.Pieces(step=10.0, teacher=4.0, snapshot=1.5, extractor=line)
    assert pieces.added(6) == 4.0 + 6 * 1.5 + 13.0 and pieces.review_step(6) == 10.0 + pieces.added(6)
    passes = model.by_passes(student=2.0, teacher=4.0, snapshot=1.5, extractor={2: 1.0, 4: 2.0})
    assert passes.review_step(3) == 3 * 2.0 + 4.0 + 3 * 1.5 + 3 * 1.5
    reviews = len(ReviewPlan(240, 3, 5).review_epochs)
    assert reviews == 12
    assert model.whole_run(4.3, reviews, 240) == pytest.approx((228 + 12 * 4.3) / 240)
    assert model.off(11.5, 10.0) == 0.15 and model.off(8.5, 10.0) == -0.15


def test_the_study_adds_up_pieces_and_compares_them_with_steps(tmp_path: Path):
    found, place = done(tmp_path)
    tables = {one.name: one.table for one in (*found.tables, *found.figures)}
    rows = [dict(zip(tables["agreement"].columns, row, strict=True)) for row in tables["agreement"].rows]
    assert [(row["k"], row["width"]) for row in rows] == [(2, 4), (3, 4), (2, 8), (3, 8)]
    for row in rows:
        added = TEACHER + row["k"] * SNAPSHOT + extractor(row["k"], row["width"])
        true = added * (1.2 if row["width"] == 8 else 1.0)
        assert row["predicted from its pieces"] == pytest.approx(added)
        assert row["measured"] == row["lowest round"] == row["highest round"] == pytest.approx(true)
        assert row["off by %"] == pytest.approx(100 * (added / true - 1))
        flops = (TEACHER + row["k"] * SNAPSHOT + 3 * extractor(row["k"], row["width"])) / (3 * STUDENT)
        assert row["if seconds followed operations"] == pytest.approx(flops)
        assert row["operations off by %"] == pytest.approx(100 * (flops / true - 1))
    whole = [dict(zip(tables["whole_runs"].columns, row, strict=True)) for row in tables["whole_runs"].rows]
    for row in whole:
        assert row["reviewing epochs"] == 60 // (row["delta"] * (row["k"] + 1))
        [step] = [one["measured"] for one in rows if (one["k"], one["width"]) == (row["k"], row["width"])]
        assert row["measured"] == pytest.approx(1 + row["reviewing epochs"] / 60 * step)
    assert [row[:3] for row in tables["methods"].rows] == [(name, 1500 * cost, cost) for name, cost in COSTS.items()]
    assert all(row[3] is None or row[3] == pytest.approx(0) for row in tables["operations"].rows)
    assert [row[3] for row in tables["bytes"].rows[4:]] == pytest.approx([0.0] * 4)
    assert [row[6] for row in tables["bytes"].rows] == pytest.approx([1.0] * 8)
    assert found.counted.column("number") == [1, 2, 2, 0]
    assert "off by -16.7 % to +0.0 %. 2 are within 15 % of the measured overhead" in found.sentences[0]
    assert "each of their steps: KD 1.50, AT 1.75, ReviewKD 4.00." in found.sentences[1]
    assert (
        "with errors of +0.0 % to +0.0 %, and the checkpoints of all arms with errors of +1.0 % to +1.0 %"
        in (found.sentences[4])
    )
    assert [job.arm.name for job in place.jobs["work"]] == [
        *(arm.name for arm in METHODS),
        *(reviewing(k, width).name for width in (4, 8) for k in (2, 3, 1, 5)),
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"teacher": "resnet110"},
        {"student": "resnet8"},
        {"batch_size": 2},
        {"size": 16},
        {"classes": 3},
        {"ks": [4]},
        {"measured_ks": [1, 4]},
        {"widths": [2]},
        {"deltas": [3]},
        {"epochs": 61},
        {"rounds": 3},
        {"seconds": 1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_each_option_changes_what_is_done_or_said(options: dict[str, object], tmp_path: Path):
    (plain, before), (found, after) = done(tmp_path), done(tmp_path, **options)
    assert plain != found or before.jobs != after.jobs


def test_what_makes_no_prediction_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="measured_ks: 3 is also in ks, .* choose other numbers"):
        Overhead(ks=[3, 6], measured_ks=[3, 9])
    with pytest.raises(InputError, match="has the same number twice"):
        Overhead(ks=[3], measured_ks=[2, 2])
    with pytest.raises(
        InputError, match="epochs: with k 3 and delta 2 nothing reviews .*lower k or delta, or train longer"
    ):
        done(tmp_path, epochs=5)
    with pytest.raises(InputError, match="resnet21"):
        done(tmp_path, student="resnet21")


def test_operations_and_bytes_are_those_counted_by_hand():
    convolution, images = nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.ones(2, 3, 6, 6)
    assert counted(lambda: convolution(images)) == 2 * (2 * 6 * 6 * 8) * (3 * 3 * 3)
    with LiveBytes() as live:
        first = torch.ones(1000)
        kept = first.view(10, 100) + 1
        assert live.most == 8000
        del first
        again = torch.zeros(500)
        again.add_(1)
        assert live.most == 8000, "4000 were freed, 2000 were added, and a view or an operation in place adds nothing"
        more = torch.zeros(1000)
    assert live.most == 4000 + 2000 + 4000 and len(kept) + len(again) + len(more) == 1510
    linear = nn.Linear(10, 5)
    inputs = torch.ones(4, 10)
    assert kept_for_backward(lambda: linear(inputs).sum(), linear) == inputs.nbytes
    assert kept_for_backward(lambda: linear(inputs).exp().sum(), linear) == inputs.nbytes + 4 * 4 * 5


def test_the_work_of_a_step_is_that_of_its_pieces():
    pair = Pair("resnet8", "resnet8", batch_size=4, size=8, classes=4)
    plain, short, long = (count(WorkJob(pair, arm)) for arm in (METHODS[0], reviewing(2, 4), reviewing(3, 4)))
    added = short.teacher_flops + short.snapshot_flops * 2 + 3 * short.review_flops
    assert short.teacher_flops == short.snapshot_flops < short.student_flops, "the networks end at their last tap"
    assert short.flops - plain.flops == pytest.approx(added, rel=0.02)
    assert long.flops - short.flops == pytest.approx(
        long.snapshot_flops + 3 * (long.review_flops - short.review_flops), rel=0.02
    )
    pieces = short.step_bytes + short.teacher_bytes + 2 * short.snapshot_bytes + short.review_bytes
    assert 0.7 * short.device_bytes < pieces < 1.1 * short.device_bytes
    assert short.checkpoint_counted == pytest.approx(short.checkpoint_bytes, rel=0.02)
    snapshot = long.checkpoint_bytes - short.checkpoint_bytes
    assert plain.checkpoint_bytes < 3 * snapshot < 2 * plain.checkpoint_bytes, "half of the state of plain training"


@pytest.mark.long
def test_a_small_study_measures_the_order_of_the_costs_and_a_rerun_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(work, "Place", Here)
    settings = ["teacher=resnet8", "student=resnet8", "size=16", "batch_size=8", "rounds=3", "seconds=0.05"]
    small = [*settings, "ks=[2, 6]", "measured_ks=[1, 8]", "widths=[8]", "deltas=[5]", "epochs=60"]
    whole = work.do_study("overhead", tmp_path / "overhead", settings=small)
    [short, long] = next(one.table for one in whole.found.tables if one.name == "agreement").rows
    assert 0 < short[2] < long[2], "more snapshots cost more"
    assert abs(long[6]) < 50, "the prediction has the right size, also on a machine with other work"
    ratios = dict(row[0:3:2] for row in next(one.table for one in whole.found.tables if one.name == "methods").rows)
    assert ratios["plain"] == 1 < ratios["KD"] < ratios["ReviewKD"]
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    work.do_study("overhead", tmp_path / "overhead", settings=small)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert json.loads((tmp_path / "overhead" / "found.json").read_text())["made"]["options"]["measured_ks"] == [1, 8]
