"""What every optimizer promises: torch's own steps, exact resumes, resets, its size on disk, and steps in a graph."""

from __future__ import annotations

import importlib
import inspect
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.sweeps.estimating.disk import sizes
from tskd_tune.testing.tape import Tape
from tskd_tune.training import optim
from tskd_tune.training.compute import Compute
from tskd_tune.training.optimizers import FIRST_RATES, OPTIMIZERS, REFUSED, Setup, refuse_unfit

NAMES = OPTIMIZERS.names()
CLASSES: dict[str, type[torch.optim.Optimizer]] = {
    name.casefold(): one
    for name, one in vars(torch.optim).items()
    if inspect.isclass(one) and issubclass(one, torch.optim.Optimizer) and one is not torch.optim.Optimizer
}
# Option -> another value, by optimizer; tests/contracts/test_options.py flips the training's own (lr, weight_decay).
FLIPS: dict[str, dict[str, Any]] = {
    "adam": {"betas": [0.5, 0.9], "eps": 0.1, "amsgrad": True},
    "adamw": {"betas": [0.5, 0.9], "eps": 0.1, "amsgrad": True},
    "nadam": {"betas": [0.5, 0.9], "eps": 0.1, "momentum_decay": 0.5, "decoupled_weight_decay": True},
    "radam": {"betas": [0.5, 0.9], "eps": 0.1, "decoupled_weight_decay": True},
    "adamax": {"betas": [0.5, 0.9], "eps": 0.1},
    "adagrad": {"lr_decay": 0.5, "initial_accumulator_value": 0.5, "eps": 0.1},
    "adadelta": {"rho": 0.5, "eps": 0.1},
    "rmsprop": {"alpha": 0.5, "eps": 0.1, "momentum": 0.5, "centered": True},
    "adafactor": {"beta2_decay": -0.3, "d": 2.0},
}  # fmt: skip


def weights() -> list[nn.Parameter]:
    drawn = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=drawn)) for shape in ((4, 2, 3, 3), (5, 4), (5,))]


def made(name: str, of: list[nn.Parameter], **options: object) -> torch.optim.Optimizer:
    setup = Setup([of[:2], of[2:]], 0.05, 0.01, 0.9, False, optim.CPU)
    return optim.prepared(OPTIMIZERS.build(name, setup, **options), optim.CPU)


def gradient(step: int, number: int, like: Tensor) -> Tensor:
    drawn = torch.Generator().manual_seed(10 * step + number)
    return (1 + 5 * (step % 3 == 0)) * torch.randn(like.shape, generator=drawn)


def go(optimizer: torch.optim.Optimizer, of: list[nn.Parameter], steps: range) -> list[nn.Parameter]:
    for step in steps:
        optim.set_share(optimizer, 1.0 - 0.05 * step)
        for number, weight in enumerate(of):
            weight.grad = gradient(step, number, weight)
        optimizer.step()
    return of


