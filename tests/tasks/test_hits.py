"""Which samples a network gets right: a bit for each sample of a part."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from tskd_tune import networks, tasks
from tskd_tune.contracts import Batch, Classified
from tskd_tune.records.kept.hits import unpacked
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.hits import Hits, Scored
from tskd_tune.testing.workers import at_once, groups
from tskd_tune.training.compute import Compute
from tskd_tune.training.evaluation import Evaluations
from tskd_tune.training.group import Group
from tskd_tune.training.schedule import Schedule

TARGETS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1])


def batch_of(indices: list[int]) -> Batch[Any]:
    return Batch(torch.zeros(len(indices), 3, 8, 8), TARGETS[indices], torch.tensor(indices))


def shown(hits: Hits[Classified], logits: torch.Tensor, indices: list[int]) -> None:
    hits.update(Classified(logits[indices], {}, {}, logits[indices]), batch_of(indices))


def test_a_bit_says_whether_the_most_probable_class_is_the_true_one() -> None:
    torch.manual_seed(0)
    logits = torch.randn(10, 6)
    hits = Hits(Classification(), TARGETS)
    for indices in ([9, 0, 3], [1, 2, 8], [4, 5, 6, 7]):
        shown(hits, logits, indices)
    assert unpacked(hits.packed(), 10).tolist() == (logits.argmax(1) == TARGETS).tolist()


def test_a_later_answer_to_a_sample_replaces_the_earlier_one() -> None:
    hits = Hits(Classification(), TARGETS)
    shown(hits, torch.eye(4)[TARGETS], list(range(10)))
    shown(hits, torch.eye(4)[(TARGETS + 1) % 4], [0, 9])
    assert unpacked(hits.packed(), 10).tolist() == [False, *[True] * 8, False]


def test_eight_samples_take_a_byte() -> None:
    hits = Hits(Classification(), TARGETS)
    shown(hits, torch.eye(4)[TARGETS], [0, 8, 9])
    assert hits.packed() == "gMA=", "1000 0000, 1100 0000"


@pytest.mark.parametrize(
    ("bits", "samples", "sentence"),
    [
        ("gMA=", 17, "17 samples take 3 bytes, but there are 2"),
        ("gMA=", 8, "8 samples take 1 bytes, but there are 2"),
        ("gMA=", 9, "bits after the last of 9 samples"),
        ("g*A=", 10, "base64|Only"),
    ],
)
def test_bits_of_another_number_of_samples_are_refused(bits: str, samples: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        unpacked(bits, samples)


def merged(indices: list[int], group: Group) -> str:
    hits = Hits(Classification(), TARGETS)
    if indices:
        shown(hits, torch.eye(4)[TARGETS], indices)
    hits.merge(group.add)
    return hits.packed()


@pytest.mark.parametrize("shares", [([0, 3, 4], [1, 2]), ([0, 1, 2, 3, 4], [])])
def test_workers_share_what_each_of_them_has_seen(shares: tuple[list[int], list[int]]) -> None:
    found = at_once([partial(merged, share, group) for share, group in zip(shares, groups(), strict=True)])
    assert found[0] == found[1] and unpacked(found[0], 10).tolist() == [True] * 5 + [False] * 5


def test_the_share_of_the_hits_is_the_metric() -> None:
    task = tasks.build("synthetic", batch_size=8, size=8, train=16, test=29)
    network = networks.build("resnet8", task.facts().outputs)
    evaluations = Evaluations(task, Compute.choose("cpu", "float32", False, 1), Schedule(1, 1))
    metrics = evaluations.metrics(network, "test")
    hits = evaluations.shown(network, "test").hits
    assert hits is not None and isinstance(task.objective, Scored)
    right = unpacked(hits.packed(), 29)
    assert 100 * right.mean() == metrics[task.objective.hit_metric().name] and 0 < right.sum() < 29


def test_an_objective_that_is_not_right_or_wrong_keeps_nothing() -> None:
    task = tasks.build("quadratic", validation=8)
    evaluations = Evaluations(task, Compute.choose("cpu", "float32", False, 1), Schedule(1, 1))
    network = networks.build("mlp", task.facts().outputs, 1, size=1)
    assert evaluations.metrics(network, "validation")
    assert not isinstance(task.objective, Scored) and evaluations.shown(network, "validation").hits is None
