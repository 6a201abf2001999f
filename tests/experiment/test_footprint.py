"""What can never fit into the memory is refused with a number, before anything is allocated."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment, footprint
from tskd_tune.experiment.assembly import task_of
from tskd_tune.experiment.footprint import memory_of
from tskd_tune.experiment.verification import verify

Tiny = Callable[..., Experiment]
SYNTHETIC = {"name": "synthetic", "train": 64, "validation": 0, "test": 8}


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse to allocate more than 6 GB in this process, and say that the machine has 4 GB."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    monkeypatch.setattr(footprint, "memory_of", lambda device: 4 * 10**9)
    resource.setrlimit(resource.RLIMIT_DATA, (used + 6 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({"task": {**SYNTHETIC, "size": 100_000}}, "task: 72 images of 100000 x 100000 pixels take 2,160.0 GB; a tr"),
        ({"task": {**SYNTHETIC, "train": 10**12, "size": 4}}, "task: 1000000000008 images of 4 x 4 pixels take"),
        (
            {"task": {**SYNTHETIC, "train": 10**6, "batch_size": 10**7, "size": 32}},
            "task.batch_size: a batch of 1000000",
        ),
        ({"task": {**SYNTHETIC, "channels": 10**8}}, "task: 72 images of 8 x 8 pixels take"),
        ({"task": {**SYNTHETIC, "classes": 10**7, "train": 10**7, "size": 4}}, "student: its parameters take "),
        (
            {"review": {"k": 1, "delta": 1, "extractor": {"name": "conv_lstm", "hidden": 10**6}}},
            "review.extractor: its ",
        ),
        (
            {"review": {"k": 1, "delta": 1, "extractor": {"name": "conv_gru", "hidden": 2**62}}},
            "more than a billion GB",
        ),
        ({"review": None, "distiller": {"name": "crd", "dimension": 10**8}}, "distiller: its parameters take "),
        (
            {"review": None, "distiller": "rkd", "task": {**SYNTHETIC, "train": 4096, "batch_size": 4096}},
            "task.batch_size: the loss of 'rkd' takes",
        ),
    ],
)
@pytest.mark.usefixtures("little")
def test_absurd_sizes(tiny: Tiny, over: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        verify(tiny(**over))
    assert sentence in str(caught.value)
    assert "of memory, but this machine has 4.0 GB; lower the sizes under " in str(caught.value)


MANY = {"name": "synthetic", "train": 10**6, "size": 4, "classes": 1000, "batch_size": 256, "validation": 0, "test": 8}
SO = {"epochs": 1, "method": {"name": "soteacher"}}


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        (
            {"review": None, "distiller": {"name": "crd", "dimension": 512}},
            "distiller: what 'crd' keeps of each of 1,000,000 training images takes 4.1 GB",
        ),
        (
            {"review": None, "distiller": "kd", "teacher": {"training": SO}},
            "teacher.training.method: what 'soteacher' keeps of each of 1,000,000 training images takes 4.0 GB",
        ),
    ],
)
@pytest.mark.usefixtures("little")
def test_what_is_kept_of_every_image_is_refused_with_its_size(tiny: Tiny, over: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        verify(tiny(task=MANY, **over))
    assert sentence in str(caught.value)
    assert "use fewer images (task.fraction), a device with more memory, another method" in str(caught.value)


def test_what_is_kept_of_every_image_is_counted(tiny: Tiny) -> None:
    half = {**SO, "method": {"name": "soteacher", "average_precision": "float16"}}
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"review": None}, []),
        ({"review": None, "distiller": "kd", "teacher": {"training": {"epochs": 1}}}, []),
        ({"review": None, "distiller": "crd", "teacher": {"training": {"epochs": 1}}}, [(2 * 128 * 4 + 2 * 8) * 10**6]),
        ({"review": None, "distiller": "kd", "teacher": {"training": SO}}, [1000 * 4 * 10**6]),
        ({"review": None, "distiller": "kd", "teacher": {"training": half}}, [1000 * 2 * 10**6]),
    ]
    for over, sizes in cases:
        experiment = tiny(task=MANY, **over)
        assert [share.bytes for share in footprint.kept_of_samples(experiment, task_of(experiment))] == sizes


def test_what_fits_is_measured_and_passes(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "LARGE_OPTION", 0)
    for over in ({}, {"distiller": "ofd"}, {"distiller": "crd"}, {"distiller": "review_kd"}, {"review": None}):
        verify(tiny(**over))


def test_the_parameters_of_a_network_are_counted(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "LARGE_OPTION", 0)
    shares = {share.key: share.bytes for share in footprint._shares(tiny(), task_of(tiny()))}
    network = footprint.student_network(tiny(), task_of(tiny()).facts())
    floats = sum(parameter.numel() for parameter in network.parameters())
    assert shares["student"] == pytest.approx(12 * floats, rel=0.1)


def test_the_memory_of_this_machine() -> None:
    assert 2**28 < memory_of(torch.device("cpu")) < 2**50
