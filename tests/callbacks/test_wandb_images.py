"""The examples of a sweep as images of W&B: what they hold, and that they are kept offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import factories
from tskd_tune.callbacks import CALLBACKS, Heard
from tskd_tune.callbacks.base import build
from tskd_tune.callbacks.wandb_images import images
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.row import TeacherRecord
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.kept.examples import Examples, Pictures, pictures_file, teacher_file
from tskd_tune.records.kept.kept_files import written
from tskd_tune.records.runs.run_folder import RunFolder

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
BOXES: dict[str, Any] = {
    "kind": "boxes",
    "sizes": [[50, 100], [50, 100]],
    "truth": [[[10.0, 10, 60, 40, 1]], []],
    "answer": [[[0.0, 5, 50, 50, 0, 0.75]], []],
}


def classes(*answer: int) -> dict[str, Any]:
    return {"kind": "classes", "truth": [0, 1, 1], "answer": [*answer], "confidence": [0.9, 0.8, 0.7]}


def a_run(folder: Path, arms: dict[str, dict[str, Any]], *, pictures: int = 3) -> RunFolder:
    run = RunFolder.create(folder, "first", "sweep", {"wandb": {"project": "mine", "entity": None}})
    teacher = TeacherRecord(name="big", source="auto", key="k1")
    for place, (arm, answers) in enumerate(arms.items()):
        trial, identity = f"t{place}", f"{place}" * 12
        run.begin(Begun(run=trial, identity=identity, arm=arm, seeds=[1]))
        run.add_row(factories.a_row(trial, 1, arm, identity=identity, teacher=teacher))
        path = run.student_path(trial, 1).with_name("examples.json")
        path.parent.mkdir(parents=True)
        path.write_bytes(written(examples(answers)))
    run.store.write(teacher_file("d1", "k1"), written(examples(next(iter(arms.values())))))
    shown = Pictures(classes=["cat", "dog"], names=["7", "9", "11"], images=[PIXEL] * pictures)
    run.store.write(pictures_file("d1"), written(shown))
    return run


def examples(answers: dict[str, Any]) -> Examples:
    facts = {"part": "test", "data": "d1", "samples": [*range(len(answers["truth"]))], "answers": answers}
    return Examples.model_validate(facts)


def test_boxes_of_each_network_stand_beside_the_truth(tmp_path: Path) -> None:
    found = images(a_run(tmp_path, {"plain": BOXES, "review": BOXES}))
    assert list(found) == ["examples/teacher big", "examples/plain, seed 1", "examples/review, seed 1"]
    first, second = found["examples/plain, seed 1"]
    boxes: Any = first._boxes
    assert set(boxes) == {"truth", "found"} and not second._boxes
    (box,) = boxes["found"]._val
    assert box["position"] == {"minX": 0.0, "minY": 0.1, "maxX": 0.5, "maxY": 1.0}
    assert box["scores"] == {"score": 0.75} and box["box_caption"] == "cat 0.75"
    assert boxes["truth"]._val[0]["class_id"] == 1 and first._caption == "image 7"


def test_samples_on_which_arms_differ_say_what_each_network_answers(tmp_path: Path) -> None:
    found = images(a_run(tmp_path, {"plain": classes(0, 1, 0), "review": classes(1, 1, 0)}))
    assert list(found) == ["examples/arms differ"]
    (image,) = found["examples/arms differ"]
    assert image._caption == ("cat; teacher big: cat (90 %); plain, seed 1: cat (90 %); review, seed 1: dog (90 %)")


def test_the_students_of_several_teachers_are_told_apart(tmp_path: Path) -> None:
    run = a_run(tmp_path, {"plain": BOXES, "review": BOXES})
    for teacher in (4, 7):
        row = run.rows()[1].model_copy(update={"run": f"t{teacher}", "identity": f"{teacher}" * 12})
        run.begin(Begun(run=row.run, identity=row.identity, arm="kd", seeds=[1]))
        run.add_row(row.model_copy(update={"arm": "kd", "point": {"teacher.seed": teacher}}))
        path = run.student_path(row.run, 1).with_name("examples.json")
        path.parent.mkdir(parents=True)
        path.write_bytes(written(examples(BOXES)))
    assert list(images(run))[3:] == ["examples/kd, seed 1 (teacher 4)", "examples/kd, seed 1 (teacher 7)"]


def test_a_run_without_pictures_has_no_images(tmp_path: Path) -> None:
    assert images(a_run(tmp_path, {"plain": BOXES}, pictures=0)) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("no_wandb_account")
def test_images_are_kept_offline_with_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    run = a_run(tmp_path, {"plain": BOXES})
    (run.path / "report.html").write_text("<html>a report</html>")
    for wanted, count in ((False, 0), (True, 4)):  # two networks, two images
        component = CALLBACKS.slot().parse({"name": "wandb_artifacts", "seconds": 20.0, "examples": wanted})
        callback = build(component, Heard(run.name, run.path))
        callback.hear(Event("report", "", reason=str(run.path / "report.html")))
        callback.close()
        kept = [*run.path.glob("wandb/offline-run-*/files/media/metadata/boxes2D/**/*.json")]
        assert len(kept) == count
    assert any(json.loads(path.read_text()) for path in kept)
    assert [*run.path.glob("wandb/offline-run-*/files/media/images/**/*.png")]
