"""Shared by all tests: one thread, a cache of their own, and the smallest experiment that does everything."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from places import memory, s3, s3_server  # noqa: F401

from tskd_tune import documents
from tskd_tune.experiment import Experiment
from tskd_tune.training.compute import Compute

TINY = {
    "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 24, "validation": 8, "test": 8},
    "teacher": {"name": "resnet14", "training": {"epochs": 1, "lr": 0.01}},
    "student": {"name": "resnet8"},
    "review": {"k": 2, "delta": 1, "extractor": {"name": "conv_lstm", "hidden": 2}},
    "training": {"epochs": 6, "lr": 0.05, "device": "cpu"},
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count what is long as slow, too."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _auto_is_the_cpu() -> Iterator[None]:
    """Let ``training.device: auto`` be the CPU in the process of the tests, so that they compute the same everywhere.

    Tests of a GPU name it. The commands that tests start choose as they do for users.
    """
    choose = Compute.choose

    @functools.wraps(choose)
    def on_cpu(device: str, *options: Any) -> Compute:
        return choose("cpu" if device == "auto" else device, *options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Compute, "choose", on_cpu)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_wandb_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Leave W&B without a key, server or project of this machine, and without what it knows of another test."""
    import wandb

    for name in ("API_KEY", "MODE", "PROJECT", "ENTITY", "BASE_URL", "DIR", "SILENT", "QUIET"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home"))
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture(scope="session")
def teacher_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(teacher_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(teacher_cache))


@pytest.fixture
def tiny_document() -> dict[str, Any]:
    """An experiment of seconds as plain data: memories 0, 1, 3, 4 and reviews 2, 5 of 6 epochs."""
    return copy.deepcopy(TINY)


@pytest.fixture
def tiny(tiny_document: dict[str, Any]) -> Callable[..., Experiment]:
    """Read the tiny experiment with other keys merged over it."""

    def read(**over: Any) -> Experiment:
        return Experiment.read(documents.merge(tiny_document, over))

    return read


@pytest.fixture(scope="module")
def a_ray() -> Iterator[None]:
    """One Ray for all tests of a file; tests of other files start or join their own."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()
