"""Layouts in wide use load, whatever lies beside the tensors; what does not load says where its tensors lie."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tskd_tune.errors import InputError
from tskd_tune.networks import Network, build
from tskd_tune.networks.layouts import prefix_of, prefixes_of, states
from tskd_tune.networks.weights import load_into, read_state

State = dict[str, Tensor]
Wrap = Callable[[State], Any]


def network(seed: int = 0, name: str = "resnet8", classes: int = 10) -> Network:
    torch.manual_seed(seed)
    return build(name, classes=classes)


def before(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {prefix + key: value for key, value in state.items()}


def zeros(state: State) -> State:
    return {key: torch.zeros_like(value) for key, value in state.items()}


class Teaching(nn.Module):
    """As a training framework saves a module that holds its network, a loss with weights and a metric."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.net = inner
        self.criterion = nn.Linear(3, 3)


LAYOUTS: dict[str, Wrap] = {
    "pytorch's tutorial": lambda state: {"epoch": 1, "model_state_dict": state, "optimizer_state_dict": sgd_state()},
    "net": lambda state: {"net": state, "acc": 93.0, "epoch": 1},
    "network": lambda state: {"network": state},
    "params": lambda state: {"params": state},
    "weights": lambda state: {"weights": state},
    "teacher": lambda state: {"teacher": state},
    "a key that nobody knows": lambda state: {"my_best_one": state, "epoch": 3},
    "two levels": lambda state: {"best": {"net": state, "epoch": 2}, "args": argparse.Namespace(lr=0.1)},
    "lightning": lambda state: {"state_dict": before("model.", state), "epoch": 1, "hyper_parameters": {"lr": 0.1}},
    "lightning's net": lambda state: {"state_dict": before("net.", state), "callbacks": {}},
    "lightning, compiled": lambda state: {"state_dict": before("model._orig_mod.", state)},
    "lightning with a teacher": lambda state: {
        "state_dict": {**before("student.", state), **before("teacher.", network(3, "resnet14").state_dict())}
    },
    "lightning with a loss": lambda state: {"state_dict": {**before("model.", state), "loss.weight": torch.ones(4)}},
    "a module that holds the network": lambda state: Teaching(loaded(state)).state_dict(),
    "compiled inside of parallel": lambda state: before("module._orig_mod.", state),
    "averaged": lambda state: torch.optim.swa_utils.AveragedModel(loaded(state)).state_dict(),
    "averaged, wrapped": lambda state: {"swa": torch.optim.swa_utils.AveragedModel(loaded(state)).state_dict()},
    "timm with an average beside": lambda state: {"state_dict": state, "state_dict_ema": zeros(state), "arch": "x"},
    "model with an average beside": lambda state: {"ema": zeros(state), "model": state},
    "only the average": lambda state: {"state_dict_ema": state, "epoch": 1},
    "mmpretrain": lambda state: {
        "state_dict": {f"{'head' if key.startswith('fc') else 'backbone'}.{key}": value for key, value in state.items()}
    },
    "an average under another key": lambda state: {"state_dict": state, "ema_state_dict": zeros(state)},
    "student and teacher": lambda state: {"teacher": network(3, "resnet14").state_dict(), "student": state},
    "with other networks": lambda state: {"a": network(3, "resnet14").state_dict(), "b": state},
    "scalars among the names": lambda state: {**state, "epoch": 3, "best_acc": 71.0},
    "ordered": collections.OrderedDict,
}


def sgd_state() -> dict[str, Any]:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def loaded(state: State) -> Network:
    holder = network(5)
    holder.load_state_dict(state)
    return holder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_in_wide_use_load(tmp_path: Path, layout: str) -> None:
    source, target, path = network(0), network(1), tmp_path / "net.pth"
    torch.save(LAYOUTS[layout](source.state_dict()), path)
    load_into(target, path, name="resnet8")
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


