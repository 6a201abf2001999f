from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tskd_tune.errors import InputError
from tskd_tune.tasks.splits import fraction_counts, fraction_of, quotas, stratified


def shares(counts: list[int], total: int, spare: int = 1) -> list[int]:
    names = [f"class{label}" for label in range(len(counts))]
    return quotas(counts, total, option="validation", names=names, spare=spare).tolist()


def taken(targets: np.ndarray, total: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    names = [str(label) for label in range(targets.max() + 1)]
    return stratified(targets, total, seed=seed, option="validation", names=names)


@pytest.mark.parametrize(
    ("counts", "total", "expected"),
    [
        ([500] * 4, 40, [10, 10, 10, 10]),
        ([60, 30, 10], 10, [6, 3, 1]),
        ([50, 30, 20], 11, [6, 3, 2]),  # shares of 5.5, 3.3 and 2.2: the largest remainder is the first
        ([10, 10, 10], 4, [2, 1, 1]),  # a tie goes to the first class
        ([100, 100, 2], 10, [4, 5, 1]),  # a rare class gets one, from the largest
        ([5, 5], 0, [0, 0]),
    ],
)
def test_images_are_shared_in_proportion(counts: list[int], total: int, expected: list[int]) -> None:
    assert shares(counts, total) == expected


@given(counts=st.lists(st.integers(4, 60), min_size=2, max_size=8), share=st.floats(0.05, 0.6))
@settings(max_examples=150, deadline=None)
def test_shares_are_within_one_of_the_proportion(counts: list[int], share: float) -> None:
    total = round(sum(counts) * share)
    assume(min(counts) * total >= sum(counts))
    result = shares(counts, total)
    assert sum(result) == total
    for count, got in zip(counts, result, strict=True):
        assert abs(got - count * total / sum(counts)) < 1


def test_a_class_with_too_few_images_is_named() -> None:
    with pytest.raises(InputError, match=r"task.validation: class 'class1' has 1 image, but needs 2: 1 of the"):
        shares([9, 1], 5)
    assert shares([9, 1], 5, spare=0) == [4, 1]


def test_fewer_images_than_classes_are_refused() -> None:
    with pytest.raises(InputError, match="2 images cannot hold one of each of 3 classes; give 0 or at least 3"):
        shares([9, 9, 9], 2)


def test_a_split_takes_the_quota_of_each_class_and_leaves_the_rest() -> None:
    targets = np.repeat([0, 1, 2], [60, 30, 10])[np.random.default_rng(0).permutation(100)]
    part, left = taken(targets, 20)
    assert np.bincount(targets[part]).tolist() == [12, 6, 2]
    assert sorted([*part, *left]) == list(range(100))
    assert (np.diff(part) > 0).all()
    assert (np.diff(left) > 0).all()


def test_a_split_depends_on_its_seed_alone() -> None:
    targets = np.arange(60) % 3
    np.random.seed(1)
    first = taken(targets, 12, seed=5)[0]
    np.random.seed(2)
    assert (taken(targets, 12, seed=5)[0] == first).all()
    assert (taken(targets, 12, seed=6)[0] != first).any()


def test_a_split_stays_what_it_was() -> None:
    """Written down once: a split that moved would mix validation images into cached teachers."""
    assert taken(np.arange(20) % 2, 6, seed=3)[0].tolist() == [2, 5, 7, 8, 10, 17]


def used(targets: np.ndarray, fraction: float | None) -> np.ndarray:
    return fraction_of(targets, fraction, names=[str(label) for label in range(targets.max() + 1)])


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=6), share=st.floats(0.02, 1), more=st.floats(0.02, 1))
@settings(max_examples=150, deadline=None)
def test_a_fraction_takes_its_share_of_each_class_and_is_a_part_of_a_larger_one(
    counts: list[int], share: float, more: float
) -> None:
    low, high = sorted((share, more))
    assume(min(counts) * low > 0.5)
    targets = np.repeat(np.arange(len(counts)), counts)[np.random.default_rng(0).permutation(sum(counts))]
    few, many = used(targets, low), used(targets, high)
    assert set(few) <= set(many)
    assert (np.diff(few) > 0).all()
    names = [str(label) for label in range(len(counts))]
    assert np.bincount(targets[few]).tolist() == fraction_counts(counts, low, names=names).tolist()
    for count, got in zip(counts, np.bincount(targets[few]), strict=True):
        assert abs(got - count * low) <= 0.5


def test_no_fraction_and_the_whole_are_everything_in_order() -> None:
    targets = np.arange(20) % 3
    assert used(targets, None).tolist() == used(targets, 1.0).tolist() == list(range(20))
    assert fraction_counts([5, 7], None, names=["a", "b"]).tolist() == [5, 7]


def test_a_fraction_that_leaves_a_class_bare_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"task.fraction: 0.04 of the 10 training images of class 'b' is not one; give"
    ):
        fraction_counts([100, 10], 0.04, names=["a", "b"])
    assert fraction_counts([100, 10], 0.1, names=["a", "b"]).tolist() == [10, 1]


def test_a_fraction_stays_what_it_was() -> None:
    """Written down once: a share that moved would make results of few samples incomparable."""
    np.random.seed(1)
    assert used(np.arange(20) % 2, 0.3).tolist() == [3, 4, 7, 8, 11, 16]
