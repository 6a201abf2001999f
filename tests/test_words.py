"""How sentences count: one of a thing is never a plural."""

from __future__ import annotations

import pytest

from tskd_tune.cli.training.counts import runs_text
from tskd_tune.words import count


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (12_000, "12,000 epochs")]
)
def test_a_number_with_its_thing(number: int, said: str) -> None:
    assert count(number, "epoch") == said


def test_a_plural_that_does_not_end_in_s() -> None:
    assert [count(number, "memory", "memories") for number in (1, 2)] == ["1 memory", "2 memories"]


def test_what_a_sweep_trains_in_numbers() -> None:
    assert runs_text(6, 3) == "6 points x 3 seeds = 18 runs"
    assert runs_text(1, 1) == "1 point x 1 seed = 1 run"
