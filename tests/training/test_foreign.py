"""What components hand back in a training: losses and numbers of any other form are refused with a sentence."""

from __future__ import annotations

import numpy
import pytest
import torch

from tskd_tune.errors import RunError
from tskd_tune.training.foreign import named_losses, numbers_by_name, training_losses

LOSS = torch.ones((), requires_grad=True) * 2


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (LOSS, r"gave a tensor of the shape \[\] and the dtype float32, but its losses must be a mapping"),
        (None, r"gave nothing \(None\), but its losses must be a mapping; return for example {'hint': loss}"),
        (("hint", LOSS), "a value of the type tuple"),
        ({"hint": 3.0}, "the loss 'hint' as a value of the type float"),
        ({"hint": LOSS.expand(8)}, r"of the shape \[8\].*; return its mean over the batch"),
        ({"hint": LOSS.view(1)}, r"of the shape \[1\]"),
        ({"hint": torch.tensor(1)}, "the dtype int64"),
        ({"hint": LOSS.to(torch.complex64)}, "the dtype complex64"),
        ({1: LOSS}, "a loss with the name 1"),
        ({"": LOSS}, "a loss with the name ''"),
    ],
)
def test_losses_of_another_form(found: object, sentence: str) -> None:
    with pytest.raises(RunError, match=f"the distiller Mine .*{sentence}"):
        named_losses(found, "the distiller Mine")


def test_losses_without_any_gradient_train_nothing() -> None:
    with pytest.raises(RunError, match=r"gave losses without a gradient \('a', 'b'\), so it would train nothing"):
        training_losses({"a": LOSS.detach(), "b": torch.zeros(())}, "the distiller Mine")
    for fine in ({}, {"a": LOSS}, {"a": LOSS, "b": torch.zeros(())}, {"a": LOSS.double()}):
        assert training_losses(fine, "the distiller Mine") is fine


def test_a_component_may_rest_in_a_batch_that_holds_nothing_for_it() -> None:
    rest = {"a": torch.zeros(()), "b": torch.zeros(())}
    assert training_losses(rest, "the distiller Mine", may_rest=True) is rest
    for wrong in ({"a": LOSS.detach()}, {"a": torch.zeros(()), "b": torch.tensor(torch.nan)}):
        with pytest.raises(RunError, match="gave losses without a gradient"):
            training_losses(wrong, "the distiller Mine", may_rest=True)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (None, r"gave nothing \(None\), but must give a mapping of names to numbers"),
        ([1], "gave a value of the type list"),
        ({"a": torch.tensor(1.0)}, r"gave 'a' as a tensor of the shape \[\].*return float\(...\) of it"),
        ({"a": "1"}, "gave 'a' as a value of the type str"),
        ({2: 1.0}, "gave a number with the name 2"),
    ],
)
def test_numbers_of_another_form(found: object, sentence: str) -> None:
    with pytest.raises(RunError, match=f"the observer Mine {sentence}"):
        numbers_by_name(found, "the observer Mine")


def test_numbers_of_numpy_become_those_of_python() -> None:
    found = numbers_by_name({"a": numpy.float32(0.5), "b": 2, "c": 0.25}, "the observer Mine")
    assert found == {"a": 0.5, "b": 2, "c": 0.25}
    assert [type(value) for value in found.values()] == [float, int, float]
