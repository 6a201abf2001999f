"""Folded networks compute what the network computes, follow it in place, and leave alone what cannot be folded."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tskd_tune.contracts import Classified, Features
from tskd_tune.method import fused_kernels
from tskd_tune.method.folding import FoldedConv, FoldedNetwork
from tskd_tune.method.fused_kernels import Geometry, convolution
from tskd_tune.method.memory import Frozen, Memory
from tskd_tune.networks import NETWORKS

POINTS = {"stem": "post", "stage1": "pre", "stage3": "post"}


def trained(name: str = "resnet8", seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a network in eval mode whose batch norms have statistics and weights of their own."""
    torch.manual_seed(seed)
    network = NETWORKS.build(name, 5).to(dtype)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network.eval()


def images(dtype: torch.dtype = torch.float64, batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(3)).to(dtype)


def maps(output: Any) -> list[Tensor]:
    sides = {"post": output.features, "pre": output.preactivations}
    return [sides[point][stage] for stage, point in POINTS.items()]


def folded(network: nn.Module, on: Tensor) -> FoldedNetwork:
    found = FoldedNetwork.of(network, POINTS, on)
    assert found is not None
    return found


def convolutions(network: FoldedNetwork) -> list[FoldedConv]:
    return [module for module in network._graph.modules() if isinstance(module, FoldedConv)]


# Those that have no batch norm.
NOTHING_TO_FOLD = ("mlp", "small_vit")


@pytest.mark.parametrize(
    "name",
    [name for name in NETWORKS.names() if not name.startswith(("timm", "torchvision", "faster", *NOTHING_TO_FOLD))],
)
def test_every_network_of_the_package_folds(name: str) -> None:
    network = trained(name)
    points = dict.fromkeys(network(images()).features, "post")
    assert FoldedNetwork.of(network, points, images()) is not None


def test_no_batch_norm_sum_or_activation_is_left_that_a_convolution_could_take() -> None:
    network = folded(trained("resnet14"), images())
    left = [node for node in network._graph.graph.nodes if node.op not in ("placeholder", "output")]
    # Only the tapped pre-activation needs an activation of its own.
    assert len(left) == len(convolutions(network)) + 1
    assert not any(isinstance(module, nn.BatchNorm2d | nn.Linear) for module in network._graph.modules())


def test_only_what_is_tapped_comes_back() -> None:
    found = folded(trained(), images())(images())
    assert isinstance(found, Features)
    assert set(found.features) == {"stem", "stage3"} and set(found.preactivations) == {"stage1"}
    assert not any(map_.requires_grad for map_ in maps(found))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "share"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_it_gives_the_same_maps_in_every_type_and_layout(
    dtype: torch.dtype, share: float, layout: torch.memory_format
) -> None:
    network = trained()
    wanted = [map_.detach() for map_ in maps(network(images()))]
    placed = copy.deepcopy(network).to(torch.promote_types(dtype, torch.float32)).to(memory_format=layout)
    on = images(dtype).contiguous(memory_format=layout)
    for map_, exact in zip(maps(folded(placed, on)(on)), wanted, strict=True):
        assert map_.dtype == dtype
        assert float((map_.double() - exact).abs().max()) < share * float(exact.abs().max())


def test_it_follows_the_network_in_place_when_it_is_asked_to() -> None:
    network, other = trained(), trained(seed=1)
    found = folded(network, images())
    before, places = maps(found(images())), [conv.weight.data_ptr() for conv in convolutions(found)]
    network.load_state_dict(other.state_dict())
    assert all(map(torch.equal, maps(found(images())), before))
    found.refold()
    torch.testing.assert_close(maps(found(images())), [map_.detach() for map_ in maps(other(images()))])
    assert [conv.weight.data_ptr() for conv in convolutions(found)] == places


