"""Trainings with torch's own CUDA code, on a stand-in for CUDA that computes nothing: no GPU is needed.

The stand-in (tests/cuda_stub) refuses what the capture of a graph forbids, and notes each graph. Torch's dispatcher,
allocator, autograd, streams, generators and graphs are the real ones. No number can be checked: `test_pretended_gpu.py`
does that, with a home-made GPU and numbers of the CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_stub.building import HERE, WRITTEN_FOR, build, run, why_not
from cuda_stub.inside import STEPS, Found

from tskd_tune import documents
from tskd_tune.distillers import DISTILLERS
from tskd_tune.method.extractors import EXTRACTORS
from tskd_tune.method.transforms import TRANSFORMS
from tskd_tune.networks import NETWORKS

Cases = Mapping[str, list[dict[str, Any]] | str]
Go = Callable[[Cases], dict[str, Found]]

# Five steps an epoch: a look at the review, two eager steps, one that is captured, and a replay.
SHORT = {
    "task": {"name": "synthetic", "size": 32, "batch_size": 4, "train": 20, "validation": 4, "test": 4},
    "teacher": {"name": "resnet8", "training": {"epochs": 1, "lr": 0.01}},
    "student": {"name": "resnet8"},
    "review": {"k": 1, "delta": 1, "extractor": {"name": "conv_lstm", "hidden": 2}},
    "training": {"epochs": 2, "lr": 0.05, "device": "cuda"},
}
ALLOWED = ("a stream that joins", "new tensors")
REQUIRED: dict[str, dict[str, Any]] = {
    "combined": {"parts": {"kd": "kd", "hint": "at"}},
    "timm": {"model": "test_efficientnet"},
    "torchvision": {"model": "resnet18"},
    "mlp": {"size": 32},
}


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Go:
    """Go through cases in a process on the stand-in, and return what each came to."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("stand_in")
    library = build(folder)

    def through(cases: Cases) -> dict[str, Found]:
        given, into, report = (folder / name for name in ("given.json", "found.json", "report"))
        given.write_text(json.dumps(cases))
        into.write_text("{}")
        done = run(library, [str(HERE / "inside.py"), str(given), str(into)], report)
        found = {label: Found(**one) for label, one in json.loads(into.read_text()).items()}
        assert done.returncode == 0, f"{list(cases)[len(found)]} ended the process:\n{done.stderr[-4000:]}"
        return found

    if not torch.__version__.startswith(WRITTEN_FOR):
        try:
            error = through({"new tensors": "new tensors"})["new tensors"].error
        except AssertionError as ended:
            error = str(ended)
        if error:
            pytest.skip(f"the stand-in for CUDA lacks what torch {torch.__version__} calls: {error}")
    return through


def of(**over: Any) -> dict[str, Any]:
    return documents.merge(SHORT, over)


def faults(one: Found) -> str:
    return "\n".join([*one.refused, one.error]).strip()


WHOLE = {"task": {"batch_size": 16, "train": 64, "validation": 16, "test": 16}, "distiller": "kd"}
WHOLE_TRAININGS: Cases = {
    "float32": [of(**WHOLE, training={"epochs": 4})],
    "bfloat16": [of(**WHOLE, training={"epochs": 4, "precision": "bfloat16"})],
    "three side by side": [of(**WHOLE, seed=seed, training={"epochs": 4}) for seed in (1, 2, 3)],
}
PLAIN, REVIEW = (f"StepKind(review={review}, look=False, " for review in (False, True))


@pytest.fixture(scope="module")
def whole(go: Go) -> dict[str, Found]:
    return go(WHOLE_TRAININGS)


