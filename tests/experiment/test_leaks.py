"""What leaks into the measured sets is in the report's first lines: shared images, and teachers that saw them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tskd_tune
from factories import a_row, write_rows
from tskd_tune import networks
from tskd_tune.checks import check_experiment
from tskd_tune.experiment import Experiment
from tskd_tune.experiment import teacher as teachers
from tskd_tune.experiment.teacher import obtain
from tskd_tune.experiment.teacher_leaks import leak_of, said_of
from tskd_tune.networks.weights import write_state
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.page.report import html
from tskd_tune.tasks.image_source import ImageParts, Labeled, same_pixels
from tskd_tune.tasks.images import Normalization
from tskd_tune.tasks.synthetic import SyntheticImages
from tskd_tune.training.teachers import TeacherCache

Tiny = Callable[..., Experiment]
SHARED = (
    "task: the training set holds 2 of the 8 test images too, pixel for pixel, such as no. 3, which is no. 0 of the"
    " training set with another class; a metric of the test set is then too good"
)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put two training images into the test set."""
    read = SyntheticImages.read

    def leaking(self: SyntheticImages) -> ImageParts:
        parts = read(self)
        images = parts.test.images.clone()
        images[3], images[5] = parts.training.images[0], parts.training.images[1]
        return replace(parts, test=Labeled(images, parts.test.targets))

    monkeypatch.setattr(SyntheticImages, "read", leaking)


@pytest.mark.usefixtures("shared")
def test_images_that_two_sets_share_are_found_by_check_and_open_the_report(tiny: Tiny, tmp_path: Path) -> None:
    over = {"review": None, "training": {"epochs": 1}, "task": {"data_seed": 77}}
    assert check_experiment(tiny(**over), data=True).oddities == [SHARED]
    told: list[Any] = []
    folder = tskd_tune.train(tiny(**over), "run", storage=tmp_path, listener=told.append, track=False)
    assert SHARED in [event.reason for event in told]
    lines = markdown(summary(folder)).splitlines()
    first = next(line for line in lines if line.startswith("- "))
    assert first == f"- Leak: {SHARED}."
    page = html(folder, summary(folder))
    assert page.index(SHARED[:60]) < page.index("Task synthetic")
    assert json.loads((folder.path / "leaks.json").read_text())["sentences"] == [SHARED]


def test_a_split_without_shared_images_says_nothing_and_sixty_thousand_are_compared_in_seconds() -> None:
    images = torch.randint(0, 256, (60_000, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(len(images), dtype=torch.long)
    sets = [Labeled(images[a:b], targets[a:b]) for a, b in ((0, 45_000), (45_000, 50_000), (50_000, 60_000))]
    started = time.process_time()
    assert same_pixels(ImageParts(*sets, Normalization.of(images[:10]))) == []
    none = Labeled(images[:0], targets[:0])
    assert same_pixels(ImageParts(sets[1], none, none, Normalization.of(images[:10]))) == []
    assert time.process_time() - started < 10  # 0.3 s of CPU time, as measured


# Teachers


def weights(path: Path, **facts: Any) -> Path:
    torch.manual_seed(3)
    write_state(path, networks.build("resnet14", 4), facts={"name": "resnet14", **facts})
    return path


def test_a_teacher_of_another_split_and_one_that_knows_the_validation_images(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TeacherCache(tmp_path / "cache")
    same, other = tiny().teacher_experiment(), tiny(task={"validation": 0, "train": 32}).teacher_experiment()
    for name, trained, leaks in (("same", same, False), ("other", other, True)):
        path = weights(tmp_path / f"{name}.pth", experiment=json.dumps(trained.plain()))
        found = obtain(tiny(teacher={"weights": str(path)}), cache, lambda line: None)
        assert found is not None
        assert ("trained on another split of synthetic, which may have the validation images" in found.leak) is leaks
        assert obtain(tiny(teacher={"weights": str(path)}, task={"validation": 0}), cache, lambda line: None).leak == ""  # type: ignore[union-attr]
    # Weights that tell nothing are measured on both sets: the test set is what a new image would show.
    given = tiny(teacher={"weights": str(weights(tmp_path / "given.pth"))}, task={"validation": 400, "test": 400})
    for validation, leaks in ((99.0, True), (72.5, False)):
        said = leak_of(given, {}, {"validation": validation, "test": 71.0}.__getitem__)
        assert ("were probably trained on the validation images" in said) is leaks
    # Where the test set is never read, it cannot be known, and this is said.
    never = tiny(teacher={"weights": str(weights(tmp_path / "given.pth"))}, evaluation={"test": "never"})
    found = obtain(never, cache, lambda line: None)
    assert found is not None and "it is not known whether they were trained on the validation images" in found.leak
    # The run's row has it, and the report begins with it.
    measured: Any = {"validation": 99.0, "test": 20.0}
    monkeypatch.setattr(
        teachers,
        "leak_of",
        lambda experiment, facts, on: said_of(*measured.values(), (1, 99, 99), "teacher.weights: x", "top-1"),
    )
    shown = tiny(teacher={"weights": str(tmp_path / "given.pth")}, training={"epochs": 3}, distiller="kd", review=None)
    folder = tskd_tune.train(shown, "run", storage=tmp_path, track=False)
    first = next(line for line in markdown(summary(folder)).splitlines() if line.startswith("- "))
    assert first.startswith("- Leak: teacher.weights: x reach a top-1 of 99.00 on the validation set and 20.00 on the")


@pytest.mark.parametrize(
    ("validation", "test", "counts", "leaks"),
    [(95.0, 72.0, 5000, True), (74.0, 72.0, 5000, False), (79.0, 72.0, 200, False), (78.0, 72.0, 20_000, True)],
)
def test_a_teacher_is_named_beyond_five_points_and_five_standard_errors(
    validation: float, test: float, counts: int, leaks: bool
) -> None:
    assert bool(said_of(validation, test, (1, counts, counts), "x", "top-1")) is leaks


def test_a_split_that_differs_between_arms_is_found_by_its_digest(tmp_path: Path) -> None:
    def rows(arm: str, digest: str, shift: float, review: Any) -> list[Any]:
        data = {"inputs": [1, 8, 8], "outputs": 10, "samples": [100, 10, 10], "fingerprint": digest}
        experiment = {"task": {"name": "image_folder"}, "student": {"name": "resnet8"}, "review": review}
        values = [70.1, 70.4, 69.8, 70.0, 70.3, 70.2]
        return [
            a_row(
                f"{arm}{seed}",
                seed,
                arm,
                data=data,
                experiment=experiment,
                metrics={"test_top1": value + shift + seed / 50},
            )
            for seed, value in enumerate(values)
        ]

    for digests, verdict in ((("1a" * 8, "1a" * 8), "resolved"), (("1a" * 8, "2b" * 8), "undecided")):
        folder = RunFolder.create(tmp_path, verdict, "sweep", {"search": {"name": "grid"}, "seeds": [*range(6)]})
        write_rows(folder, [*rows("ce", digests[0], 0.0, None), *rows("tskd", digests[1], 1.0, {"k": 3})])
        found = summary(folder)
        assert found.family is not None
        (finding,) = found.family.family.findings
        assert finding.verdict == verdict
        assert ("files or split of the data (digest 2b2b2b2b against 1a1a1a1a)" in finding.sentence) is (
            verdict == "undecided"
        )
