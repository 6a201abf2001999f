"""Registries of components: name -> factory whose keyword-only parameters are the options.

A component is a class or a function. A builder supplies the positional parameters; a user sets the keyword-only
parameters. From the keyword-only parameters a registry derives a frozen Pydantic model, so the signature is the only
place for options, defaults and bounds. The meaning of an option is read from the docstring's ``Args:``.
A trailing underscore, needed if an option is a keyword of Python, is dropped in YAML: ``lambda_`` is ``lambda``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Generic, TypedDict, TypeVar, cast

from pydantic import ValidationError

from tskd_tune import outside
from tskd_tune.errors import InputError, TskdTuneError, did_you_mean, reason, sentences, shown
from tskd_tune.kinds import made_by, made_fits, misfit, name_of
from tskd_tune.options import DISTINCT, NO_IDENTITY, Component, Derived, NoIdentity, Options, WasDefault
from tskd_tune.signatures import DescribedOption, Factory, Group, first_line, option_defaults, options_model
from tskd_tune.slots import ONE_OF, Slot

__all__ = [
    "DISTINCT",
    "ENTRY_POINT_GROUP",
    "NO_IDENTITY",
    "ONE_OF",
    "Component",
    "Derived",
    "Described",
    "Entry",
    "Group",
    "NoIdentity",
    "Options",
    "Registry",
    "Slot",
    "WasDefault",
    "marked",
]

T_co = TypeVar("T_co", covariant=True)
F = TypeVar("F", bound=Factory)
C = TypeVar("C", bound=Component)
ENTRY_POINT_GROUP = "tskd_tune"


def marked(**marks: bool) -> Callable[[F], F]:
    """Return a decorator that sets attributes of a factory, which the docstring of its registry explains."""

    def mark(factory: F) -> F:
        for name, value in marks.items():
            setattr(factory, name, value)
        return factory

    return mark


@dataclass(frozen=True)
class Entry(Generic[T_co]):
    """One registered component: its factory and the source of its method."""

    name: str
    factory: Callable[..., T_co]
    source: str

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring; empty without one."""
        return first_line(self.factory)

    @property
    def needs(self) -> list[str]:
        """The requirements of the component on networks and task, sorted; empty without requirements."""
        return sorted(str(need) for need in getattr(made_by(self.factory), "needs", ()))


class Described(TypedDict):
    """A component, as plain data."""

    name: str
    source: str
    options: dict[str, DescribedOption]
    needs: list[str]