@pytest.mark.parametrize("case", WHOLE_TRAININGS)
def test_whole_trainings_capture_their_steps_and_do_nothing_that_a_capture_forbids(
    whole: dict[str, Found], case: str
) -> None:
    found, trainings = whole[case], len(WHOLE_TRAININGS[case])
    assert not faults(found), faults(found)
    assert found.engines == ["graphs"] * trainings and found.epochs == [4] * trainings
    assert not found.inexact  # all kernels are deterministic
    for kinds in found.kinds:
        assert len(kinds) == 2 and kinds[0].startswith(PLAIN) and kinds[1].startswith(REVIEW), kinds
    # The first case of a precision also trains the teacher, which the last case takes from the cache.
    assert len(found.captured) == 2 * trainings + (case in ("float32", "bfloat16")), found.captured
    branches = [int(text.split()[-2]) for text in found.captured[-2 * trainings :]]
    assert min(branches) > 1  # the steps of students fork streams, and join them


@pytest.fixture(scope="module")
def steps(go: Go) -> dict[str, Found]:
    return go({step: step for step in STEPS})


@pytest.mark.parametrize("step", STEPS)
def test_what_a_capture_forbids_is_refused(steps: dict[str, Found], step: str) -> None:
    found = steps[step]
    if step in ALLOWED:
        assert not faults(found) and len(found.captured) == 1, found
    else:
        assert found.error.startswith("RunError: training.graphs: a step could not be captured"), found
        # Torch itself refuses to copy from memory that is not pinned.
        assert found.refused or "unless the CPU tensor is pinned" in found.error, found


COUNTS = """
import ctypes, sys
count = ctypes.c_int(-1)
error = ctypes.CDLL(sys.argv[1]).cudaGetDeviceCount(ctypes.byref(count))
print(count.value, error)
"""
NO_DEVICE = 100


def test_a_process_sees_the_gpus_that_cuda_visible_devices_names(tmp_path: Path) -> None:
    """As with CUDA: what Ray gives a trial is all that the trial finds."""
    if reason := why_not():
        pytest.skip(reason)
    library = str(build(tmp_path))
    wanted = {None: 2, "0": 1, "1": 1, "0,1": 2, "0,7,1": 1, "GPU-5c3f": 1, "": 0, "2": 0, "-1": 0}
    for visible, count in wanted.items():
        own = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        own |= {"CUDA_STUB_GPUS": "2"} | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
        said = subprocess.run([sys.executable, "-S", "-c", COUNTS, library], env=own, capture_output=True, text=True)
        assert said.stdout.split() == [str(count), "0" if count else str(NO_DEVICE)], (visible, said.stderr)


# Without detectors and their distillers, which have capturable = False.
CAPTURABLE = [entry.name for entry in DISTILLERS if getattr(entry.factory, "capturable", True)]


def one_of_each_file() -> list[str]:
    """Return the first classifier of each file: networks of a file differ in width and depth."""
    entries = [entry for entry in NETWORKS if not getattr(entry.factory, "takes_batch", False)]
    return sorted({entry.factory.__module__: entry.name for entry in reversed(entries)}.values())


def named(name: str) -> dict[str, Any]:
    return {"name": name, **REQUIRED.get(name, {})}


EACH: dict[str, dict[str, dict[str, Any]]] = {
    "distillers": {name: of(distiller=named(name)) for name in CAPTURABLE},
    "extractors": {name: of(review={"extractor": named(name)}) for name in EXTRACTORS.names()},
    "transforms": {name: of(review={"transform": named(name)}) for name in TRANSFORMS.names()},
    "networks": {name: of(student=named(name), teacher=named(name)) for name in one_of_each_file()},
}


@pytest.mark.slow
@pytest.mark.parametrize("registry", EACH)
def test_each_registered_component_is_captured_without_what_a_capture_forbids(go: Go, registry: str) -> None:
    found = go({name: [document] for name, document in EACH[registry].items()})
    assert set(found) == set(EACH[registry])
    faulty = [f"{name}: {faults(one)}" for name, one in found.items() if faults(one)]
    assert not faulty, "\n".join(faulty)
    eager = {name: one.reason for name, one in found.items() if one.engines != ["graphs"]}
    assert not eager, eager
    assert all(len(one.kinds[0]) == 2 for one in found.values()), found
