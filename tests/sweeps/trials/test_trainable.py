"""A trial driven by hand, without a running Ray: lockstep, means, checkpoints, failures."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.experiment.teacher import obtain
from tskd_tune.records.entries.row import Row
from tskd_tune.records.kept.hits import HITS, KeptHits
from tskd_tune.records.sessions.workplace import CHECKPOINT, STUDENT, Workplace
from tskd_tune.sweeps.declared.teacher_keys import key_of
from tskd_tune.sweeps.messages.trial_errors import BrokenTrialError
from tskd_tune.sweeps.searching.objectives import worst
from tskd_tune.sweeps.trials.kept import Kept, folder_of
from tskd_tune.sweeps.trials.shipped import Shipped
from tskd_tune.sweeps.trials.trainable import STOPPED_ROWS, SweepTrial
from tskd_tune.training import checkpoint
from tskd_tune.training.teachers import TeacherCache
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]


def config(experiment: Experiment, seeds: list[int], **over: Any) -> dict[str, Any]:
    document = {key: value for key, value in experiment.plain().items() if key != "seed"}
    told = {"number": 3, "arm": "an arm", "point": {"k": 2}, "teacher": None, "identity": identity(experiment)}
    return {**told, "experiment": document, "seeds": seeds, **over}


def trial(experiment: Experiment, seeds: list[int], shipped: Shipped | None = None, **over: Any) -> SweepTrial:
    ships = shipped or Shipped("sweep", None, "val_top1", "max", {})

    class Local(SweepTrial):
        def setup(self, given: dict[str, Any], shipped: Shipped | None = None) -> None:
            super().setup(given, ships)

    return Local(config(experiment, seeds, **over))


def ships(run: Path) -> Shipped:
    return Shipped("sweep", None, "val_top1", "max", {}, run=run)


def kept_in(run: Path, one: SweepTrial, number: int = 0) -> Path:
    session = one.sessions[number]
    return folder_of(run, session.identity, session.experiment.seed)


def settled(one: SweepTrial) -> None:
    """Wait for the checkpoints of a trial whose process dies here."""
    for kept in [kept for member in one.members for kept in member._kept]:
        kept.close()


OFTEN = {"checkpoint": {"seconds": 0}}


def untimed(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if not name.endswith("seconds")}


def test_seeds_train_in_lockstep_and_their_mean_is_reported(tiny: Tiny) -> None:
    result = trial(tiny(), [1, 2]).step()
    first, second = result["records"]
    assert (first["seed"], second["seed"], first["epoch"]) == (1, 2, 0)
    assert result["val_loss"] == pytest.approx((first["val_loss"] + second["val_loss"]) / 2)
    assert (result["epoch"], result["epochs"], result["done"]) == (0, 6, False)
    assert result["rows"] == [], "a trial that goes on needs no rows"


def test_a_trial_that_the_scheduler_stops_writes_its_rows_when_it_is_asked(tiny: Tiny, tmp_path: Path) -> None:
    one = trial(tiny(), [1, 2])
    one.step()
    one.save_checkpoint(str(tmp_path))
    rows = [Row.model_validate(row) for row in json.loads((tmp_path / STOPPED_ROWS).read_text())]
    assert [(row.run, row.arm, row.seed, row.status, row.epochs) for row in rows] == [
        ("00003", "an arm", 1, "stopped", 1),
        ("00003", "an arm", 2, "stopped", 1),
    ]


def test_each_seed_of_a_trial_trains_as_it_trains_alone(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [trial(tiny(), [seed]) for seed in (1, 2)]
    wanted = [[one.step()["records"][0] for one in alone] for _ in range(6)]
    taken: list[int] = []
    whole = SweepTrial._take_turn

    def take_turn(self: SweepTrial, trainer: Trainer) -> None:
        taken.append(trainer.schedule.seed)
        whole(self, trainer)

    monkeypatch.setattr(SweepTrial, "_take_turn", take_turn)
    together = trial(tiny(), [1, 2])
    found = [together.step()["records"] for _ in range(6)]
    assert [list(map(untimed, records)) for records in found] == [list(map(untimed, records)) for records in wanted]
    assert taken[:4] == [1, 2, 1, 2], "step by step"
    ours, theirs = together.sessions, [one.sessions[0] for one in alone]
    for one, other in zip(ours, theirs, strict=True):
        kept = other.trainer.student.state_dict()
        assert all(torch.equal(tensor, kept[name]) for name, tensor in one.trainer.student.state_dict().items())


def test_a_trial_is_done_at_its_last_epoch_and_keeps_its_students(tiny: Tiny, tmp_path: Path) -> None:
    one = trial(tiny(review=None, training={"epochs": 2}), [4], ships(tmp_path))
    assert not one.step()["done"]
    own = kept_in(tmp_path, one)
    assert not list(own.iterdir()), "no half minute has gone by"
    result = one.step()
    assert result["done"] and Row.model_validate(result["rows"][0]).status == "done"
    assert Row.model_validate(result["rows"][0]).metrics["test_top1"] == result["test_top1"]
    assert sorted(path.name for path in own.iterdir()) == [CHECKPOINT, "examples.json", "hits.json", STUDENT]


def test_each_seed_of_a_trial_keeps_which_samples_are_right_and_a_resume_keeps_them_again(
    tiny: Tiny, tmp_path: Path
) -> None:
    short = tiny(review=None, training={"epochs": 2, **OFTEN})
    one = trial(short, [1, 2], ships(tmp_path))
    results = [one.step() for _ in range(2)]
    files = [kept_in(tmp_path, one, number) / HITS for number in range(2)]
    kept = [file.read_bytes() for file in files]
    for content, row in zip(kept, results[-1]["rows"], strict=True):
        found = KeptHits.model_validate_json(content)
        assert 100 * found.right().mean() == row["metrics"][f"test_{found.metric}"]
    for file in files:
        file.unlink()
    assert trial(short, [1, 2], ships(tmp_path)).step()["done"]
    assert [file.read_bytes() for file in files] == kept


def test_a_checkpoint_restores_every_seed_and_a_restored_trial_first_repeats_its_last_epoch(
    tiny: Tiny, tmp_path: Path
) -> None:
    one = trial(tiny(training=OFTEN), [1, 2], ships(tmp_path))
    results = [one.step() for _ in range(5)]
    settled(one)
    again = trial(tiny(training=OFTEN), [1, 2], ships(tmp_path))
    repeated = again.step()
    assert (repeated["epoch"], repeated["val_loss"]) == (4, results[-1]["val_loss"])
    assert [(of["seed"], of["epoch"]) for of in repeated["records"]] == [(s, e) for s in (1, 2) for e in range(5)]
    last, ours = one.step(), again.step()
    assert [untimed(of) for of in ours["records"]] == [untimed(of) for of in last["records"]] and ours["done"]
    over = trial(tiny(training=OFTEN), [1, 2], ships(tmp_path)).step()
    assert over["done"] and over["epoch"] == 5 and over["val_loss"] == last["val_loss"]
    assert [Row.model_validate(row).status for row in over["rows"]] == ["done", "done"]


def test_short_epochs_are_reported_together_and_each_of_them_once(tiny: Tiny, tmp_path: Path) -> None:
    experiment = tiny(review=None, training=OFTEN)
    one = trial(experiment, [1, 2], replace(ships(tmp_path), report_seconds=60.0))
    result = one.step()
    assert result["done"] and result["epoch"] == 5 and len(result["rows"]) == 2
    assert [(of["seed"], of["epoch"]) for of in result["records"]] == [(s, e) for s in (1, 2) for e in range(6)]
    alone = trial(experiment, [1, 2])
    wanted = [alone.step() for _ in range(6)]
    assert [untimed(of) for of in result["records"]] == [untimed(w["records"][s]) for s in range(2) for w in wanted]


@pytest.mark.parametrize(
    ("awaited", "last"), [(frozenset({1, 4}), [0, 3, 5]), (None, [0, 1, 2, 3, 4, 5]), (frozenset({6, 9}), [5])]
)
def test_short_epochs_are_reported_at_once_where_a_scheduler_waits(
    tiny: Tiny, tmp_path: Path, awaited: frozenset[int] | None, last: list[int]
) -> None:
    shipped = replace(ships(tmp_path), report_seconds=60.0, awaited=awaited)
    one = trial(tiny(review=None, training=OFTEN), [1, 2], shipped)
    results = [one.step() for _ in last]
    assert [result["epoch"] for result in results] == last and results[-1]["done"]
    assert [of["epoch"] for result in results for of in result["records"] if of["seed"] == 1] == list(range(6))


def test_a_row_says_which_share_of_a_gpu_its_trial_asked_for(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trial(tiny(review=None), [1], replace(ships(Path()), run=None, gpu_share=0.25))
    (session,) = one.sessions
    assert session.row().cost.gpu_share == 1.0, "on a CPU there is nothing to share"
    on_gpu = replace(session.trainer.compute, device=torch.device("cuda"))
    monkeypatch.setattr(type(on_gpu), "name", lambda self: "a GPU")
    monkeypatch.setattr(type(on_gpu), "peak_memory", lambda self: None)
    session.trainer.compute = on_gpu
    assert session.row().cost.gpu_share == 0.25


def test_seeds_whose_checkpoints_are_of_different_epochs_catch_up(tiny: Tiny, tmp_path: Path) -> None:
    one = trial(tiny(training=OFTEN), [1, 2], ships(tmp_path))
    results = []
    for _ in range(3):
        results.append(one.step())
        settled(one)
    (kept_in(tmp_path, one, 1) / CHECKPOINT).unlink()  # the second seed has its older one
    again = trial(tiny(training=OFTEN), [1, 2], ships(tmp_path))
    assert [len(session.trainer.history) for session in again.sessions] == [3, 2]
    for wanted, epoch in ((results[1], 1), (results[2], 2), (one.step(), 3)):
        found = again.step()
        assert found["epoch"] == epoch and found["val_loss"] == wanted["val_loss"]
        assert [untimed(of) for of in found["records"] if of["epoch"] == epoch] == [*map(untimed, wanted["records"])]


def test_a_trial_of_an_earlier_version_goes_on_from_the_checkpoints_in_its_folder(tiny: Tiny, tmp_path: Path) -> None:
    one = trial(tiny(review=None), [1])
    wanted = []
    for number in range(3):
        wanted.append(one.step())
        folder = tmp_path / "trials" / "00003" / f"checkpoint_{number:06d}"
        folder.mkdir(parents=True)
        name = f"state-{one.sessions[0].identity}-seed1.pt" if number else "state-seed1.pt"
        checkpoint.save(one.sessions[0].state_dict(), folder / name)
    for epoch in (2, 1, 0):
        found = trial(tiny(review=None), [1], ships(tmp_path)).step()
        assert (found["epoch"], found["val_loss"]) == (epoch, wanted[epoch]["val_loss"])
        shutil.rmtree(tmp_path / "trials" / "00003" / f"checkpoint_{epoch:06d}")


def test_a_checkpoint_that_cannot_be_written_breaks_the_trial_with_a_sentence(tiny: Tiny, tmp_path: Path) -> None:
    one = trial(tiny(review=None, training=OFTEN), [1], ships(tmp_path))
    shutil.rmtree(kept_in(tmp_path, one))
    assert not one.step()["done"]
    settled(one)
    one.members[0]._kept = [Kept(Workplace(tmp_path / "nowhere"), one.sessions[0])]
    one.step()
    one.members[0]._kept[0]._saver._thread.join()  # type: ignore[union-attr]
    result = one.step()
    assert result["done"] and result["broke"] and "checkpoint.pt: could not be written" in result["failed"]


@pytest.mark.parametrize("content", [b"", b"something else"])
def test_a_damaged_teacher_of_this_machine_is_replaced_by_the_one_that_the_sweep_sent(
    tiny: Tiny, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny()
    teacher = obtain(experiment, TeacherCache(tmp_path / "driver"), lambda record: None)
    key = key_of(experiment)
    assert teacher is not None and teacher.path is not None and key is not None
    sent = teacher.path.read_bytes()
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "worker"))
    kept = TeacherCache().path(str(teacher.key))
    for path in (teacher.path, kept):
        path.write_bytes(content)
    trial(experiment, [1], Shipped("sweep", None, "val_top1", "max", {key: (teacher, sent)}), teacher=key)
    assert kept.read_bytes() == sent


def test_a_process_is_used_again_for_another_trial(tiny: Tiny) -> None:
    one = trial(tiny(), [1])
    one.step()
    assert one.reset_config(config(tiny(review=None), [2], number=4))
    record = one.step()["records"][0]
    assert (record["seed"], record["epoch"]) == (2, 0)
    fresh = trial(tiny(review=None), [2]).step()["records"][0]
    assert record["loss"] == fresh["loss"]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_one_diverged_seed_ends_the_trial_with_its_reason_and_the_worst_metric(tiny: Tiny, mode: str) -> None:
    experiment = tiny(review=None, training={"lr": 1e20})
    one = trial(experiment, [1], Shipped("sweep", None, "val_loss", mode, {}))
    result = one.step()
    while not result["done"]:
        result = one.step()
    assert "the loss is not finite" in result["failed"] and result["val_loss"] == worst(mode)
    row = Row.model_validate(result["rows"][0])
    assert row.status == "failed" and row.reason == result["failed"]


def test_a_shipped_teacher_is_used_on_a_machine_that_never_trained_it(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny()
    teacher = obtain(experiment, TeacherCache(tmp_path / "driver"), lambda record: None)
    key = key_of(experiment)
    assert teacher is not None and key is not None
    content = teacher.path.read_bytes()
    teacher.path.unlink()
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "worker"))
    shipped = Shipped("sweep", None, "val_top1", "max", {key: (teacher, content)})
    one = trial(experiment, [1], shipped, teacher=key)
    kept = tmp_path / "worker" / "teachers" / f"{teacher.key}.pth"
    assert kept.read_bytes() == content
    one.step()
    assert one.sessions[0].row().teacher.key == teacher.key  # type: ignore[union-attr]


def test_one_shipped_file_is_enough_to_replay_a_teacher(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny(teacher={"replay": 3, "training": {"epochs": 3}})
    expected = trial(experiment, [1])
    teacher = obtain(experiment, TeacherCache(), lambda record: None)
    key = key_of(experiment)
    assert teacher is not None and teacher.path is not None and key is not None
    content = teacher.path.read_bytes()
    away = replace(teacher, path=tmp_path / "not here.pth")
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "worker"))
    shipped = trial(experiment, [1], Shipped("sweep", None, "val_top1", "max", {key: (away, content)}), teacher=key)
    for _ in range(6):
        wanted, found = expected.step()["records"][0], shipped.step()["records"][0]
        assert wanted["loss"] == found["loss"]
    assert "review_loss" in found


def test_an_untrained_teacher_is_made_by_the_trial_itself(tiny: Tiny, tmp_path: Path) -> None:
    training = {"epochs": 2, **OFTEN}
    online = tiny(teacher={"weights": "untrained"}, distiller="ekd", review=None, training=training)
    one = trial(online, [1, 2], ships(tmp_path))
    one.step()
    settled(one)
    again = trial(online, [1, 2], ships(tmp_path))
    last = one.step()
    again.step()
    assert again.step()["test_teacher_loss"] == last["test_teacher_loss"]
    row = Row.model_validate(last["rows"][0])
    assert row.metrics["test_teacher_top1"] == last["records"][0]["test_teacher_top1"]
    assert row.teacher is not None and (row.teacher.source, row.teacher.key) == ("untrained", None)
    assert last["records"][0]["test_teacher_loss"] != last["records"][1]["test_teacher_loss"], "a seed has its teacher"


def test_silent_reviews_are_said_in_the_row(tiny: Tiny) -> None:
    quiet, loud = trial(tiny(review={"lambda": 1e-6}), [1]), trial(tiny(review={"lambda": {"auto": 0.5}}), [1])
    for one, silent in ((quiet, True), (loud, False)):
        for _ in range(6):
            result = one.step()
        sentences = Row.model_validate(result["rows"][0]).warnings
        assert any("was under 1 %" in sentence for sentence in sentences) == silent


# Trials that break


def breaking(monkeypatch: pytest.MonkeyPatch, error: BaseException, seed: int = 2) -> None:
    """Let the second epoch of a seed raise."""
    whole = Trainer.begin

    def begin(self: Trainer, epoch: int | None = None) -> None:
        if self.schedule.seed == seed and self.next_epoch == 1:
            raise error
        whole(self, epoch)

    monkeypatch.setattr(Trainer, "begin", begin)


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit("boom"), InputError("task: boom")])
def test_an_exception_of_a_component_ends_the_trial_with_a_row_a_seed(
    error: BaseException, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trial(tiny(review=None, training=OFTEN), [1, 2], ships(tmp_path))
    breaking(monkeypatch, error)
    assert not one.step()["done"]
    settled(one)
    result = one.step()
    assert result["done"] and result["broke"] and result["records"] == [] and "boom" in result["errors"]
    first, second = (Row.model_validate(row) for row in result["rows"])
    assert all(row.status == "failed" and row.broke for row in (first, second))
    assert (second.reason or "").endswith("boom") and first.reason == f"seed 2 of its trial broke: {second.reason}"
    assert second.epochs == 1
    # The state of the broken epoch is never kept.
    one.cleanup()
    again = trial(tiny(review=None, training=OFTEN), [1, 2], ships(tmp_path))
    assert [len(session.trainer.history) for session in again.sessions] == [1, 1]
    assert result["val_top1"] == worst("max")


def test_what_may_pass_is_raised_for_another_try_in_a_new_process(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trial(tiny(review=None), [1, 2])
    breaking(monkeypatch, MemoryError())
    one.step()
    with pytest.raises(BrokenTrialError) as caught:
        one.step()
    told = pickle.loads(pickle.dumps(caught.value))
    assert (told.seed, told.reason) == (2, "MemoryError: the process found no more memory")
    assert "Traceback" in told.text


def test_what_may_pass_is_raised_after_the_epochs_before_it_were_reported(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trial(tiny(review=None), [1, 2], replace(ships(Path()), run=None, report_seconds=600.0))
    breaking(monkeypatch, MemoryError())
    result = one.step()
    assert [(record["seed"], record["epoch"]) for record in result["records"]] == [(1, 0), (2, 0)]
    assert (result["epoch"], result["done"], result["rows"]) == (0, False, [])
    for _ in range(2):
        with pytest.raises(BrokenTrialError, match="MemoryError"):
            one.step()
    assert one.reset_config(config(tiny(review=None), [1])) and one.step()["done"], "another trial in the same process"


def test_a_trial_that_cannot_be_built_tells_it_in_its_first_step(tiny: Tiny) -> None:
    given = config(tiny(review=None), [1, 2])
    lost = {**given, "experiment": given["experiment"] | {"distiller": {"name": "nowhere_to_be_found:Lost"}}}
    one = trial(tiny(review=None), [1])
    assert one.reset_config(lost)
    result = one.step()
    assert result["done"] and result["broke"]
    rows = [Row.model_validate(row) for row in result["rows"]]
    assert [(row.seed, row.epochs, row.broke) for row in rows] == [(1, 0, True), (2, 0, True)]
    assert "nowhere_to_be_found" in (rows[0].reason or "")
    assert one.reset_config(config(tiny(review=None), [1])) and one.step()["epoch"] == 0


def test_a_new_process_takes_up_the_newest_whole_checkpoint_and_says_what_was_damaged(
    tiny: Tiny, tmp_path: Path
) -> None:
    one = trial(tiny(review=None, training=OFTEN), [1], ships(tmp_path))
    results = []
    for _ in range(3):
        results.append(one.step())
        settled(one)
    result = trial(tiny(review=None, training=OFTEN), [1], ships(tmp_path)).step()
    assert (result["epoch"], result["notes"]) == (2, [])
    newest = kept_in(tmp_path, one) / CHECKPOINT
    content = newest.read_bytes()
    newest.write_bytes(content[:9000] + bytes([content[9000] ^ 1]) + content[9001:])
    again = trial(tiny(review=None, training=OFTEN), [1], ships(tmp_path))
    result = again.step()
    assert (result["epoch"], result["val_loss"]) == (1, results[1]["val_loss"])
    (note,) = result["notes"]
    assert f"{newest} is damaged" in note and "goes on after 2 epochs" in note
    assert again.step()["val_loss"] == results[2]["val_loss"]
    settled(again)
    for path in newest.parent.iterdir():
        path.write_bytes(b"")
    result = trial(tiny(review=None, training=OFTEN), [1], ships(tmp_path)).step()
    assert result["epoch"] == 0 and "starts anew" in result["notes"][0]
