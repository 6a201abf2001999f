"""Negatives: of other classes only, none twice where there are enough, evenly drawn, each anchor on its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tskd_tune.distillers.negatives import Negatives
from tskd_tune.errors import InputError

# Class 1 has no samples; the others have 6, 2 and 4 of 12, shuffled.
TARGETS = torch.tensor([0, 3, 0, 2, 0, 3, 0, 3, 0, 2, 3, 0])
ANCHORS = torch.tensor([0, 1, 3, 0, 11])


def draws(count: int, times: int = 200, seed: int = 0) -> Tensor:
    """Return the negatives of the anchors, ``[times, anchors, count]``."""
    negatives, random = Negatives(TARGETS, count, "crd"), torch.Generator().manual_seed(seed)
    return torch.stack([negatives.draw(ANCHORS, random) for _ in range(times)])


def others(anchor: int) -> set[int]:
    return {n for n in range(len(TARGETS)) if TARGETS[n] != TARGETS[anchor]}


@pytest.mark.parametrize("count", [1, 5, 6, 7, 8, 10, 11, 40])
def test_all_are_of_other_classes_and_none_is_repeated_where_there_are_enough(count: int) -> None:
    for number, anchor in enumerate(ANCHORS.tolist()):
        candidates = others(anchor)
        rows = [row.tolist() for row in draws(count)[:, number]]
        assert {sample for row in rows for sample in row} == candidates
        repeats = [len(set(row)) < count for row in rows]
        assert not any(repeats) if count <= len(candidates) else all(repeats)


@pytest.mark.parametrize("count", [3, 7, 20])
def test_every_sample_of_another_class_is_drawn_as_often(count: int) -> None:
    found = draws(count, times=4000)
    for number, anchor in enumerate(ANCHORS.tolist()):
        candidates = sorted(others(anchor))
        seen = found[:, number].flatten().bincount(minlength=12)[candidates].double()
        expected = 4000 * count / len(candidates)
        # At most five standard deviations of independent draws, which those without replacement vary less than.
        assert float((seen - expected).abs().max()) < 5 * expected**0.5


def test_places_with_replacement_are_independent() -> None:
    row = draws(20, times=4000)[:, 0]  # six candidates
    assert float((row[:, 0] == row[:, 1]).double().mean()) == pytest.approx(1 / 6, abs=0.03)


@pytest.mark.parametrize("count", [3, 20])
def test_anchors_of_one_class_draw_on_their_own_and_so_do_batches(count: int) -> None:
    found = draws(count).sort(dim=2).values
    assert (found[:, 0] != found[:, 3]).any(dim=1).double().mean() > 0.7
    assert (found[1:, 0] != found[:-1, 0]).any(dim=1).double().mean() > 0.7


@pytest.mark.parametrize("count", [3, 7, 20])
def test_the_generator_decides(count: int) -> None:
    assert torch.equal(draws(count, times=3), draws(count, times=3))
    assert not torch.equal(draws(count, times=3), draws(count, times=3, seed=1))


def test_it_has_no_state_and_moves_as_a_whole() -> None:
    negatives = Negatives(TARGETS, 3, "crd")
    assert not negatives.state_dict()
    assert {name for name, _ in negatives.named_buffers()} == {"targets", "by_class", "starts", "sizes"}
    assert all(buffer.dtype == torch.int64 for buffer in negatives.double().buffers())


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(
        InputError, match="'crd' contrasts .* but all 5 training samples are of one class; choose a task"
    ):
        Negatives(torch.full((5,), 3), 2, "crd")
