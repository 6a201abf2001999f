"""The optimizers by name: torch's own, with the options of their signatures.

What the device decides (``capturable``, ``fused``, ``foreach``) is no option. The learning rate and the weight decay
are options of the training, whatever the optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn

from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.registry import Registry
from tskd_tune.training import optim

OPTIMIZERS: Registry[torch.optim.Optimizer] = Registry("optimizers", torch.optim.Optimizer)
"""Functions that make an optimizer from a `Setup`; their keyword-only parameters are the options."""

Share = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[list[Share], Field(min_length=2, max_length=2)]

REFUSED: Final = {
    "lbfgs": "it computes the loss of a batch several times in a step, which the loop of a training does not do",
    "sparseadam": "it needs sparse gradients, and the networks here have dense ones",
    "muon": "it takes matrices only, and the weights of convolutions have four dimensions",
    "rprop": "it needs the gradient of the whole training set in each step, and follows no schedule of the rate",
    "asgd": "its result is an average of the weights, which nothing here evaluates",
}
"""Optimizers of torch that no training here can use -> why."""

FIRST_RATES: Final = {
    "adam": 1e-3, "adamw": 1e-3, "nadam": 2e-3, "radam": 1e-3, "adamax": 2e-3, "adagrad": 1e-2, "adadelta": 1.0,
    "rmsprop": 1e-2, "adafactor": 1e-2,
}  # fmt: skip
"""Optimizer -> torch's first learning rate, where a training states none."""


@dataclass(frozen=True)
class Setup:
    """What an optimizer is made from.

    Attributes:
        groups: the groups of parameters, none empty; they are on the device.
        lr: the first learning rate.
        weight_decay: the training's weight decay.
        momentum: the training's momentum, which is SGD's.
        nesterov: whether SGD's momentum is Nesterov's.
        device: where the parameters are.
    """

    groups: Sequence[Sequence[nn.Parameter]]
    lr: float
    weight_decay: float
    momentum: float
    nesterov: bool
    device: torch.device

    def made(self, kind: type[torch.optim.Optimizer], **options: object) -> torch.optim.Optimizer:
        """Return an optimizer of torch over the groups, with its options and those of the device."""
        make: Callable[..., torch.optim.Optimizer] = kind
        groups = [{"params": list(group)} for group in self.groups]
        flags = optim.flags(kind, self.device)
        return make(groups, lr=self.lr, weight_decay=self.weight_decay, **flags, **options)


def refuse_unfit(name: str) -> None:
    """Refuse an optimizer of torch that no training here can use.

    Raises:
        InputError: with the reason.
    """
    plain = name.casefold().replace("_", "")
    if plain in REFUSED:
        fit = ", ".join(OPTIMIZERS.names())
        raise InputError(f"'{name}' cannot train here: {REFUSED[plain]}; choose one of {fit}")
    if name not in OPTIMIZERS.names() and plain in OPTIMIZERS.names():
        raise InputError(f"'{name}' is not among the optimizers{did_you_mean(plain, OPTIMIZERS.names())}")


@OPTIMIZERS.register("sgd", source="Robbins & Monro 1951; torch.optim.SGD")
def sgd(setup: Setup) -> torch.optim.Optimizer:
    """Stochastic gradient descent, with ``training.momentum`` and ``training.nesterov``."""
    return setup.made(torch.optim.SGD, momentum=setup.momentum, nesterov=setup.nesterov)


@OPTIMIZERS.register("adam", source="Kingma & Ba 2015, arXiv 1412.6980; torch.optim.Adam")
def adam(
    setup: Setup, *, betas: Betas = [0.9, 0.999], eps: PositiveFloat = 1e-8, amsgrad: bool = False  # noqa: B006
) -> torch.optim.Optimizer:  # fmt: skip
    """Adam; the weight decay is added to the gradient.

    Args:
        setup: what the optimizer is made from.
        betas: shares that the running means of the gradient and of its square keep at each step.
        eps: is added to the root of the mean square, for stability.
        amsgrad: divide by the largest mean square so far (Reddi et al. 2018).
    """
    return setup.made(torch.optim.Adam, betas=tuple(betas), eps=eps, amsgrad=amsgrad)


@OPTIMIZERS.register("adamw", source="Loshchilov & Hutter 2019, arXiv 1711.05101; torch.optim.AdamW")
def adamw(
    setup: Setup, *, betas: Betas = [0.9, 0.999], eps: PositiveFloat = 1e-8, amsgrad: bool = False  # noqa: B006
) -> torch.optim.Optimizer:  # fmt: skip
    """Adam whose weight decay shrinks the weights themselves, by learning rate times weight decay.

    Args:
        setup: what the optimizer is made from.
        betas: shares that the running means of the gradient and of its square keep at each step.
        eps: is added to the root of the mean square, for stability.
        amsgrad: divide by the largest mean square so far (Reddi et al. 2018).
    """
    return setup.made(torch.optim.AdamW, betas=tuple(betas), eps=eps, amsgrad=amsgrad)