class Registry(Generic[T_co]):
    """The components of one kind, by name; other packages add components by entry point or as ``module:Class``.

    >>> from pydantic import PositiveInt
    >>> shapes: Registry[object] = Registry("shapes")
    >>> @shapes.register("square", source="Euclid")
    ... class Square:
    ...     def __init__(self, *, side: PositiveInt = 1) -> None:
    ...         self.side = side
    >>> shapes.build("square", side=3).side
    3
    >>> shapes.describe()[0]["options"]
    {'side': {'description': '', 'default': 1, 'required': False}}
    """

    opened: ClassVar[list[Registry[object]]] = []

    def __init__(self, kind: str, base: object = object) -> None:
        """Open a registry.

        Args:
            kind: the plural name of the kind (``distillers``), used in messages and entry points.
            base: the class or type of the components; see `tskd_tune.kinds.misfit`.
        """
        self.kind = kind
        self.base = base
        self._entries: dict[str, Entry[T_co]] = {}
        self.opened.append(self)

    def register(self, name: str, *, source: str) -> Callable[[F], F]:
        """Register the decorated factory.

        Args:
            name: the component's name in YAML.
            source: the paper and equation, or the code, of the method.

        Raises:
            InputError: the name is taken.
        """

        def add(factory: F) -> F:
            if name in self._entries:
                raise InputError(f"{self.kind}: the name '{name}' is already taken")
            self._entries[name] = Entry(name, factory, source)
            return factory

        return add

    def __iter__(self) -> Iterator[Entry[T_co]]:
        """Iterate over the entries in the order of registration, installed entry points last."""
        return iter([*self._entries.values(), *map(self._installed, self._points().values())])

    def names(self) -> list[str]:
        """Return every known name."""
        return [*self._entries, *self._points()]

    def entry(self, name: str) -> Entry[T_co]:
        """Return the entry of a name.

        Raises:
            InputError: no component has this name, or ``package.module:Class`` cannot be imported.
        """
        if ":" in name:
            return self._imported(name)
        if name in self._entries:
            return self._entries[name]
        if name in (points := self._points()):
            return self._installed(points[name])
        raise InputError(f"{shown(name)} is not among the {self.kind}{self._elsewhere(name)}")

    def options(self, name: str, slot: type[Component] = Component) -> type[Component]:
        """Return the model of a component's options and the slot's own options."""
        return options_model(self.entry(name).factory, name, slot)

    def default(self, name: str, slot: type[C] = Component) -> Callable[[], C]:  # type: ignore[assignment]
        """Return a function that makes a component with all defaults, for a field's default factory."""
        return lambda: cast("C", self.options(name, slot).model_validate({"name": name}))

    def build(self, name: str, *runtime: object, **options: Any) -> T_co:
        """Build a component from run-time arguments and options; the options are validated.

        Keyword arguments that are not options are run-time arguments given by name.

        Args:
            name: the component's name, or ``module:Class``.
            *runtime: what the builder supplies, such as a network's number of classes.
            **options: the user's options, as a YAML file has them.

        Raises:
            InputError: there is no such component, or it cannot be built.
            ValidationError: an option is unknown, or has a value that is not allowed.
        """
        model = self.options(name)
        known = {key for field, info in model.model_fields.items() for key in (field, info.alias)}
        named = {key: options.pop(key) for key in list(options) if self._is_runtime(name, key, known)}
        return self._made(name, runtime, {**named, **model(name=name, **options).options()})

    def make(self, component: Component, *runtime: object, **named: object) -> T_co:
        """Build a component from its validated options."""
        return self._made(component.name, runtime, {**named, **component.options()})

    def slot(self, base: type[Component] = Component, *, without: str | None = None) -> Slot:
        """Return the annotation of a field for a component of this registry: ``Annotated[Component, NETWORKS.slot()]``.

        ``without`` is a name that the field refuses, such as a component that contains other components of this kind.
        """
        return Slot(self, base, without)

    def describe(self) -> list[Described]:
        """Return every component as plain data; options include their meaning."""
        return [
            {
                "name": entry.name,
                "source": entry.source,
                "options": option_defaults(self.options(entry.name)),
                "needs": entry.needs,
            }
            for entry in self
        ]

    def _is_runtime(self, name: str, key: str, known: set[str | None]) -> bool:
        parameters = inspect.signature(self.entry(name).factory).parameters
        return key in parameters and key not in known

    def _made(self, name: str, runtime: Sequence[object], options: Mapping[str, object]) -> T_co:
        """Call a factory; raise an `InputError` if foreign code fails or does not return a component of this kind."""
        factory = self.entry(name).factory
        self._refuse_call(name, factory, runtime, options)
        try:
            found: T_co = factory(*runtime, **options)
        except TskdTuneError:
            raise
        except (Exception, SystemExit) as error:
            said = "; ".join(sentences(error)) if isinstance(error, ValidationError) else reason(error)
            raise InputError(
                f"{self._word}: '{name}' cannot be built with these options ({said}); correct its options or its code"
            ) from error
        if self.base is not object and not made_fits(found, self.base):
            raise InputError(
                f"{self._word}: '{name}' gave a {type(found).__name__}, but must give a {name_of(self.base)}"
            )
        if _is_bare_module(found):
            raise InputError(
                f"{self._word}: the constructor of '{name}' does not call super().__init__(), which a torch module"
                " needs; call it first"
            )
        return found

    def _refuse_call(
        self, name: str, factory: Factory, runtime: Sequence[object], options: Mapping[str, object]
    ) -> None:
        """Refuse a signature that does not take what the builder supplies; a call would raise an error of Python."""
        signature = inspect.signature(factory)
        try:
            signature.bind(*runtime, **options)
        except TypeError as error:
            kinds = ", ".join(type(value).__name__ for value in runtime) or "none"
            raise InputError(
                f"{self._word}: '{name}' is called with positional values ({kinds}) and with its options by name, but"
                f" its signature does not take these ({error}); give it one positional parameter for each of these"
                " values, and options after a '*'"
            ) from error

    @property
    def _word(self) -> str:
        return self.kind.removesuffix("s")

    def _elsewhere(self, name: str) -> str:
        """Return a hint for an unknown name: the registry that has this name, or a similar known name."""
        others = [registry.kind for registry in self.opened if registry is not self and name in registry.names()]
        if others:
            return f"; it is one of the {others[0]}"
        module, dot, attribute = name[:100].rpartition(".")
        own = f"; a component of your own is written module:Class, here {module}:{attribute}" if dot and module else ""
        return f"{own}{did_you_mean(name, self.names())}"

    def _points(self) -> dict[str, EntryPoint]:
        prefix = f"{self.kind}."
        points = entry_points(group=ENTRY_POINT_GROUP)
        return {point.name.removeprefix(prefix): point for point in points if point.name.startswith(prefix)}

    def _installed(self, point: EntryPoint) -> Entry[T_co]:
        name = point.name.removeprefix(f"{self.kind}.")
        try:
            factory = point.load()
        except (Exception, SystemExit) as error:  # an installed package may fail in any way
            raise InputError(
                f"'{name}' of the installed package's entry point {point.value} cannot be imported ({reason(error)});"
                " repair or remove that package"
            ) from error
        return self._fitting(Entry(name, factory, point.value))

    def _imported(self, name: str) -> Entry[T_co]:
        try:
            factory = outside.load(name)
        except InputError:
            raise
        except (Exception, SystemExit) as error:  # a module may do anything while it is imported
            raise InputError(
                f"'{name}' cannot be imported ({reason(error)}); give module:Class of an installed package, or of a"
                " file beside the YAML"
            ) from error
        return self._fitting(Entry(name, factory, name))

    def _fitting(self, entry: Entry[T_co]) -> Entry[T_co]:
        wrong = None if self.base is object else misfit(entry.factory, self.base)
        if wrong is not None:
            raise InputError(f"'{entry.name}' is not one of the {self.kind}: {wrong}")
        return entry


def _is_bare_module(found: object) -> bool:
    """Tell whether an object is a torch module whose constructor did not call that of `torch.nn.Module`."""
    torch = sys.modules.get("torch")  # not imported here: light commands do not wait for it
    return torch is not None and isinstance(found, torch.nn.Module) and not hasattr(found, "training")
