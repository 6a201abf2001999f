"""Networks of other packages: their stages are tapped by hooks, and their parameters keep their names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from tskd_tune.contracts import Out_co, Saved
from tskd_tune.errors import InputError
from tskd_tune.networks.base import Network

# The attribute that holds the model, which the names of a state dict leave out.
PREFIX = "model."
Passage = tuple[Tensor, Tensor]


class Wrapped(Network[Out_co]):
    """A model of another package; a `Watch` taps its stages by hooks.

    The state dict has the model's own parameter names, so published checkpoints can be loaded, and the package of the
    model can load exported checkpoints.

    Attributes:
        publisher: the package, as ``teacher.weights`` names it.
        model: the package's own model.
        model_name: its name in the package.
        classes: the number of its classes.
        channels: the channels of its images.
    """

    publisher: ClassVar[str]
    cuttable = True

    def __init__(self, model: nn.Module, model_name: str, classes: int, channels: int) -> None:
        """Wrap a model for ``classes`` classes and images of ``channels`` channels."""
        super().__init__()
        self.model = model
        self.model_name = model_name
        self.classes = classes
        self.channels = channels
        self.register_state_dict_post_hook(_strip)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_prepend)  # type: ignore[no-untyped-call]

    @property
    def title(self) -> str:
        """The name of the network in messages."""
        return f"{self.publisher}'s {self.model_name}"

    @abstractmethod
    def load_published(self, tag: str) -> None:
        """Load the weights that the package publishes for this model under a tag, from the cache or its servers.

        Raises:
            InputError: there are no such weights for the model and its classes, or they can neither be read nor
                downloaded.
        """

    @abstractmethod
    def published_classes(self, tag: str) -> int:
        """Return for how many classes the weights under a tag are.

        Raises:
            InputError: there are no such weights for the model.
        """

    def check_published(self, tag: str, classes: int, channels: int) -> None:
        """Refuse published weights for another number of classes or image channels than the network has.

        Raises:
            InputError: they do not fit.
        """
        if (classes, channels) != (self.classes, self.channels):
            raise InputError(
                f"the weights '{tag}' of {self.title} are for {classes} classes and {channels} channels, but the task"
                f" has {self.classes} classes and {self.channels} channels; use weights: auto, set teacher.fine_tune,"
                " or give a checkpoint that was trained on this task"
            )

    def load_from(self, make: Callable[[], nn.Module], tag: str, place: str) -> None:
        """Take the weights of the model that ``make`` loads; see `published_state`."""
        self.model.load_state_dict(published_state(make, f"the weights '{tag}' of {self.title}", place))


def published_state(make: Callable[[], nn.Module], what: str, place: str) -> dict[str, Tensor]:
    """Return the state of the model that ``make`` loads.

    Args:
        make: builds the package's model with its published weights.
        what: the weights, in words.
        place: what the message says of the place of the weights: how to download them by hand, and to where.

    Raises:
        InputError: they can neither be downloaded nor read.
    """
    try:
        # The model first draws random weights, which must not change the state of torch's generator.
        with torch.random.fork_rng(devices=[]):
            return make().state_dict()
    except OSError as error:
        raise InputError(
            f"{what} are not in the cache and could not be downloaded ({_first_line(error)}); {place}"
        ) from error
    except Exception as error:  # A damaged file fails anywhere in its reader, with any class of error.
        raise InputError(
            f"{what} could not be read ({_first_line(error)}); delete the damaged file; {place}"
        ) from error


class Watch:
    """Keeps the last input and output of some modules during a forward of their network.

    The hooks stay on the modules, so that a forward changes no module. A deep copy of the network and its watch, made
    together, watches the copied modules.
    """

    def __init__(self, modules: Mapping[str, nn.Module], end: nn.Module | None = None) -> None:
        """Hook the modules, given by name, and the module at whose end `run_to_its_end` stops."""
        self._seen: dict[str, Passage] = {}
        self._stop = _Stop()
        for name, module in modules.items():
            module.register_forward_hook(_Keeper(self._seen, name))
        if end is not None:
            end.register_forward_hook(self._stop)

    def run_to_its_end(self, network: nn.Module, images: Tensor) -> None:
        """Run a network on images ``[B, channels, H, W]`` until the ``end`` has run; no later module runs."""
        self._stop.is_wanted = True
        try:
            network(images)
        except _StoppedError:
            pass
        finally:
            self._stop.is_wanted = False

    def take(self) -> dict[str, Passage]:
        """Return, by name, the first argument and the output of each module that ran, and forget them.

        Of a module that ran more than once, the last run counts.
        """
        seen = dict(self._seen)
        self._seen.clear()  # a tensor with a gradient could not be copied with the network
        return seen


class _Keeper:
    """A forward hook, as an object: a deep copy of a function would still write where the original writes."""

    def __init__(self, seen: dict[str, Passage], name: str) -> None:
        self.seen = seen
        self.name = name

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.seen[self.name] = (inputs[0], output)


class _StoppedError(Exception):
    """The module at which a forward was to stop has run."""


class _Stop:
    """A forward hook that ends the forward of the whole network, while this is wanted."""

    is_wanted = False

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.is_wanted:
            raise _StoppedError


def _strip(module: nn.Module, state: Saved, prefix: str, metadata: object) -> None:
    held = f"{prefix}{PREFIX}"
    for key in [key for key in state if key.startswith(held)]:
        state[prefix + key.removeprefix(held)] = state.pop(key)


def _prepend(module: nn.Module, state: Saved, prefix: str, *ignored: object) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}{PREFIX}{key.removeprefix(prefix)}"] = state.pop(key)


def _first_line(error: Exception) -> str:
    first = str(error).partition("\n")[0]
    # torch's advice to load a damaged file without its checks is not repeated.
    return first if first and "weights_only" not in str(error) else type(error).__name__
