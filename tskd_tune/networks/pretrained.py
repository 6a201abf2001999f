"""Published weights by name, ``torchvision:IMAGENET1K_V1`` or ``timm:a1_in1k``, for the networks of these packages."""

from __future__ import annotations

from importlib.metadata import version

from tskd_tune.errors import InputError
from tskd_tune.networks.base import Network
from tskd_tune.networks.timm_network import TimmNetwork
from tskd_tune.networks.torchvision_network import TorchvisionNetwork
from tskd_tune.networks.wrapped import Wrapped

PUBLISHERS = (TorchvisionNetwork.publisher, TimmNetwork.publisher)


def is_published(weights: str) -> bool:
    """Tell whether weights are a name ``package:tag`` and not a path."""
    package, colon, _ = weights.partition(":")
    return bool(colon) and package in PUBLISHERS


def load_published(network: Network, weights: str, *, name: str, where: str = "teacher.weights") -> None:
    """Load the weights that a package publishes for its own network, from the cache or from its servers.

    Downloads go to the package's own cache: ``$TORCH_HOME``, ``$HF_HOME``.

    Args:
        network: the network, with the classes and channels of the task.
        weights: ``package:tag``.
        name: the network's name in the registry.
        where: the part of the experiment that messages begin with.

    Raises:
        InputError: the network is not of that package, has no such weights or not for these classes, or they can
            neither be read nor downloaded.
    """
    package, _, tag = weights.partition(":")
    if not isinstance(network, Wrapped) or network.publisher != package:
        raise InputError(
            f"{where}: '{weights}' names weights of {package}'s networks, but the teacher is a {name}; set name:"
            f" {package} and its model, or give auto or the path of a checkpoint"
        )
    try:
        network.load_published(tag)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def identity(weights: str) -> dict[str, str]:
    """Return the name and the version of the package: other versions may have other default weights.

    Raises:
        InputError: the package is not installed.
    """
    package = weights.partition(":")[0]
    try:
        return {"weights": weights, "version": version(package)}
    except ImportError as error:
        raise InputError(f"teacher.weights: '{weights}' needs the package {package}: pip install {package}") from error
