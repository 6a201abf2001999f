"""A fuzzer: whatever is wrong with a file, `check` says so in a sentence, within seconds."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tskd_tune import documents
from tskd_tune.cli.preparing import checking
from tskd_tune.errors import InputError
from tskd_tune.sweeps.estimating import estimate
from tskd_tune.sweeps.estimating.estimate import Estimate

ROOT = Path(__file__).parents[3]
FILES = [*sorted((ROOT / "search_spaces").glob("*.yaml")), *sorted(documents.PACKAGED.rglob("*.yaml"))]
SLOWEST = 90.0  # of the processor, which is slower beside other processes
Keys = tuple[Any, ...]

# Plain values that some option, somewhere, may not expect.
ODD = [
    None, True, False, 0, 1, 2, 3, -1, 12, 999, 10**5, 10**6, 10**7, 10**9, 10**12, 2**63 - 1, -(2**63), 0.0, -0.5,
    0.1, 1.5, 1e-300, 1e300, 1.7e308, float("inf"), float("nan"), "", " ", "none", "null", "None", "auto", "KD",
    "kd", "crd", "rkd", "review_kd", "sad", "resnet8", "combined", "json:loads", "os:system", "os:sep",
    "torch.nn:Linear", "torch.nn:Identity", "tskd_tune.networks.base:Network",
    "tskd_tune.networks.cifar_resnet:resnet8", "a:b", ":", "1-5", "5-1", "1e3", "x" * 300, "\N{GRINNING FACE}",
    "two\nlines", "tab\t", "/", "..", "~", "untrained", "torchvision:DEFAULT", "adam", [], {}, [[]], [{}], [None],
    [1], [1, 2], [3, 1], [1, 1], ["a"], [0.5, 1.5], [1, 2, 3, 4], {"a": 1}, {"name": "kd"}, {"name": None},
    {"name": "resnet8", "width": 10**6}, {"choice": [1, 2]}, {"choice": []}, {"choice": {}}, {"choice": 3},
    {"grid": [1, 0]}, {"choice": {"a": None, "b": {}}}, {"choice": {"x" * 300: {}}}, {"choice": {"two\nlines": {}}},
    {"choice": {"": {}}}, {"choice": [None, True, "kd"]}, {"choice": {"a": {"choice": {"b": {}, "c": 1}}}},
    {"choice": list(range(3000))}, {"int": [1, 3]}, {"int": [1, 3, 9]}, {"int": [3, 1]}, {"int": [0, 2**62]},
    {"int": [1]}, {"int": 3}, {"int": {}}, {"uniform": [0, 1]}, {"uniform": [0.0, 1e308]},
    {"uniform": [-1e308, 1e308]}, {"loguniform": [0, 1]}, {"loguniform": [1e-300, 1e300]},
    {"loguniform": ["a", "b"]}, {"uniform": [0, 1], "k": 1}, {"choice": [1], "grid": [2]}, {"auto": 0.1},
    {"auto": 0}, {"choices": [1, 2]}, {"name": "digits", "batch_size": 1}, {"name": "digits", "train": 33},
    {"name": "synthetic", "size": 10**5}, {"name": "synthetic", "classes": 10**9},
    {"name": "digits", "batch_size": 10**9}, {"name": "conv_lstm", "hidden": 10**6},
    {"name": "conv_lstm", "kernel": 10**5 + 1}, {"name": "optuna", "trials": 10**9},
]  # fmt: skip
KEYS = [
    "", "name", "choice", "grid", "int", "uniform", "extends", "experiment", "seed", "seeds", "review", "K", "k",
    "lambda", "lambda_", "teacher", "training", "epochs", "weights", "nesterov", "momentum", "controls", "arms",
    "compare", "method", "x" * 300, "two\nlines", "a.b", "a=b", "1", "\N{GRINNING FACE}", "<<",
]  # fmt: skip
TEXTS = [
    "\t", ":", ": ", "- ", "[", "]", "{", "}", "'", '"', "&a ", "*a", "!!int ", "!x ", "|\n", "#", ",", "\n", "\r",
    "?", "%", "@", "<<: *a", "---\n", "...\n", "\\ud83d", "\N{GRINNING FACE}", "\x00", "\x1b", "\N{NO-BREAK SPACE}",
    "1e400", "9" * 30, "[" * 200, "{a: " * 200, "~", "0x", ".inf", ".nan",
]  # fmt: skip


@cache
def bases() -> list[dict[str, Any]]:
    """The shipped files, on a task and networks that are small and need no download; without those of detectors.

    A detector takes seconds to build, and no small classifier can stand for it.
    """
    found = []
    for file in FILES:
        whole = documents.load(file).data
        if _detects(whole):
            continue
        document = _small(whole)
        if "experiment" in document and isinstance(document["experiment"].get("choice"), dict):
            arms = document["experiment"]["choice"]  # the tables have a hundred arms, of few kinds
            document["experiment"]["choice"] = {label: arms[label] for label in list(arms)[:3]}
        found.append(document)
    return found


def _detects(document: dict[str, Any]) -> bool:
    task = document.get("experiment", {}).get("task")
    return isinstance(task, dict) and task.get("name") == "coco"


def _small(value: Any, key: str = "") -> Any:
    if key == "task":
        return {"name": "digits", "train": 100, "validation": 50, "batch_size": 32}
    if key == "name" and isinstance(value, str) and value.startswith(("resnet", "wrn", "vgg", "shuffle", "mobile")):
        return "resnet8"
    if key in ("student", "teacher") and isinstance(value, str):
        return "resnet8"
    if isinstance(value, dict):
        return {name: _small(inner, name) for name, inner in value.items() if name != "resolution"}
    if isinstance(value, list):
        return [_small(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _ways(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Yield the keys that lead to every value of a document but the whole."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*keys, key)
        yield from _ways(below, (*keys, key))


def _at(document: Any, keys: Keys) -> Any:
    for key in keys:
        document = document[key]
    return document


@st.composite
def slips(draw: st.DrawFn) -> str:
    """Draw a shipped file with one to three slips in its values or keys, and perhaps one in its text."""
    document = copy.deepcopy(draw(st.sampled_from(bases())))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        keys = draw(st.sampled_from(list(_ways(document)) or [()]))
        if keys:
            _slip(draw, document, keys)
    text = documents.dump(document)
    return _typed(draw, text) if draw(st.integers(0, 4)) == 0 else text


def _slip(draw: st.DrawFn, document: Any, keys: Keys) -> None:
    around, last = _at(document, keys[:-1]), keys[-1]
    value = around[last]
    kind = draw(st.sampled_from(["odd", "odd", "drop", "rename", "wrap", "flatten", "copy", "add", *["number"] * 4]))
    if kind == "drop":
        del around[last]
    elif kind == "rename" and isinstance(around, dict):
        around[draw(st.sampled_from([*KEYS, str(last).upper(), f"{last}s", str(last)[1:]]))] = around.pop(last)
    elif kind == "wrap":
        word = draw(st.sampled_from(["choice", "grid", "int", "uniform", "name", "list", "labels", "experiment"]))
        wrapped = {"list": [value], "labels": {"choice": {"a": value, "b": copy.deepcopy(value)}}}
        around[last] = wrapped.get(word, {word: value})
    elif kind == "flatten":
        around[last] = str(value)[:500] if isinstance(value, dict | list) else [value]
    elif kind == "copy":
        around[last] = copy.deepcopy(_at(document, draw(st.sampled_from(list(_ways(document))))))
    elif kind == "add" and isinstance(value, dict):
        value[draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(st.sampled_from(ODD)))
    elif kind == "number" and isinstance(value, int | float):
        near = [value * 2, value * 10, value / 2, value + 1, value - 1, -value, float(value)]
        around[last] = draw(st.sampled_from(near) | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 40))
    else:
        around[last] = copy.deepcopy(draw(st.sampled_from(ODD)))


def _typed(draw: st.DrawFn, text: str) -> str:
    place = draw(st.integers(0, len(text)))
    until = min(len(text), place + draw(st.sampled_from([0, 0, 1, 3, 20])))
    return text[:place] + draw(st.sampled_from(TEXTS)) + text[until:]


@pytest.fixture(scope="module")
def untimed() -> Iterator[None]:
    """Leave out the timing of steps, which takes seconds and has tests of its own."""
    cost = Estimate(
        runs=1,
        epochs=1,
        hours=0,
        teacher_hours=0,
        teachers=0,
        concurrent=1,
        disk_bytes=0,
        timed=[],
        taken_from={},
        how="",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "of_sweep", lambda sweep: cost)
        patch.setattr(estimate, "of_experiment", lambda experiment: cost)
        yield
    torch.set_num_threads(1)


def refusal(file: Path, changes: list[str]) -> str | None:
    """Check a file as the command does; return what is wrong with it, if anything is."""
    try:
        checking.check(file, changes, as_json=False)
    except InputError as error:
        return str(error)
    except typer.Exit as done:
        return f"exit {done.exit_code}"
    return None


@pytest.mark.long
@pytest.mark.usefixtures("untimed")
@settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(text=slips())
def test_every_slip_is_a_sentence(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "slip.yaml"
    file.write_text(text, encoding="utf-8", newline="")
    began = time.process_time()  # of this process alone: the machine may be busy with others
    found = refusal(file, [])
    assert time.process_time() - began < SLOWEST
    if found is not None:
        assert found.strip() and "Traceback" not in found
        assert all(len(line) < 2000 for line in found.splitlines())