BESIDE: dict[str, Any] = {
    **{
        f"numpy's {kind.__name__}": kind(1) for kind in (np.int64, np.int32, np.uint8, np.float16, np.float64, np.bool_)
    },
    "numpy's text": np.str_("resnet8"),
    "an array": np.arange(3),
    "an array of float": np.array(71.5),
    "an array of bool": np.array([True, False]),
    "numpy's random state": np.random.RandomState(0).get_state(),
    "torch's random state": torch.random.get_rng_state(),
    "a set": {1, 2},
    "a frozenset": frozenset([1]),
    "a defaultdict": collections.defaultdict(list, {"loss": [1.0]}),
    "a counter": collections.Counter({5: 1}),
    "a path": pathlib.Path("runs/1"),
    "a path of Windows": pathlib.PureWindowsPath("C:/runs"),
    "a time": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "a duration": datetime.timedelta(seconds=3),
    "a namespace": types.SimpleNamespace(lr=0.1, path=pathlib.Path("a")),
    "arguments": argparse.Namespace(lr=0.1, classes=np.int64(10)),
    "a device": torch.device("cpu"),
    "a kind of number": torch.float32,
    "a complex number": 1j,
    "bytes": b"\x00\xff",
}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_things_beside_the_weights_load(tmp_path: Path, kind: str, zipped: bool) -> None:
    source, target, path = network(0), network(1), tmp_path / "net.pth"
    payload = {"state_dict": source.state_dict(), "beside": BESIDE[kind], "history": [BESIDE[kind]]}
    torch.save(payload, path, _use_new_zipfile_serialization=zipped)
    load_into(target, path, name="resnet8")
    assert torch.equal(target.state_dict()["conv1.weight"], source.state_dict()["conv1.weight"])
    if isinstance(BESIDE[kind], int | np.number | str | pathlib.PosixPath | set | datetime.datetime):
        assert str(read_state(path).facts["beside"]) == str(BESIDE[kind])


