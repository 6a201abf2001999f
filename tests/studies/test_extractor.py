"""The study of extractors: laws with known ceilings, fits against formulas, recordings that change no bit, the page."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from studies.toy_study import Here

from tskd_tune.errors import InputError
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.method.sequences import KnowledgeSequence
from tskd_tune.studies import work
from tskd_tune.studies.extractor.fits import BATCH, LINEAR, Data, Fit, Job, explained, fit_generated, measured
from tskd_tune.studies.extractor.found import BEST
from tskd_tune.studies.extractor.laws import LAWS, SIDE
from tskd_tune.studies.extractor.recorded import (
    FitJob,
    Packed,
    Recorded,
    Recorder,
    RecordingJob,
    experiment_of,
    first,
    fit_recorded,
    windows,
)
from tskd_tune.studies.extractor.study import ExtractorStudy


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("k", [2, 5])
def test_a_law_has_the_ceiling_that_it_states_and_depends_on_its_seed_alone(law: str, k: int):
    known = LAWS[law]
    drawn, again, other = (known.draw(4000, k, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(drawn.sequence, again.sequence) and torch.equal(drawn.target, again.target)
    assert not torch.equal(drawn.target, other.target)
    assert drawn.sequence.shape == (k, 4000, 1, SIDE, SIDE) and drawn.target.shape == drawn.best.shape
    whole = drawn.target.mean(0)
    assert explained(drawn.best, drawn.target, whole) == pytest.approx(known.ceiling(k), abs=0.006)
    rest = (drawn.target - drawn.best).flatten()
    # What the best forecast leaves is noise: no map of the sequence tells anything of it.
    for map_ in drawn.sequence:
        assert abs(torch.corrcoef(torch.stack([rest, map_.flatten()]))[0, 1]) < 0.006


def test_the_laws_are_what_they_say():
    decay = LAWS["decay"].draw(3, 4, seeded(0))
    ratios = decay.sequence[1:] / decay.sequence[:-1]
    torch.testing.assert_close(ratios, ratios[:1, :, :, :1, :1].expand_as(ratios))
    torch.testing.assert_close(decay.best, decay.sequence[-1] ** 2 / decay.sequence[-2])
    blob = LAWS["blob"].draw(200, 3, seeded(0))
    path = torch.cat([blob.sequence, blob.best[None]])[:, :, 0]
    # Two spots of the same size are inside the last two maps, and each moves by one pixel along one side.
    weights = path[-2:].flatten(2).sum(2)
    torch.testing.assert_close(weights[0], weights[1], rtol=0.15, atol=0)
    torch.testing.assert_close(weights[1], torch.full((200,), 2 * math.tau * 0.8**2), rtol=0.05, atol=0)
    moves = [(path[-2:].sum(side) * torch.arange(SIDE)).sum(-1).diff(dim=0) / (math.tau * 0.8**2) for side in (2, 3)]
    moved = torch.stack(moves).abs().sum(0)
    assert moved.max() < 2.5 and set(moved.round().flatten().tolist()) == {0, 2}
    ar2 = LAWS["ar2"].draw(400, 6, seeded(0)).sequence
    variance = 1.8 / (0.2 * (1.8**2 - 0.6**2))
    assert [step.var().item() for step in ar2] == pytest.approx([variance] * 6, rel=0.02)
    found = np.linalg.lstsq(np.stack([ar2[4].flatten(), ar2[3].flatten()], 1), ar2[5].flatten().numpy(), rcond=None)[0]
    assert found.tolist() == pytest.approx([0.6, -0.8], abs=0.01)
    assert LAWS["ar2"].ceiling(3) == pytest.approx(1 - 1 / variance)


def test_extractors_that_take_each_pixel_alone_get_the_weights_of_least_squares():
    law, k = LAWS["ar2"], 3
    known, held_out = (law.draw(samples, k, seeded(samples)) for samples in (100, 60))
    data = Data(iter(()), (known.sequence, known.target), (held_out.sequence, held_out.target))

    def columns(drawn, name):
        """Return the design, [samples, pixels, weights]."""
        maps = drawn.sequence.squeeze(2).flatten(2).double().numpy()
        picked = {"last_step": maps[-1:], "mean": maps.mean(0, keepdims=True)}.get(name, maps)
        return np.stack([*picked, np.ones_like(maps[0])], 2)

    for name in LINEAR:
        design, tested = columns(known, name), columns(held_out, name)
        target, wanted = (one.target.flatten(1).double().numpy() for one in (known, held_out))
        if name == "pixel_ar":
            weights = [
                np.linalg.lstsq(design[:, pixel], target[:, pixel], rcond=None)[0] for pixel in range(SIDE * SIDE)
            ]
            predicted = np.stack([tested[:, pixel] @ one for pixel, one in enumerate(weights)], 1)
        else:
            weights = np.linalg.lstsq(design.reshape(-1, design.shape[2]), target.ravel(), rcond=None)[0]
            predicted = tested @ weights
        r2 = 1 - ((wanted - predicted) ** 2).sum() / ((wanted - target.mean(0)) ** 2).sum()
        assert measured(Fit(name, 1), data, 0).r2 == pytest.approx(r2, abs=1e-5), name


def test_a_fit_depends_on_its_job_alone_and_says_what_cannot_be_fitted():
    job = Job("blob", 2, 0, Fit("conv3d", 5, options=(("hidden", 2),)))
    state = torch.get_rng_state()
    one = fit_generated(job)
    assert torch.equal(torch.get_rng_state(), state)
    assert fit_generated(job) == one != fit_generated(replace(job, seed=1))
    assert one.best == pytest.approx(LAWS["blob"].ceiling(2), abs=0.01)
    shuffled = fit_generated(replace(job, fit=replace(job.fit, order="shuffled")))
    assert shuffled.best == one.best and shuffled.r2 != one.r2, "held-out sequences are the same for all arms"
    nothing = fit_generated(replace(job, fit=replace(job.fit, order="zeros", steps=60)))
    assert nothing.r2 == pytest.approx(0, abs=0.15)
    flat = torch.zeros(2, 4, 1, 3, 3), torch.ones(4, 1, 3, 3)
    assert measured(Fit("mean", 1), Data(iter(()), flat, flat), 0).constant
    wild = flat[0], torch.full((4, 1, 3, 3), math.nan)
    known = torch.randn(2, 4, 1, 3, 3, generator=seeded(0))
    found = measured(
        Fit("conv3d", 2), Data(iter([(known * math.inf, wild[1])] * 2), (known, known[0]), (known, known[1])), 0
    )
    assert found.failed and found.r2 is None


def test_a_recording_changes_no_bit_and_its_windows_are_those_of_the_equations():
    job = RecordingJob(seed=1, epochs=4, k=2, images=40, taps=("stage1", "stage2"))
    few = {"training": {"epochs": 1}}
    experiment = experiment_of(job)
    teacher = experiment.plain()["teacher"] | few
    experiment = type(experiment).read(experiment.plain() | {"teacher": teacher})
    students = []
    for watched in (True, False):
        trainer = build_trainer(experiment)
        feeds = (trainer.task.training(torch.device("cpu")), trainer.task.evaluation("validation", torch.device("cpu")))
        recorder = Recorder(torch.cat([first(feed, job.images) for feed in feeds]), job.taps)
        trainer.observers.extend([recorder] * watched)
        while not trainer.finished:
            trainer.epoch()
        students.append(trainer.student.state_dict())
        if watched:
            maps = recorder.recorded_maps("stage2")
            network = trainer.student.eval()
    assert all(torch.equal(value, students[1][key]) for key, value in students[0].items())
    student, teachers = maps.student.tensor(), maps.teacher.tensor()
    assert student.shape == (4, 80, 4, 4) and teachers.shape == (80, 4, 4)
    powers = network(recorder._images).features["stage2"].square().sum(1).flatten(1)
    torch.testing.assert_close(student[-1].flatten(1), (powers / powers.norm(dim=1, keepdim=True)).detach())
    for target, last in (("teacher_gap", 4), ("next_increment", 3)):
        known, held_out = windows(maps, 2, target)
        for half, (sequence, wanted) in ((slice(0, 40), known), (slice(40, 80), held_out)):
            assert sequence.shape == (2, 40 * (last - 2), 1, 4, 4)
            for place, epoch in enumerate(range(2, last)):
                own = slice(40 * place, 40 * (place + 1))
                for step in range(2):
                    change = (student[epoch - 1 + step] - student[epoch - 2 + step]).abs()[half]
                    assert torch.equal(sequence[step, own, 0], change)
                follows = teachers if target == "teacher_gap" else student[epoch + 1]
                assert torch.equal(wanted[own, 0], (follows - student[epoch]).abs()[half])
    fits = (Fit("linear", 1), Fit("conv3d", 3, "reversed", (("hidden", 2),)))
    small = FitJob(0, 2, "next_increment", maps, fits)
    assert fit_recorded(small) == fit_recorded(small)
    assert all(one.r2 is not None for one in fit_recorded(small))


def test_the_order_of_an_arm_is_that_of_a_review():
    sequence = torch.randn(3, 2 * BATCH, 1, 4, 4, generator=seeded(0))
    still = Packed.of(sequence[:, :, 0])
    assert torch.equal(still.tensor(), sequence[:, :, 0])
    maps = Recorded(Packed.of(torch.rand(5, 8, 4, 4, generator=seeded(1))), Packed.of(torch.rand(8, 4, 4)))
    (known, _), _ = windows(maps, 3, "teacher_gap")
    student = maps.student.tensor()
    wanted = KnowledgeSequence()(list(student[:3]), student[3])
    assert torch.equal(known[:, :4], wanted[:, :4])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": [1, 3]}, "k: a sequence of 1 map has no order; give lengths of at least 2"),
        ({"epochs": 4}, "epochs: 4 epochs leave fewer than two increments to predict from 3 others; give at least 6"),
        ({"images": 301}, "images: the recorded trainings have 300 images of each part, got 301; give fewer"),
    ],
)
def test_sizes_that_leave_nothing_to_measure_are_refused(options: dict[str, int], said: str):
    with pytest.raises(InputError, match=said):
        ExtractorStudy(**options)  # type: ignore[arg-type]


@pytest.mark.long
def test_the_quick_study_is_near_the_ceiling_on_the_blob_about_0_on_noise_and_writes_the_same_bytes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(work, "Place", Here)
    torch.set_num_threads(1)
    small = ["seeds=2", "steps=120", "k=[3]", "layers=[1]", "epochs=6", "images=32", "orders_of=[conv3d]"]
    whole = work.do_study("extractor", tmp_path, quick=True, settings=small)
    figures = {one.name: one.table for one in whole.found.figures}
    rows = [dict(zip(figures["generated"].columns, row, strict=True)) for row in figures["generated"].rows]
    for row in rows:
        if row["law"] == "noise":
            assert abs(row["R2"]) < 0.02, row
        elif row["law"] == "blob" and row["extractor"] not in LINEAR:
            assert row["share of ceiling"] > (0.99 if row["extractor"] == BEST else 0.8), row
        elif row["law"] == "blob":
            assert row["share of ceiling"] < 0.7, row
    orders = {row[1]: row[2] for row in figures["orders"].rows}
    assert orders["zeros"] == pytest.approx(0, abs=0.1)
    assert orders["forward"] > orders["repeat_last"] + 0.2 and orders["reversed"] > orders["shuffled"] + 0.2
    assert {row[0] for row in figures["recorded"].rows} == {"teacher_gap, stage1", "next_increment, stage1"}
    assert [row[-1] for row in whole.found.counted.rows] == [2 * (4 * 8 + 4) + 2 * 2 * (8 + 4), 0, 0]
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    work.do_study("extractor", tmp_path, quick=True, settings=small)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
