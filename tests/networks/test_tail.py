"""A network entered at a stage says what the whole network says."""

from __future__ import annotations

import pytest
import torch

from tskd_tune import networks
from tskd_tune.errors import InputError
from tskd_tune.networks.base import Network


def made(name: str) -> tuple[Network, torch.Tensor]:
    torch.manual_seed(0)
    return networks.build(name, classes=5).double(), torch.randn(4, 3, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("name", ["resnet8", "resnet20", "resnet8x4", "wrn_16_2", "resnet18", "shufflenet_v1"])
def test_behind_every_stage_stand_the_networks_own_layers(name: str, mode: bool) -> None:
    network, images = made(name)
    network.train(mode)
    output = network(images)
    assert list(output.features)[:2] == ["stem", "stage1"]
    own = {id(parameter) for parameter in network.parameters()}
    counts = []
    for stage, features in output.features.items():
        tail = network.tail(stage)
        torch.testing.assert_close(tail(features), output.logits, rtol=0, atol=0)
        assert {id(parameter) for parameter in tail.parameters()} < own
        counts.append(len(list(tail.parameters())))
    assert counts == sorted(counts, reverse=True) and len(set(counts)) == len(output.features) > 3


def test_a_stage_that_is_not_there_is_a_sentence() -> None:
    for name in ("resnet8", "wrn_16_2"):
        with pytest.raises(InputError, match="there is no stage 'stage9'; did you mean"):
            made(name)[0].tail("stage9")


def test_a_network_that_cannot_be_entered_says_which_can() -> None:
    network, _ = made("vgg8")
    with pytest.raises(
        InputError,
        match=r"its layers behind 'stage1' cannot be used alone; .*\(resnet20, resnet50, shufflenet_v1, wrn_16_2\)",
    ):
        network.tail("stage1")