CLAIMS = [
    *(np.int64(71), np.float32(71), np.array(71.0), np.array([71]), torch.tensor(71.0)),
    *(torch.tensor(71.0, dtype=torch.bfloat16), torch.tensor(71.0, requires_grad=True)),
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claimed_accuracy_is_read_whatever_kind_of_number_it_is(tmp_path: Path, claim: Any) -> None:
    torch.save({"model": network().state_dict(), "best_acc": claim}, tmp_path / "net.pth")
    assert read_state(tmp_path / "net.pth").accuracy == 71.0


NO_CLAIMS: dict[str, Any] = {
    "a complex number": np.complex128(1j),
    "an array of text": np.array("seventy"),
    "a tensor without values": torch.ones((), device="meta"),
    "an integer that no float holds": 10**400,
    "not a number": float("nan"),
}


@pytest.mark.parametrize("kind", NO_CLAIMS)
def test_a_claim_of_a_strange_kind_is_no_accuracy(tmp_path: Path, kind: str) -> None:
    torch.save({"model": network().state_dict(), "best_acc": NO_CLAIMS[kind]}, tmp_path / "net.pth")
    assert load_into(network(1), tmp_path / "net.pth", name="resnet8").accuracy is None


def refusal(path: Path, payload: Any) -> str:
    torch.save(payload, path)
    with pytest.raises(InputError) as caught:
        load_into(network(1), path, name="resnet8")
    sentence = str(caught.value)
    assert "weights_only" not in sentence and "\n" not in sentence
    return sentence.removeprefix(f"teacher: {path}: ")


def test_a_prefix_of_a_network_that_does_not_fit_is_said(tmp_path: Path) -> None:
    deeper = before("backbone.net.", network(0, "resnet14").state_dict())
    sentence = refusal(tmp_path / "net.pth", {"state_dict": deeper})
    assert sentence.startswith(
        "every name begins with 'backbone.net.'; without it, layer1.1.conv1.weight is no part of"
    )
    assert sentence.endswith("set name: resnet14, or give a checkpoint of resnet8 with 10 classes")
    other = before("model.", network(0, classes=5).state_dict())
    assert "every name begins with 'model.'; without it, fc.weight has shape [5, 64]" in refusal(
        tmp_path / "b.pth", other
    )


def test_the_keys_of_several_networks_that_do_not_fit_are_said(tmp_path: Path) -> None:
    payload = {"generator": network(0, "resnet14").state_dict(), "critic": {"net": network(0, "resnet20").state_dict()}}
    assert "; tensors lie under the keys generator, critic.net; " in refusal(tmp_path / "net.pth", payload)


def test_two_networks_under_prefixes_that_both_fit_are_refused(tmp_path: Path) -> None:
    state = network().state_dict()
    sentence = refusal(tmp_path / "net.pth", {"state_dict": {**before("first.", state), **before("second.", state)}})
    assert sentence == "holds more than one network that fits; save one network alone"


def test_two_networks_under_keys_that_both_fit_are_refused(tmp_path: Path) -> None:
    sentence = refusal(tmp_path / "net.pth", {"last": network(0).state_dict(), "best": network(1).state_dict()})
    assert sentence == "holds 2 networks that fit, under the keys last, best; save one network alone"


def test_a_network_beside_another_one_under_a_prefix_is_refused(tmp_path: Path) -> None:
    state = network().state_dict()
    assert "holds more than one network that fits" in refusal(tmp_path / "net.pth", {**state, **before("ema.", state)})


def test_a_variance_below_zero_is_refused(tmp_path: Path) -> None:
    state = {key: -value if key.endswith("running_var") else value for key, value in network().state_dict().items()}
    assert refusal(tmp_path / "net.pth", state).startswith("bn1.running_var has values below 0")


def test_parts_that_lie_under_a_prefix_alone_are_not_taken_for_the_network(tmp_path: Path) -> None:
    part = {key: value for key, value in before("model.", network().state_dict()).items() if "fc" not in key}
    assert "fc.weight is missing" in refusal(tmp_path / "net.pth", part)


def test_a_whole_network_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for payload in (network(), {"model": network()}, nn.DataParallel(network()), {"net": nn.Linear(2, 2)}):
        sentence = refusal(tmp_path / "net.pth", payload)
        assert sentence.startswith("holds a Python object (") and sentence.endswith(
            "so it was not loaded; save the network again as torch.save(network.state_dict(), path)"
        )


def test_prefixes_are_of_whole_parts() -> None:
    assert prefix_of(["model.a", "model.b.c"]) == "model."
    assert prefix_of(["layer1.a", "layer2.a"]) == ""
    assert prefix_of(["a.b.c", "a.b.d"]) == "a.b."
    assert prefix_of(["a.b"]) == "a."


def test_an_optimizers_tensors_are_no_network() -> None:
    assert [held.key for held in states({"optimizer": sgd_state(), "best_acc": torch.tensor(3.0)})] == []


def test_names_of_a_file_are_shown_as_a_terminal_can_show_them(tmp_path: Path) -> None:
    state = network().state_dict()
    for odd, said in (
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m is no part of"),
        ("", "'' is no part of"),
        ("begin" + "x" * 100_000 + "end", "x...x"),
    ):
        assert said in refusal(tmp_path / "surplus.pth", {**state, odd: torch.ones(1)})
        assert len(refusal(tmp_path / "keys.pth", {odd: 1})) < 400
        assert "\x1b" not in refusal(tmp_path / "two.pth", {f"{odd}a": state, f"{odd}b": network(2).state_dict()})
    assert "every name begins with '\\x1b.'" in refusal(tmp_path / "prefix.pth", before("\x1b.", {"a": torch.ones(1)}))


def test_a_file_of_many_names_is_read_in_time_that_grows_with_them(tmp_path: Path) -> None:
    """With 20,000 names the time grew with their square: minutes."""
    crowd = {f"part{number}.weight": torch.ones(1) for number in range(20_000)}
    began = time.process_time()  # of this process alone: the machine may be busy with others
    assert "is no part of" in refusal(tmp_path / "net.pth", {**network().state_dict(), **crowd})
    assert time.process_time() - began < 20


def test_a_prefix_needs_as_many_names_as_the_network_has() -> None:
    names = ["a.b.x", "a.b.y", "a.c", "d.x", "d.y"]
    assert prefixes_of(names, 2) == ["a.b.", "d."]
    assert prefixes_of(names, 3) == ["a."]
