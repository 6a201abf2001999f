"""What a forward gives, if it is no output: said by the network's probe, before any training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from tskd_tune.contracts import BatchNormStatistics, Classified
from tskd_tune.errors import InputError
from tskd_tune.networks.base import Network

MAPS = {"stage1": torch.zeros(1, 2, 4, 4)}
GOOD = {"logits": torch.zeros(1, 3), "features": MAPS, "preactivations": MAPS, "embedding": torch.zeros(1, 5)}


class Gives(Network):
    """Gives what it is made with."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: torch.Tensor) -> Classified:
        found: Classified = self.output
        return found

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        return {}


def output(**over: Any) -> Classified:
    return Classified(**{**GOOD, **over})


def test_an_output_has_shapes() -> None:
    assert Gives(output()).probe(3, 8).logits == (3,)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: torch.zeros(1, 3), "its forward gave a value of the type Tensor.*return Classified"),
        (lambda: (1, 2), "its forward gave a value of the type tuple"),
        (lambda: None, "its forward gave a value of the type NoneType"),
        (lambda: output(features=[*MAPS.values()]), "the features of its output are a value of the type list"),
        (lambda: output(features={"stage1": 1.0}), "the features of 'stage1' in its output is a float"),
        (lambda: output(preactivations={"stage1": torch.zeros(2, 4)}), r"the preactivations of 'stage1'.*\[2, 4\]"),
        (lambda: output(logits=torch.zeros(3, 1)), r"the logits in its output is a tensor of the shape \[3, 1\]"),
        (lambda: output(embedding=None), "the embedding in its output is a NoneType"),
        (lambda: output(embedding=torch.zeros(5)), r"the embedding.*\[5\], but must be a tensor \[1, ...\]"),
    ],
)
def test_what_is_no_output_is_refused(made: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"network Gives: .*{sentence}"):
        Gives(made()).probe(3, 8)