class Odd(nn.Module):
    """A network with a layer that is not known, or one that torch cannot trace."""

    def __init__(self, *, traced: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.GroupNorm(2, 4)
        self.traced = traced

    def forward(self, inputs: Tensor) -> Classified:
        made = self.norm(self.conv(inputs))
        if not self.traced and float(made.mean()) > 1e9:
            made = made + 1
        return Classified(made.mean((2, 3)), {"stage1": made}, {"stage1": made}, made.mean((2, 3)))


@pytest.mark.parametrize("traced", [True, False])
def test_a_network_that_cannot_be_folded_is_left_as_it_is(traced: bool) -> None:
    odd = Odd(traced=traced).double().eval()
    assert FoldedNetwork.of(odd, {"stage1": "post"}, images()) is None
    frozen = Frozen(odd, fold={"stage1": "post"})
    assert torch.equal(frozen(images(), heads=False).features["stage1"], odd(images()).features["stage1"])


def test_a_frozen_network_folds_only_without_heads_and_in_eval_mode() -> None:
    network = trained()
    plain, folds = Frozen(network), Frozen(network, fold=POINTS)
    moving = Frozen(network, batch_norm="train", fold=POINTS)
    assert torch.equal(folds(images()).logits, plain(images()).logits)
    assert set(folds(images(), heads=False).features) == {"stem", "stage3"}
    assert torch.equal(moving(images(), heads=False).logits, Frozen(network, batch_norm="train")(images()).logits)
    assert folds.state_dict().keys() == plain.state_dict().keys()


def test_a_frozen_network_folds_anew_for_images_of_another_size_or_type() -> None:
    frozen = Frozen(trained("vgg8"), fold={"stage3": "post"})
    plain = Frozen(frozen.network)
    for side in (16, 64, 16):
        larger = torch.randn(2, 3, side, side).double()
        found = frozen(larger, heads=False).features["stage3"]
        torch.testing.assert_close(found, plain(larger).features["stage3"])
    half = Frozen(trained(dtype=torch.float32), fold=POINTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert maps(half(images(torch.float32), heads=False))[0].dtype == torch.bfloat16
    assert maps(half(images(torch.float32), heads=False))[0].dtype == torch.float32


def test_a_loaded_state_is_followed() -> None:
    network, other = trained(), trained(seed=1)
    frozen = Frozen(network, take=True, fold=POINTS)
    frozen(images(), heads=False)
    for load in (frozen.network.load_state_dict, lambda state: frozen.load_state_dict(Frozen(other).state_dict())):
        load(other.state_dict())
        torch.testing.assert_close(maps(frozen(images(), heads=False)), maps(Frozen(other)(images())))


def test_a_memory_folds_every_snapshot_that_it_shifts() -> None:
    students = [trained(seed=seed) for seed in range(4)]
    memory = Memory(2, None, POINTS)
    for number, student in enumerate(students):
        memory.memorize(student)
        if not memory.full:
            continue
        outputs = memory.recall(images())
        for output, past in zip(outputs, students[number - 1 : number + 1], strict=True):
            torch.testing.assert_close(maps(output), [map_.detach() for map_ in maps(past(images()))])
    again = Memory(2, None, POINTS)
    again.restore(memory.snapshot_state(), students[0])
    for output, same in zip(again.recall(images()), memory.recall(images()), strict=True):
        assert all(map(torch.equal, maps(output), maps(same)))


@pytest.mark.parametrize("activates", [True, False])
@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_fused_kernels_give_what_the_operations_give(
    activates: bool, adds: bool, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    given, weight, bias = torch.randn(2, 4, 6, 6), torch.randn(8, 2, 3, 3), torch.randn(8)
    geometry = Geometry((2, 2), (1, 1), (1, 1), 2)
    other = torch.randn(2, 8, 3, 3) if adds else None
    wanted = nn.functional.conv2d(given, weight, bias, 2, 1, 1, 2) + (0 if other is None else other)
    found = convolution(
        given.contiguous(memory_format=layout),
        (weight, bias),
        geometry,
        None if other is None else other.contiguous(memory_format=layout),
        activates,
    )
    torch.testing.assert_close(found, wanted.relu() if activates else wanted)


def test_without_the_kernels_the_operations_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained(dtype=torch.float32).to(memory_format=torch.channels_last)
    on = images(torch.float32).contiguous(memory_format=torch.channels_last)
    wanted = maps(folded(network, on)(on))
    monkeypatch.setattr(fused_kernels, "_has_kernels", lambda dtype: False)
    torch.testing.assert_close(maps(folded(network, on)(on)), wanted)
