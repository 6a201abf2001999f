"""The reference loop stays as it is, computes what the package computes, and is the sum of its parts."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

import benchmarks
from benchmarks import reference, reference_networks
from benchmarks.contenders import GENERAL, REVIEW, PartsOfReference, Reference, check
from benchmarks.exactness import ExactnessError, Found, Limits, against_reference, judged
from benchmarks.rows import Spent
from benchmarks.workload import Variant, Workload
from tskd_tune.networks import NETWORKS

CPU = torch.device("cpu")
PLAIN = Workload("resnet8", "resnet14", batch_size=16, general=7)
SIZES = {"batch_size": 16, "general": 4, "reviews": 3, "k": 2, "hidden": 2}
REVIEWED = Workload("resnet8", "resnet14", **SIZES)
WORKLOADS = {
    "plain": PLAIN,
    "kd": Workload("resnet8", "resnet14", batch_size=16, general=7, distils=True),
    "increments": REVIEWED,
    "feature maps and Adam": Workload("resnet8", "resnet14", **SIZES, sequence="feature_map", adam=True),
    "wide networks": Workload("wrn_16_1", "wrn_16_2", **SIZES),
}
FROZEN = {
    "reference.py": "135d55779201a97cb15080cf16621bbaf45d87c879cb99a3bf10f54f24c63e42",
    "reference_networks.py": "9c4dc302806bd6a09226d17143ea1d6c2c4fd30aec408ec577da9ea57efeb192",
}


@pytest.mark.parametrize("file", FROZEN)
def test_the_reference_is_frozen(file: str) -> None:
    """Figures of different commits are compared through it. Who must change it says so here and in the changelog."""
    content = (Path(benchmarks.__file__).parent / file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == FROZEN[file]


@pytest.mark.parametrize("module", [reference, reference_networks], ids=lambda module: module.__name__)
def test_the_reference_imports_nothing_of_the_package(module: object) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text())
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert not [name for name in imported if name.startswith("tskd_tune")]


@pytest.mark.parametrize("name", [*reference_networks.RESNETS, *reference_networks.WIDE])
def test_its_networks_have_the_weights_and_the_outputs_of_the_packages(name: str) -> None:
    ours, theirs = NETWORKS.build(name, 10).eval(), reference_networks.network(name, 10).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 16, 16)
    output, (logits, features) = ours(images), theirs(images)
    assert torch.equal(output.logits, logits)
    assert all(torch.equal(output.features[f"stage{at + 1}"], map_) for at, map_ in enumerate(features))


@pytest.mark.parametrize("name", WORKLOADS)
def test_it_computes_what_the_package_computes(name: str) -> None:
    found = against_reference(WORKLOADS[name], Variant("float32"), CPU)
    # A rounding decides at activations near zero whether a gradient passes, which changes a few in a thousand.
    assert found.difference < 0.01 and found.exactness in ("bitwise", "rounding")


def test_bfloat16_is_told_from_rounding() -> None:
    found = against_reference(PLAIN, Variant("bf16", "bfloat16", channels_last=True), CPU)
    assert found.exactness == "changes results" and found.difference > 1e-3


@pytest.mark.parametrize(
    ("constant", "workload"),
    [("WEIGHT_DECAY", PLAIN), ("TEMPERATURE", WORKLOADS["kd"]), ("EXTRACTOR_LR", WORKLOADS["feature maps and Adam"])],
)
def test_a_loop_that_computes_something_else_is_refused(
    constant: str, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, constant, 2.0)
    with pytest.raises(ExactnessError, match=r"float32: declared as 'rounding', .* differ by"):
        against_reference(workload, Variant("float32"), CPU)


def test_a_difference_beyond_the_declared_class_is_refused() -> None:
    assert judged("a", Limits(0.0, 0.0), "rounding", "") == Found("bitwise", 0.0, "")
    assert judged("a", Limits(1e-6, 1e-2), "rounding", "").exactness == "rounding"
    for losses, changes in ((1e-2, 1e-2), (1e-6, 0.5), (float("nan"), 0.0), (0.0, float("nan"))):
        with pytest.raises(ExactnessError, match="not|would compare different computations"):
            judged("a", Limits(losses, changes), "rounding", "")
    with pytest.raises(ExactnessError):
        judged("a", Limits(0.0, 1e-12), "bitwise", "")


def test_the_teacher_runs_in_every_step_and_only_where_told_in_none() -> None:
    for always, wanted in ((True, 2), (False, 1)):
        loop = REVIEWED.loop(REVIEWED.trainer(Variant(""), CPU), CPU, teacher_always=always)
        calls: list[int] = []
        loop.teacher.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        images, targets = torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.long)
        loop.step(images, targets, review=False)
        loop.step(images, targets, review=True)
        assert len(calls) == wanted


def test_a_batch_carries_the_seconds_of_its_worker() -> None:
    images = PLAIN.images()
    batches = list(images.loader(8, 3, 2, CPU))
    assert [len(targets) for _, targets, _, _ in batches] == [8, 8, 8]
    assert all(0 < seconds < 5 for *_, seconds in batches)


def test_a_step_is_the_sum_of_its_parts_within_bounds() -> None:
    reference = Reference(REVIEWED, REVIEWED.trainer(Variant(""), CPU), CPU, workers=0)
    parts = PartsOfReference(reference).run()
    whole = reference.run()
    found = check(REVIEW, whole[REVIEW], parts, CPU, workers=0)
    assert set(found.parts) >= {"loader", "teacher", "snapshots", "student and losses", "backward", "update", "meters"}
    assert "snapshots" not in check(GENERAL, whole[GENERAL], parts, CPU, workers=0).parts
    doubled = check(REVIEW, whole[REVIEW] * 3, parts, CPU, workers=0)
    assert not doubled.holds and "NOT within" in str(doubled)
    exact = Spent(0.0, sum(found.parts.values()))
    assert check(REVIEW, exact, parts, CPU, workers=0).holds


def test_on_a_gpu_the_slower_of_loader_and_loop_counts() -> None:
    parts = {
        "general: loader": Spent(0.8, 0.8),
        "general: teacher": Spent(0.1, 0.0),
        "general: update": Spent(0.2, 0.0),
    }
    gpu = torch.device("cuda")
    waits = check(GENERAL, Spent(0.4, 0.0), parts, gpu, workers=2)
    assert waits.holds and "waits for its 2 workers" in waits.name
    computes = check(GENERAL, Spent(0.3, 0.0), parts, gpu, workers=8)
    assert computes.holds and set(computes.parts) == {"teacher", "update"}


def test_snapshots_differ() -> None:
    loop = REVIEWED.loop(REVIEWED.trainer(Variant(""), CPU), CPU)
    first, second = (next(snapshot.parameters()) for snapshot in loop.snapshots)
    student = next(iter(loop.student.parameters()))
    assert isinstance(first, nn.Parameter) and not torch.equal(first, second) and not torch.equal(first, student)
