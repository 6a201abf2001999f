"""Data are held once a process: whoever asks for the same data shares them, and data that nobody holds are let go."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch

from tskd_tune.contracts import Batch, Classified
from tskd_tune.errors import InputError
from tskd_tune.tasks import build
from tskd_tune.tasks.base import Objective, Source, Task, TaskFacts
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.images import Augmentation, Normalization
from tskd_tune.tasks.resident import OWNER, Owner, Resident, ResidentImages, ResidentParts
from tskd_tune.tasks.synthetic import SyntheticImages

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    OWNER.clear()
    yield
    OWNER.clear()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    read = SyntheticImages.read

    def counted(self: SyntheticImages):
        found.append("read")
        return read(self)

    monkeypatch.setattr(SyntheticImages, "read", counted)
    return found


def test_two_batch_sizes_share_one_copy(reads: list[str]) -> None:
    first, second = (build("synthetic", batch_size=size).training(CPU) for size in (8, 16))
    assert first.targets.data_ptr() == second.targets.data_ptr()
    assert first._images is second._images  # type: ignore[attr-defined]
    assert len(reads) == 1


def test_all_parts_are_read_at_once_and_once(reads: list[str]) -> None:
    task = build("synthetic", validation=8)
    for _ in range(2):
        task.training(CPU)
        task.evaluation("validation", CPU)
        task.evaluation("test", CPU)
    assert len(reads) == 1


def test_other_data_are_another_copy(reads: list[str]) -> None:
    feeds = [build("synthetic", **options).training(CPU) for options in ({}, {"data_seed": 1}, {"padding": 2})]
    assert len({feed.targets.data_ptr() for feed in feeds}) == 3
    assert len(reads) == 3


def test_data_that_nobody_holds_are_let_go(reads: list[str]) -> None:
    held, dropped = build("synthetic", data_seed=1).training(CPU), build("synthetic", data_seed=2).training(CPU)
    images = weakref.ref(dropped._images)  # type: ignore[attr-defined]
    del dropped
    gc.collect()
    assert images() is not None  # asked for last, so it stays for the training that follows
    build("synthetic", data_seed=3).training(CPU)
    gc.collect()
    assert images() is None
    build("synthetic", data_seed=1).training(CPU)
    assert len(reads) == 3
    assert held.steps() == 4


def test_the_data_before_are_let_go_before_others_are_read() -> None:
    def made() -> ResidentParts:
        images, constants = torch.zeros(2, 1, 2, 2, dtype=torch.uint8), Normalization((0.0,), (1.0,))
        return ResidentParts(*(ResidentImages(images, torch.zeros(2), constants, device=CPU) for _ in range(3)))

    owner = Owner()
    first = weakref.ref(owner.parts(("first",), made))
    seen: list[bool] = []

    def read() -> ResidentParts:
        gc.collect()
        seen.append(first() is None)
        return made()

    owner.parts(("second",), read)
    assert seen == [True]


def test_a_source_without_images_is_refused() -> None:
    class Numbers(Source):
        def facts(self) -> TaskFacts:
            return TaskFacts((1, 1, 1), 2, (4, 0, 4))

        def identity(self):
            return {}

        def verify(self):
            return ()

    task = Task(Numbers(), Classification(), Resident(Augmentation(0, False), 2))
    with pytest.raises(InputError, match=r"its feeding needs images, but Numbers is no ImageSource; derive"):
        task.training(CPU)


def test_an_objective_with_options_is_in_the_fingerprint_and_one_without_is_not() -> None:
    class Smoothed(Objective):
        def metrics(self, facts: TaskFacts):
            return Classification().metrics(facts)

        def losses(self, output: Classified, batch: Batch):
            return Classification().losses(output, batch)

        def meter(self, facts: TaskFacts):
            return Classification().meter(facts)

        def identity(self):
            return {"smoothing": 0.1}

    plain = build("synthetic")
    assert plain.fingerprint() == "100708510680cdf7914f989f58c57b08e64e0cbf3d48ada26b30ec5d670583af"
    assert Task(plain.source, Smoothed(), plain.feeding).fingerprint() != plain.fingerprint()
