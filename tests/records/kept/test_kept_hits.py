"""What a training leaves about each sample: whether its student gets it right, as a bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tskd_tune import local
from tskd_tune.experiment import Experiment
from tskd_tune.networks.weights import read_state
from tskd_tune.records.kept import kept_hits
from tskd_tune.records.kept.examples import ClassAnswers, examples_of
from tskd_tune.records.kept.hits import HITS, KeptHits, bytes_on_disk, hits_of
from tskd_tune.records.kept.kept_files import written
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.storage.objects import Objects
from tskd_tune.sweeps.estimating import estimate
from tskd_tune.tasks.hits import Hits
from tskd_tune.training import evaluation

Tiny = Callable[..., Experiment]
SHORT: dict[str, Any] = {"training": {"epochs": 1}, "review": None}


def trained(experiment: Experiment, folder: Path, name: str = "one") -> RunFolder:
    return local.start(experiment, name, folder, lambda event: None, track=False)


def own(run: RunFolder) -> KeptHits:
    found = hits_of(run, run.rows()[0])
    assert found is not None
    return found


def file_of(run: RunFolder) -> Path:
    return run.student_path("0", 1).with_name(HITS)


def test_the_samples_that_are_right_are_those_of_the_last_epoch(tiny: Tiny, tmp_path: Path) -> None:
    run = trained(tiny(training={"epochs": 3}, evaluation={"test": "every_epoch"}), tmp_path)
    (row,), found = run.rows(), own(run)
    assert (found.part, found.samples) == ("test", 8)
    assert 100 * found.right().mean() == row.metrics[f"test_{found.metric}"]
    examples = examples_of(run, row)
    assert examples is not None and isinstance(examples.answers, ClassAnswers)
    right = [answer == truth for answer, truth in zip(examples.answers.answer, examples.answers.truth, strict=True)]
    assert found.right().tolist() == right


def test_they_are_of_the_validation_set_where_no_test_set_is_read(tiny: Tiny, tmp_path: Path) -> None:
    run = trained(tiny(**SHORT, evaluation={"test": "never"}), tmp_path)
    found = own(run)
    assert found.part == "validation"
    assert 100 * found.right().mean() == run.rows()[0].metrics[f"val_{found.metric}"]


def test_they_are_kept_without_examples_and_the_training_has_the_same_bits(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny(training={"epochs": 3}, evaluation={"examples": "none"})
    kept = trained(experiment, tmp_path, "kept")
    assert own(kept).samples == 8
    monkeypatch.setattr(local, "keep_hits", lambda *arguments: None)
    plain = trained(experiment, tmp_path, "plain")
    assert hits_of(plain, plain.rows()[0]) is None
    one, other = (read_state(run.student_path("0", 1)).state for run in (kept, plain))
    assert all(torch.equal(one[name], other[name]) for name in one)
    timed = {"started", "finished", "cost"}
    rows = [
        {name: value for name, value in run.rows()[0].plain().items() if name not in timed} for run in (kept, plain)
    ]
    assert rows[0] == rows[1]


def test_the_digest_is_that_of_the_data_and_not_of_the_student(tiny: Tiny, tmp_path: Path) -> None:
    first = own(trained(tiny(**SHORT), tmp_path, "first"))
    again = own(trained(tiny(training={"epochs": 2}, review=None, seed=7), tmp_path, "again"))
    fewer = own(trained(tiny(**SHORT, task={"test": 7}), tmp_path, "fewer"))
    validated = own(trained(tiny(**SHORT, evaluation={"test": "never"}), tmp_path, "validated"))
    assert first.data == again.data
    assert len({first.data, fewer.data, validated.data}) == 3


def test_a_task_without_hits_writes_no_file_and_gives_no_warning(tiny: Tiny, tmp_path: Path) -> None:
    task = {"name": "quadratic", "batch_size": 32}
    document = {
        "task": task,
        "student": {"name": "mlp", "size": 1},
        "teacher": None,
        "review": None,
        "training": {"epochs": 1},
    }
    run = trained(Experiment.read(document), tmp_path)
    (row,) = run.rows()
    assert row.status == "done" and row.warnings == [] and hits_of(run, row) is None and not file_of(run).exists()


def test_an_evaluation_that_breaks_leaves_a_warning(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(hits: Hits[Any]) -> str:
        raise ValueError("no bits")

    monkeypatch.setattr(Hits, "packed", broken)
    run = trained(tiny(**SHORT), tmp_path)
    (row,) = run.rows()
    assert row.status == "done" and hits_of(run, row) is None
    assert row.warnings == [
        "hits: which samples are right could not be kept (ValueError: no bits); the training is complete"
    ]


def test_a_training_that_was_cut_off_after_its_end_writes_them_on_resume(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = own(trained(tiny(**SHORT), tmp_path, "whole"))

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(local, "keep_hits", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tiny(**SHORT), tmp_path, "cut")
    cut = RunFolder.open("cut", tmp_path)
    assert not cut.rows() and not file_of(cut).exists()
    counted: list[int] = []
    evaluate = evaluation.evaluate
    monkeypatch.setattr(evaluation, "evaluate", lambda *of: counted.append(1) or evaluate(*of))
    assert own(local.resume(cut, lambda event: None, track=False)) == whole
    assert len(counted) == 1, "the examples are made from the same evaluation"


@pytest.mark.parametrize("content", ["{", '{"bits": 3}', None], ids=["cut off", "other", "fewer bits"])
def test_a_damaged_file_is_left_out_with_a_warning(content: str | None, tiny: Tiny, tmp_path: Path) -> None:
    run = trained(tiny(**SHORT), tmp_path)
    found = own(run).plain()
    text = content or written(KeptHits.model_construct(**{**found, "samples": 9})).decode()
    file_of(run).write_text(text)
    with pytest.warns(UserWarning, match=r"hits\.json: is damaged .*; the report leaves the file out"):
        assert hits_of(run, run.rows()[0]) is None


def test_a_run_on_an_object_storage_has_the_file_there(tiny: Tiny, memory: Any) -> None:
    run = local.start(tiny(**SHORT), "far", memory, lambda event: None, track=False)
    assert run.remote is not None and own(run).samples == 8
    name = f"trainings/{run.rows()[0].identity}-seed1/{HITS}"
    assert name in set(Objects(run.remote.address).names(""))
    whole = run.remote.objects.read(name) or b""
    run.remote.objects.write(name, b"{")
    file_of(run).unlink()
    with pytest.warns(UserWarning, match=rf"^{memory}/far/{name}: is damaged"):
        assert hits_of(run, run.rows()[0]) is None
    run.remote.objects.write(name, whole)
    assert own(run).samples == 8, "no damaged copy stays on this machine"


@pytest.mark.parametrize("over", [{}, {"task": {"test": 500}}, {"evaluation": {"test": "never"}}])
def test_the_bytes_of_the_file_are_estimated(over: dict[str, Any], tiny: Tiny, tmp_path: Path) -> None:
    experiment = tiny(**{**SHORT, **over})
    run = trained(experiment, tmp_path)
    found = estimate._sizes([experiment])[estimate.kind(experiment)].hits
    assert file_of(run).stat().st_size == pytest.approx(found, abs=20)


def test_ten_thousand_samples_take_less_than_two_kilobytes() -> None:
    assert bytes_on_disk(10_000) < 2000
    assert kept_hits.bytes_on_disk(50_000) < 9000


def test_the_estimate_of_a_task_without_hits_is_nothing(tiny: Tiny) -> None:
    task = {"name": "quadratic", "batch_size": 32}
    experiment = Experiment.read({"task": task, "student": {"name": "mlp", "size": 1}, "teacher": None, "review": None})
    assert estimate._sizes([experiment])[estimate.kind(experiment)].hits == 0
