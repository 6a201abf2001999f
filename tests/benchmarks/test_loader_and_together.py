"""The suites of the loader and of trainings in turns: their exactness is asserted, and a difference is found."""

from __future__ import annotations

import pytest
import torch

from benchmarks import loader, together
from benchmarks.contenders import GENERAL
from benchmarks.exactness import ExactnessError, Found
from benchmarks.loader import IMAGES, Pictures, Resident
from benchmarks.together import Bundle, Setup, equal_to_solo
from benchmarks.variants import FORMATS
from benchmarks.workload import Variant, Workload
from tskd_tune.training.trainer import Trainer

CPU = torch.device("cpu")
TINY = Workload("resnet8", "resnet14", batch_size=20, general=5)


def test_the_package_crops_and_flips_as_torchvision_does_bit_for_bit() -> None:
    feed = TINY.trainer(Variant(""), CPU).feed
    assert loader.largest_difference(feed, TINY.parts()) == 0.0


def test_other_pixels_give_a_difference() -> None:
    feed, parts = TINY.trainer(Variant(""), CPU).feed, TINY.parts()
    parts.training.images[:, :, 0] ^= 1
    assert loader.largest_difference(feed, parts) > 0


def test_both_loaders_give_the_time_of_a_thousand_images() -> None:
    resident = Resident(TINY.trainer(Variant(""), CPU).feed, CPU, images=100)
    pictures = Pictures(TINY.images(), 20, 4, workers=2, device=CPU)
    fast, slow = resident.run()[IMAGES], pictures.run()[IMAGES]
    assert 0 < fast.cpu < slow.cpu < 10


@pytest.mark.parametrize("variant", FORMATS, ids=lambda variant: variant.name)
def test_trainings_in_turns_have_the_bits_of_trainings_alone(variant: Variant) -> None:
    found = equal_to_solo(TINY, variant, CPU, 2)
    assert (found.exactness, found.difference) == ("bitwise", 0.0)


def test_a_bundle_that_changes_a_bit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = together.advance

    def disturbed(trainers: list[Trainer]) -> list[object]:
        ended = honest(trainers)
        if len(trainers) > 1:
            with torch.no_grad():
                next(trainers[1].student.parameters()).flatten()[0] += 1e-6
        return ended

    monkeypatch.setattr(together, "advance", disturbed)
    with pytest.raises(ExactnessError, match="declared as 'bitwise'"):
        equal_to_solo(TINY, FORMATS[0], CPU, 2)


def test_an_error_of_a_training_stops_the_measurement() -> None:
    bundle = Bundle(TINY, Variant(""), CPU, [1, 2])
    with torch.no_grad():
        next(bundle.trainers[1].student.parameters()).fill_(float("nan"))
    with pytest.raises(Exception, match="not finite|nan"):
        bundle.run()


def test_a_row_says_what_a_training_costs_alone() -> None:
    refused: dict[str, str] = {}
    (row,) = together._rows(Setup(TINY, FORMATS[0], CPU, repeats=1), refused)
    assert not refused
    assert row.exactness == "bitwise" and row.more["trainings"] == 2
    assert row.more["solo_over_together"] == pytest.approx(row.more["solo_seconds"] / row.ours.cpu)
    assert row.goals == () and GENERAL not in row.name


def test_a_bundle_with_other_bits_has_no_figure_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def differs(*_: object) -> Found:
        raise ExactnessError("2 together: by much")

    monkeypatch.setattr(together, "equal_to_solo", differs)
    refused: dict[str, str] = {}
    assert together._rows(Setup(TINY, FORMATS[0], CPU, repeats=1), refused) == []
    assert refused == {f"2 together, {FORMATS[0].name}": "2 together: by much"}
