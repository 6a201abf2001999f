"""What a callback is: a class with options, or a function of one's own that takes each event."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final

from tskd_tune.errors import InputError
from tskd_tune.outside import short_name
from tskd_tune.paths import Address, StoragePlace
from tskd_tune.records.entries.events import Event
from tskd_tune.registry import Component, Registry


@dataclass(frozen=True)
class Heard:
    """The run whose events a callback hears.

    Attributes:
        name: the name of the run.
        path: the folder of the run; of a run on an object storage the folder of this machine that stands for it.
        address: the address of a run on an object storage; None for a run in a folder.
    """

    name: str
    path: Path
    address: Address | None = None

    @property
    def place(self) -> StoragePlace:
        """The folder or the address by which users know the run."""
        return self.address or self.path


class Callback(ABC):
    """Hears the events of a run in the driver's process, in a thread of its own, one event after the other.

    A constructor takes the run (`Heard`), and the options as keyword-only arguments. An error of a callback becomes a
    warning, and the callback hears the next event. After a resume the events of epochs that are trained again come
    again, with the same numbers.

    Attributes:
        extra: a package that the callback imports, by its name in Python, if it is no dependency of this package; the
            extra of this package has the callback's name.
    """

    extra: ClassVar[str | None] = None

    @abstractmethod
    def hear(self, event: Event) -> None:
        """Do something with an event."""

    def close(self) -> None:  # noqa: B027 (most callbacks have nothing to close)
        """Called after the last event; the run waits some seconds for it."""

    def ready(self) -> str | None:
        """Return what is missing on this machine before the callback can be used, as a sentence; None if nothing is."""
        return None


CALLBACKS: Final[Registry[object]] = Registry("callbacks")
"""Classes of callbacks; ``module:function`` names a function ``tell(event, *, option=...)`` instead."""


class _Function(Callback):
    """A function of the user's, which is called with each event."""

    def __init__(self, function: Callable[[Event], object]) -> None:
        self._function = function

    def hear(self, event: Event) -> None:
        """Call the function."""
        self._function(event)


def build(component: Component, run: Heard) -> Callback:
    """Build a callback from its options.

    Raises:
        InputError: the class is no callback, or its constructor raises an error.
    """
    factory = CALLBACKS.entry(component.name).factory
    if not inspect.isclass(factory):
        return _Function(partial(factory, **component.options()))
    made = CALLBACKS.make(component, run)
    if not isinstance(made, Callback):
        raise InputError(
            f"callbacks: '{short_name(component.name)}' is the class {factory.__qualname__}, which is no subclass of"
            " tskd_tune.callbacks.Callback; make it one, or name a function that takes an event"
        )
    return made


def refuse_unready(components: Iterable[Component]) -> None:
    """Refuse, before anything is trained, a callback whose package or setting is missing on this machine.

    Raises:
        InputError: with what to install or to set.
    """
    for component in components:
        factory = CALLBACKS.entry(component.name).factory
        package = getattr(factory, "extra", None)
        if isinstance(package, str) and find_spec(package) is None:
            raise InputError(
                f"callbacks: '{component.name}' needs the package {package}: pip install 'tskd-tune[{component.name}]'"
            )
        missing = build(component, Heard("", Path())).ready() if inspect.isclass(factory) else None
        if missing is not None:
            raise InputError(f"callbacks: '{short_name(component.name)}' {missing}")