@OPTIMIZERS.register("nadam", source="Dozat 2016; torch.optim.NAdam")
def nadam(
    setup: Setup,
    *,
    betas: Betas = [0.9, 0.999],  # noqa: B006
    eps: PositiveFloat = 1e-8,
    momentum_decay: NonNegativeFloat = 4e-3,
    decoupled_weight_decay: bool = False,
) -> torch.optim.Optimizer:
    """Adam with Nesterov's momentum.

    Args:
        setup: what the optimizer is made from.
        betas: shares that the running means of the gradient and of its square keep at each step.
        eps: is added to the root of the mean square, for stability.
        momentum_decay: how fast the momentum approaches the first of the betas.
        decoupled_weight_decay: let the weight decay shrink the weights themselves, as AdamW does.
    """
    options = {"eps": eps, "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay}
    return setup.made(torch.optim.NAdam, betas=tuple(betas), **options)


@OPTIMIZERS.register("radam", source="Liu et al. 2020, arXiv 1908.03265; torch.optim.RAdam")
def radam(
    setup: Setup,
    *,
    betas: Betas = [0.9, 0.999],  # noqa: B006
    eps: PositiveFloat = 1e-8,
    decoupled_weight_decay: bool = False,
) -> torch.optim.Optimizer:
    """Adam with a rectified variance in its first steps, instead of a warm-up.

    Args:
        setup: what the optimizer is made from.
        betas: shares that the running means of the gradient and of its square keep at each step.
        eps: is added to the root of the mean square, for stability.
        decoupled_weight_decay: let the weight decay shrink the weights themselves, as AdamW does.
    """
    options = {"eps": eps, "decoupled_weight_decay": decoupled_weight_decay}
    return setup.made(torch.optim.RAdam, betas=tuple(betas), **options)


@OPTIMIZERS.register("adamax", source="Kingma & Ba 2015, arXiv 1412.6980, section 7.1; torch.optim.Adamax")
def adamax(
    setup: Setup, *, betas: Betas = [0.9, 0.999], eps: PositiveFloat = 1e-8  # noqa: B006
) -> torch.optim.Optimizer:  # fmt: skip
    """Adam that divides by the largest gradient, which decays, instead of the mean square.

    Args:
        setup: what the optimizer is made from.
        betas: shares that the running mean and the largest gradient keep at each step.
        eps: is added to the gradient's size, for stability.
    """
    return setup.made(torch.optim.Adamax, betas=tuple(betas), eps=eps)


@OPTIMIZERS.register("adagrad", source="Duchi et al. 2011; torch.optim.Adagrad")
def adagrad(
    setup: Setup,
    *,
    lr_decay: NonNegativeFloat = 0.0,
    initial_accumulator_value: NonNegativeFloat = 0.0,
    eps: PositiveFloat = 1e-10,
) -> torch.optim.Optimizer:
    """A rate per weight that falls with the sum of the squared gradients; no CUDA graph can hold its steps.

    Args:
        setup: what the optimizer is made from.
        lr_decay: the rate of step n is divided by 1 + (n - 1) times this number.
        initial_accumulator_value: the sum of the squared gradients before the first step.
        eps: is added to the root of the sum, for stability.
    """
    options = {"lr_decay": lr_decay, "initial_accumulator_value": initial_accumulator_value, "eps": eps}
    return setup.made(torch.optim.Adagrad, **options)


@OPTIMIZERS.register("adadelta", source="Zeiler 2012, arXiv 1212.5701; torch.optim.Adadelta")
def adadelta(setup: Setup, *, rho: Share = 0.9, eps: PositiveFloat = 1e-6) -> torch.optim.Optimizer:
    """A rate per weight from the ratio of the mean squares of past updates and gradients.

    Args:
        setup: what the optimizer is made from.
        rho: share that the running mean squares keep at each step.
        eps: is added to the mean squares, for stability.
    """
    return setup.made(torch.optim.Adadelta, rho=rho, eps=eps)


@OPTIMIZERS.register("rmsprop", source="Hinton 2012, lecture 6; torch.optim.RMSprop")
def rmsprop(
    setup: Setup,
    *,
    alpha: Share = 0.99,
    eps: PositiveFloat = 1e-8,
    momentum: Share = 0.0,
    centered: bool = False,
) -> torch.optim.Optimizer:
    """The gradient divided by the root of its running mean square.

    Args:
        setup: what the optimizer is made from.
        alpha: share that the running mean square keeps at each step.
        eps: is added to the root of the mean square, for stability.
        momentum: momentum of the divided gradient; 0: none.
        centered: divide by the standard deviation instead of the root of the mean square.
    """
    options = {"alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered}
    return setup.made(torch.optim.RMSprop, **options)


@OPTIMIZERS.register("adafactor", source="Shazeer & Stern 2018, arXiv 1804.04235; torch.optim.Adafactor")
def adafactor(
    setup: Setup, *, beta2_decay: Annotated[float, Field(le=0)] = -0.8, d: Annotated[float, Field(ge=1)] = 1.0
) -> torch.optim.Optimizer:
    """Adam without momentum, with mean squares kept by row and column; no CUDA graph can hold its steps.

    Args:
        setup: what the optimizer is made from.
        beta2_decay: the power of the step number with which the mean square forgets.
        d: the largest root mean square of an update, before it is scaled down.
    """
    return setup.made(torch.optim.Adafactor, beta2_decay=beta2_decay, d=d)
