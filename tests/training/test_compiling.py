"""A machine that cannot compile for its GPU trains without compilation, and says what it lacks."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.training import compiling as where
from tskd_tune.training.compiling import compiling, why_not_compiled
from tskd_tune.training.engines import engine_for

Tiny = Callable[..., Experiment]
GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def _complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that can compile."""
    (tmp_path / "Python.h").touch()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(where, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)


LACKS: dict[str, tuple[Callable[[pytest.MonkeyPatch], object], str]] = {
    "no Triton": (lambda patch: patch.setattr(where, "find_spec", lambda name: None), "Triton, which is not installed"),
    "no compiler": (no_compiler, "no gcc or clang on the PATH; install one, or name it in CC"),
    "no headers": (
        lambda patch: patch.setattr(sysconfig, "get_paths", lambda: {"include": "/no/such"}),
        "/no/such has no Python.h; install them",
    ),
    "an old GPU": (
        lambda patch: patch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1)),
        "compute capability 7.0, and this one has 6.1",
    ),
}


def test_a_whole_machine_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_compiled(GPU) is None
    no_compiler(monkeypatch)
    monkeypatch.setenv("CC", "/opt/cc")
    assert why_not_compiled(GPU) is None


@pytest.mark.parametrize("lack", LACKS)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, lack: str) -> None:
    remove, words = LACKS[lack]
    remove(monkeypatch)
    assert words in str(why_not_compiled(GPU))


def test_a_student_that_cannot_be_compiled_is_trained_without_and_the_row_says_why(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = build_trainer(tiny(review=None)).engine.parts  # type: ignore[attr-defined]
    assert compiling(parts) == (parts, "")
    asked = replace(parts, compute=replace(parts.compute, compiles=True))
    assert compiling(asked) == (asked, "; the student is compiled")
    no_compiler(monkeypatch)
    engine = engine_for("never")(asked)
    assert engine.reason.startswith("training.graphs is never; the student is not compiled: Triton needs a C compiler")
    assert not engine.parts.compute.compiles  # type: ignore[attr-defined]