def same(ones: list[nn.Parameter], others: list[nn.Parameter]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


def test_every_optimizer_of_torch_is_known_or_refused_with_a_reason() -> None:
    assert {*NAMES} | {*REFUSED} == {*CLASSES} and not {*NAMES} & {*REFUSED}
    for name in REFUSED:
        with pytest.raises(InputError, match=f"cannot train here: .*{REFUSED[name][:20]}.*choose one of sgd, adam"):
            refuse_unfit({"sparseadam": "sparse_adam", "lbfgs": "LBFGS"}.get(name, name))


@pytest.mark.parametrize("name", FIRST_RATES)
def test_the_first_rate_is_torchs_unless_it_is_set(name: str) -> None:
    plain = {"task": "digits", "student": "resnet8", "review": None}
    rate = inspect.signature(CLASSES[name]).parameters["lr"].default
    assert Experiment.read({**plain, "training": {"optimizer": name}}).training.lr == rate
    assert Experiment.read({**plain, "training": {"optimizer": name, "lr": 0.3}}).training.lr == 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_steps_are_torchs(name: str) -> None:
    plain = weights()
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    twin = CLASSES[name](plain, lr=0.05, weight_decay=0.01, **momentum)  # type: ignore[arg-type]
    for group in twin.param_groups:
        group[optim.FIRST_RATE] = 0.05
    assert same(go(made(name, of := weights()), of, range(5)), go(twin, plain, range(5)))


@pytest.mark.parametrize(("name", "option"), [(name, option) for name, found in FLIPS.items() for option in found])
def test_every_option_changes_the_weights(name: str, option: str) -> None:
    plain, flipped = weights(), weights()
    go(made(name, plain), plain, range(8))
    go(made(name, flipped, **{option: FLIPS[name][option]}), flipped, range(8))
    assert not same(plain, flipped)


def test_no_option_is_left_out() -> None:
    known = {name: {*OPTIMIZERS.options(name).model_fields} - {"name"} for name in NAMES}
    assert {name: {*found} for name, found in FLIPS.items()} == {name: one for name, one in known.items() if one}


@pytest.mark.parametrize("name", NAMES)
def test_a_resume_takes_the_same_steps_bit_for_bit(name: str) -> None:
    whole = go(made(name, of := weights()), of, range(6))
    begun = made(name, first := weights())
    go(begun, first, range(3))
    file = io.BytesIO()
    torch.save(optim.optimizer_state(begun), file)
    file.seek(0)
    with torch.no_grad():
        second = [nn.Parameter(one.clone()) for one in first]
    resumed = made(name, second)
    optim.load_optimizer_state(resumed, torch.load(file, weights_only=True))
    assert same(go(resumed, second, range(3, 6)), whole)
    go(begun, first, range(3, 6))
    assert same(first, whole), "the state that was saved is the running training's own, and must not be shared"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_forgotten_begins_anew(name: str) -> None:
    used, fresh = weights(), weights()
    optimizer = made(name, used)
    go(optimizer, used, range(3))
    with torch.no_grad():
        for one, other in zip(used, fresh, strict=True):
            one.copy_(other)
    for one in used:
        optim.forget(optimizer, one)
    assert same(go(optimizer, used, range(3)), go(made(name, fresh), fresh, range(3)))


def test_an_optimizer_from_outside_is_forgotten_too() -> None:
    class Own(torch.optim.Adam):
        """A class that is not torch's."""

    optimizer = Own(of := weights(), lr=0.1)
    for group in optimizer.param_groups:
        group[optim.FIRST_RATE] = 0.1
    go(optimizer, of, range(1))
    optim.forget(optimizer, of[0])
    assert of[0] not in optimizer.state and of[1] in optimizer.state


@pytest.mark.parametrize("name", NAMES)
def test_the_state_of_a_parameter_is_known_before_training(name: str) -> None:
    optimizer = made(name, of := weights())
    expected = [optim.kept_after_a_step(optimizer, one) for one in of]
    go(optimizer, of, range(1))
    for one, told in zip(of, expected, strict=True):
        kept = {key: value.shape for key, value in optimizer.state[one].items() if isinstance(value, Tensor)}
        assert kept == {key: value.shape for key, value in told.items() if isinstance(value, Tensor)}


def test_a_checkpoint_with_more_state_is_estimated_larger(tiny: Callable[..., Experiment]) -> None:
    from tskd_tune.experiment.ready import build_trainer

    bytes_of = {}
    for name in ("sgd", "adamw", "rmsprop"):
        experiment = tiny(review=None, training={"optimizer": name})
        bytes_of[name] = sizes(experiment, build_trainer(experiment)).state
    assert bytes_of["sgd"] < bytes_of["rmsprop"] < bytes_of["adamw"]


CAPTURABLE = [name for name in NAMES if name not in ("adagrad", "adafactor")]


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch make the optimizers of a GPU on a CPU."""
    monkeypatch.setattr(optim, "in_tensors", lambda device: True)
    for name in CAPTURABLE:
        module = importlib.import_module(f"torch.optim.{name}")
        if hasattr(module, "_get_capturable_supported_devices"):
            monkeypatch.setattr(sys.modules[module.__name__], "_get_capturable_supported_devices", lambda **_: ["cpu"])


@pytest.fixture
def like_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch)


def close(ones: list[nn.Parameter], others: list[nn.Parameter]) -> bool:
    return all(torch.allclose(one, other, rtol=1e-3, atol=1e-4) for one, other in zip(ones, others, strict=True))


# Torch's loops over parameters read the rate of these two; a GPU has their other form, which the test below has.
@pytest.mark.parametrize("name", [name for name in CAPTURABLE if name not in ("adadelta", "rmsprop")])
def test_a_graph_holds_the_steps_and_reads_the_rate_that_is_set_later(name: str, like_a_gpu: None) -> None:
    graphed = made(name, of := weights())
    assert optim.capturable(graphed)
    for group in graphed.param_groups:  # on a CPU, torch's loop over parameters counts steps by a tensor of its own
        group["foreach"] = None if group.get("fused") else False
    gradients = [torch.zeros_like(one) for one in of]
    go(graphed, of, range(2))
    again: Callable[[], None] | None = None
    for step in range(2, 6):
        optim.set_share(graphed, 1.0 - 0.05 * step)
        for number, (weight, held) in enumerate(zip(of, gradients, strict=True)):
            held.copy_(gradient(step, number, weight))
            weight.grad = held
        if again is None:
            again = Tape(Compute.choose("cpu", "float32", False, 1))(lambda: graphed.step() and None, [])
        else:
            again()
    assert close(of, go(made(name, expected := weights()), expected, range(6)))


@pytest.mark.parametrize("name", CAPTURABLE)
def test_the_form_of_a_gpu_takes_the_steps_of_a_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = go(made(name, plain := weights()), plain, range(8))
    as_on_a_gpu(monkeypatch)
    optimizer = made(name, of := weights())
    for group in optimizer.param_groups:
        group["foreach"] = None if group.get("fused") else True
    assert close(go(optimizer, of, range(8)), expected)
    assert all(isinstance(group["lr"], Tensor) for group in optimizer.param_groups)


@pytest.mark.parametrize("name", ["adagrad", "adafactor"])
def test_what_no_graph_can_hold_says_so_and_keeps_numbers(name: str, like_a_gpu: None) -> None:
    optimizer = made(name, weights())
    assert not optim.capturable(optimizer)
    assert all(type(group["lr"]) is float for group in optimizer.param_groups)
