"""Both formats of a run's folder are read alike, and every difference between two records is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import bits

DIGEST = "0a1b2c3d4e5f6071"
POINT = {"review.k": 2, "review.lambda": 0.5}
STATE = {"w": torch.tensor([[1.0, -0.0]]), "count": torch.tensor(3)}
NAME = 'tskd {"review.k": 2, "review.lambda": 0.5}, seed 1'


def save(path: Path, state: dict[str, torch.Tensor], **facts: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**facts, "model": state}, path)


def write(path: Path, lines: list[dict[str, Any]], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(line) for line in lines) + end)


def row(seed: int, **over: Any) -> dict[str, Any]:
    shared = {"arm": "tskd", "point": POINT, "seed": seed, "status": "done", "epochs": 2, "epochs_planned": 2}
    measured = {"metrics": {"loss": 0.25, "val_top1": 80.0, "test_top1": 75.0}, "lambda": 0.5}
    plan = {"plan": {"memorize": [0], "review": [1]}}
    return {**shared, **measured, **plan, "cost": {"seconds": 1.5}, "versions": {"torch": "2"}, **over}


def epochs(seed: int, **over: Any) -> list[dict[str, Any]]:
    return [
        {"seed": seed, "epoch": epoch, "phase": "general", "loss": 0.5 - epoch / 4, "seconds": 2.0, **over}
        for epoch in range(2)
    ]


def old_run(folder: Path) -> Path:
    """A run in format 1: a trial with two seeds, and the copies of students in its checkpoint."""
    best = {
        "best_validation": {"epoch": 0, "val_top1": 90.0, "test_top1": 85.0},
        "best_test": {"epoch": 1, "test_top1": 87.0, "marked": "chosen on the test set"},
        "teacher": {"name": "t", "parameters": 7, "test_top1": 60.0},
    }
    write(folder / "rows.jsonl", [row(seed, format=1, run="00001", **best) for seed in (1, 2)])
    twice = [{**epochs(1)[1], "loss": 9.0}, *epochs(1), *epochs(2)]
    write(folder / "trials" / "00001" / "history.jsonl", twice, end='\n{"seed": 1, "epo')
    for seed in (1, 2):
        save(folder / f"trials/00001/student-seed{seed}.pth", STATE, accuracy=75.0)
        save(folder / f"trials/00001/checkpoint_000001/student-seed{seed}.pth", {"w": torch.zeros(1)})
    return folder


def new_run(folder: Path, layout: str) -> Path:
    """A run in format 2, whose files are named by the digest of the experiment and the seed."""
    best = [
        {"epoch": 0, "part": "validation", "metric": "top1", "value": 90.0, "also": {"test_top1": 85.0, "loss": 1.0}},
        {"epoch": 1, "part": "test", "metric": "top1", "value": 87.0, "also": {}},
    ]
    teacher = {"name": "t", "parameters": 7, "metrics": {"test_top1": 60.0, "test_loss": 1.0}}
    added = {"format": 2, "identity": DIGEST, "best": best, "teacher": teacher}
    broken = row(1, **{**added, "status": "failed"})
    write(folder / "rows.jsonl", [broken, *(row(seed, **added) for seed in (1, 2))])
    for seed in (1, 2):
        write(folder / layout.format(seed=seed, kind="history.jsonl"), epochs(seed, time="now", identity=DIGEST))
        state = dict(reversed(STATE.items()))  # the order of the tensors in the file does not count
        save(folder / layout.format(seed=seed, kind="student.pth"), state, epoch=1)
    return folder


LAYOUTS = [
    "trials/0a1b2c3d4e5f6071-{seed}/{kind}",
    "trials/0a1b2c3d4e5f6071/seed{seed}/{kind}",
    "trials/0a1b2c3d/{seed}/{kind}",
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_formats_are_read_alike(tmp_path: Path, layout: str) -> None:
    old = bits.trainings(old_run(tmp_path / "old"))
    new = bits.trainings(new_run(tmp_path / "new", layout))
    assert [*old] == [NAME, NAME.replace("seed 1", "seed 2")]
    assert old == new
    assert bits.differences({"s": old}, {"s": new}) == []


def test_what_a_record_holds_of_a_training(tmp_path: Path) -> None:
    training = bits.trainings(old_run(tmp_path))[NAME]
    assert training["row"] == {
        **{"status": "done", "epochs": 2, "epochs_planned": 2, "lambda": 0.5},
        **{"loss": 0.25, "val_top1": 80.0, "test_top1": 75.0, "plan_memorize": [0], "plan_review": [1]},
        **{"best_val_top1": 90.0, "best_val_top1_epoch": 0, "best_val_top1_test_top1": 85.0},
        **{"best_test_top1": 87.0, "best_test_top1_epoch": 1, "teacher_parameters": 7, "teacher_test_top1": 60.0},
    }
    assert training["history"] == [
        {"seed": 1, "epoch": 0, "phase": "general", "loss": 0.5},
        {"seed": 1, "epoch": 1, "phase": "general", "loss": 0.25},
    ]


def test_the_digest_is_that_of_the_final_student_and_not_of_a_checkpoint(tmp_path: Path) -> None:
    training = bits.trainings(old_run(tmp_path / "run"))[NAME]
    save(tmp_path / "student.pth", STATE)
    assert training["weights"] == bits.weights(tmp_path / "student.pth")


@pytest.mark.parametrize(
    "other",
    [
        {**STATE, "w": torch.tensor([[1.0, 0.0]])},  # equal as numbers, but not as bits
        {**STATE, "w": torch.tensor([1.0, -0.0])},
        {**STATE, "count": torch.tensor(3, dtype=torch.int32)},
        {"v": STATE["w"], "count": STATE["count"]},
    ],
    ids=["bits", "shape", "dtype", "name"],
)
def test_the_digest_sees_every_bit_shape_type_and_name(tmp_path: Path, other: dict[str, torch.Tensor]) -> None:
    save(tmp_path / "one.pth", STATE)
    save(tmp_path / "other.pth", other)
    assert bits.weights(tmp_path / "one.pth") != bits.weights(tmp_path / "other.pth")


@pytest.mark.parametrize("lost", ["student-seed1.pth", "history.jsonl"])
def test_a_file_that_is_not_found_is_no_equality(tmp_path: Path, lost: str) -> None:
    folder = old_run(tmp_path)
    for path in folder.rglob(lost):
        path.unlink()
    with pytest.raises(SystemExit, match="of 2 epochs, student"):
        bits.trainings(folder)


def test_two_trainings_of_one_name_are_both_kept(tmp_path: Path) -> None:
    folder = old_run(tmp_path)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    (folder / "trials" / "00001").rename(folder / "trials" / "7")
    write(folder / "rows.jsonl", [{**rows[0], "run": "7"}])
    old_run(tmp_path / "more")
    (tmp_path / "more" / "trials" / "00001").rename(folder / "trials" / "8")
    write(folder / "rows.jsonl", [{**rows[0], "run": "7"}, {**rows[0], "run": "8"}])
    assert [*bits.trainings(folder)] == [NAME, f"{NAME} again"]


Change = Callable[[bits.Training], Any]
CHANGES: list[tuple[Change, str]] = [
    (lambda one: one.update(weights="f00"), "the weights differ (sha256 ba5e, now f00)"),
    (lambda one: one["row"].update(val_top1=80.1), "val_top1 was 80.0 and is 80.1"),
    (lambda one: one["row"].pop("lambda"), "lambda was 0.5 and is absent"),
    (lambda one: one["history"].pop(), "the history had 2 epochs and has 1"),
    (
        lambda one: [line.update(loss=1.0) for line in one["history"]],
        "the history differs from epoch 0 on: loss was 0.5 and is 1.0",
    ),
]


def recorded() -> dict[str, bits.Trainings]:
    line = {"seed": 1, "phase": "general", "loss": 0.5}
    history = [{**line, "epoch": epoch} for epoch in range(2)]
    return {"digits": {"kd, seed 1": {"weights": "ba5e", "row": {"val_top1": 80.0, "lambda": 0.5}, "history": history}}}


@pytest.mark.parametrize(("change", "sentence"), CHANGES)
def test_each_difference_is_a_sentence(change: Change, sentence: str) -> None:
    new = recorded()
    change(new["digits"]["kd, seed 1"])
    assert bits.differences(recorded(), new) == [f"digits, kd, seed 1: {sentence}."]


def test_a_training_that_only_one_record_has_is_a_difference() -> None:
    assert bits.differences(recorded(), {}) == ["digits, kd, seed 1: only the old record has this."]
    assert bits.differences({}, recorded()) == ["digits, kd, seed 1: only the new record has this."]


def test_compare_ends_with_1_where_records_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, other = (tmp_path / f"{name}.json" for name in ("old", "new", "other"))
    changed = recorded()
    changed["digits"]["kd, seed 1"]["weights"] = None
    machine = {"torch": "2.11", "cpu": "AVX2"}
    old.write_text(json.dumps({"machine": machine, "scenarios": recorded()}))
    new.write_text(json.dumps({"machine": machine, "scenarios": recorded()}))
    other.write_text(json.dumps({"machine": {**machine, "cpu": "AVX512"}, "scenarios": changed}))
    assert bits.main(["compare", str(old), str(new)]) == 0
    assert capsys.readouterr().out == "1 networks: all are equal.\n"
    assert bits.main(["compare", str(old), str(other)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("Note: cpu was AVX2 and is AVX512.")
    assert told[1:] == ["1 networks: 1 differences.", "digits, kd, seed 1: the weights differ (sha256 ba5e, now None)."]


@pytest.mark.parametrize(("resumed", "code"), [("ba5e", 0), ("f00", 1)])
def test_a_resumed_run_is_compared_with_the_run_that_was_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: str, code: int
) -> None:
    def run(scenario: bits.Scenario, place: Path) -> bits.Trainings:
        found = recorded()["digits"]
        found["kd, seed 1"]["weights"] = "ba5e" if scenario.killed_after is None else resumed
        return found

    monkeypatch.setattr(bits, "run", run)
    assert bits.main(["record", str(tmp_path / "one.json"), "--only", "killed_sweep"]) == code
    assert json.loads((tmp_path / "one.json").read_text())["scenarios"].keys() == {"digits", "killed_sweep"}


def test_nothing_of_the_package_is_imported() -> None:
    assert "import tskd_tune" not in (text := Path(bits.__file__).read_text()) and "from tskd_tune" not in text
