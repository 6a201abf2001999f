"""A name -> a factory whose keyword-only parameters are its options.

A component is a plain class or function. Its positional parameters are run-time things that a builder
supplies; its keyword-only parameters are what a user may set. From these a registry derives a frozen
Pydantic model, so that a name, its options, their defaults, bounds and error messages stand in one place.
What an option means is read off the docstring's ``Args:``.
A trailing underscore, needed where an option is a word of Python, is dropped in YAML: ``lambda_`` is ``lambda``.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from tskd_tune import outside
from tskd_tune.docstrings import meanings
from tskd_tune.errors import InputError, TskdTuneError, did_you_mean, reason, shown
from tskd_tune.kinds import misfit

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M", bound="Derived")
C = TypeVar("C", bound="Component")
ENTRY_POINT_GROUP = "tskd_tune"
# What the JSON Schema of a component says of it in a comment, before the kind.
ONE_OF = "one of the "


class NoIdentity:
    """Marks an option that changes no number of a training, such as the device: ``Annotated[str, NO_IDENTITY]``."""


NO_IDENTITY: Final = NoIdentity()


class Options(BaseModel):
    """A frozen, strict group of options: unknown keys are refused with the nearest known one."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        alias_generator=lambda name: name.removesuffix("_"),
        allow_inf_nan=False,
        validate_default=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            unknown = [key for key in value if key not in known and key not in cls.model_fields]
            if unknown:
                raise ValueError(f"unknown key '{unknown[0]}'{cls._hint(str(unknown[0]), known)}")
        return value

    @classmethod
    def _hint(cls, key: str, known: set[str]) -> str:
        """Say what an unknown key may have been meant to be."""
        return did_you_mean(key, known)

    def plain(self) -> dict[str, Any]:
        """Return the options as plain data, with the names and the order of the YAML."""
        return self.model_dump(mode="json", by_alias=True, serialize_as_any=True)


class Derived(Options):
    """Options that were derived from the signature of a factory."""

    derived: ClassVar[frozenset[str]] = frozenset()

    def options(self) -> dict[str, Any]:
        """Return the factory's own options, by parameter name, without those of the slot it stands in."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.derived}


class Component(Derived):
    """A component by name, with its options; the base of every model that a registry derives."""

    name: str


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered component: its factory and the source of its method."""

    name: str
    factory: Callable[..., T]
    source: str

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring; empty without one."""
        return _first_line(self.factory)

    @property
    def needs(self) -> list[str]:
        """What the component asks of the networks and the task, sorted; empty if it asks nothing."""
        return sorted(str(need) for need in getattr(self.factory, "needs", ()))


class Registry(Generic[T]):
    """The components of one kind, by name; outsiders' by entry point or as ``module:Class``.

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

    opened: ClassVar[list[Registry[Any]]] = []

    def __init__(self, kind: str, base: Any = object) -> None:
        """Open a registry.

        Args:
            kind: its plural name (``distillers``), used in messages and entry points.
            base: what its components are; see `tskd_tune.kinds.misfit`.
        """
        self.kind = kind
        self.base = base
        self._entries: dict[str, Entry[T]] = {}
        self.opened.append(self)

    def register(self, name: str, *, source: str) -> Callable[[F], F]:
        """Register the decorated factory under ``name``; ``source`` is its paper, equation or code."""

        def add(factory: F) -> F:
            if name in self._entries:
                raise InputError(f"{self.kind}: the name '{name}' is already taken")
            self._entries[name] = Entry(name, factory, source)
            return factory

        return add

    def __iter__(self) -> Iterator[Entry[T]]:
        """Iterate over the entries in the order of registration, installed entry points last."""
        return iter([*self._entries.values(), *map(self._installed, self._points().values())])

    def names(self) -> list[str]:
        """Return every known name."""
        return [*self._entries, *self._points()]

    def entry(self, name: str) -> Entry[T]:
        """Return the entry of a name.

        Raises:
            InputError: nothing has this name, or ``package.module:Class`` cannot be imported.
        """
        if ":" in name:
            return self._imported(name)
        if name in self._entries:
            return self._entries[name]
        if name in (points := self._points()):
            return self._installed(points[name])
        raise InputError(f"'{name[:100]}' is not among the {self.kind}{self._elsewhere(name)}")

    def options(self, name: str, slot: type[Component] = Component) -> type[Component]:
        """Return the model of a component's options, extended by those of the slot that it stands in."""
        return _options_model(self.entry(name).factory, name, slot)

    def default(self, name: str, slot: type[C] = Component) -> Callable[[], C]:  # type: ignore[assignment]
        """Return what makes a component with the default of every option; for use as a field's default factory."""
        return lambda: cast("C", self.options(name, slot).model_validate({"name": name}))

    def build(self, name: str, *runtime: Any, **options: Any) -> T:
        """Build a component from run-time arguments and options, which are validated.

        Keyword arguments that are not options are run-time arguments given by name.
        """
        model = self.options(name)
        known = {key for field, info in model.model_fields.items() for key in (field, info.alias)}
        named = {key: options.pop(key) for key in list(options) if self._is_runtime(name, key, known)}
        return self._made(name, runtime, {**named, **model(name=name, **options).options()})

    def make(self, component: Component, *runtime: Any, **named: Any) -> T:
        """Build a component from its validated options."""
        return self._made(component.name, runtime, {**named, **component.options()})

    def slot(self, base: type[Component] = Component, *, without: str | None = None) -> Slot:
        """Return what makes a field hold a component of this registry: ``Annotated[Component, NETWORKS.slot()]``.

        ``without`` is a name that may not stand there: that of a component that holds others of its kind.
        """
        return Slot(self, base, without)

    def describe(self) -> list[dict[str, Any]]:
        """Return ``{name, source, options, needs}`` of every component, each option with its meaning, as plain data."""
        return [
            {
                "name": entry.name,
                "source": entry.source,
                "options": _option_defaults(self.options(entry.name)),
                "needs": entry.needs,
            }
            for entry in self
        ]

    def _is_runtime(self, name: str, key: str, known: set[str | None]) -> bool:
        parameters = inspect.signature(self.entry(name).factory).parameters
        return key in parameters and key not in known

    def _made(self, name: str, runtime: Sequence[Any], options: Mapping[str, Any]) -> T:
        """Call a factory; what another's code raises becomes a sentence, and so does what is no component."""
        try:
            found: T = self.entry(name).factory(*runtime, **options)
        except (TskdTuneError, ValidationError):
            raise
        except Exception as error:
            raise InputError(
                f"{self._word}: '{name}' cannot be built with these options ({reason(error)}); correct its options or"
                " its code"
            ) from error
        if inspect.isclass(self.base) and not isinstance(found, self.base):
            raise InputError(
                f"{self._word}: '{name}' gave a {type(found).__name__}, but must give a {self.base.__name__}"
            )
        return found

    @property
    def _word(self) -> str:
        return self.kind.removesuffix("s")

    def _elsewhere(self, name: str) -> str:
        """Say what stands under an unknown name in another registry, or which known name is near."""
        others = [registry.kind for registry in self.opened if registry is not self and name in registry.names()]
        return f"; it is one of the {others[0]}" if others else did_you_mean(name, self.names())

    def _points(self) -> dict[str, EntryPoint]:
        prefix = f"{self.kind}."
        points = entry_points(group=ENTRY_POINT_GROUP)
        return {point.name.removeprefix(prefix): point for point in points if point.name.startswith(prefix)}

    def _installed(self, point: EntryPoint) -> Entry[T]:
        name = point.name.removeprefix(f"{self.kind}.")
        try:
            factory = point.load()
        except (Exception, SystemExit) as error:  # an installed package may fail in any way
            raise InputError(
                f"'{name}' of the installed package's entry point {point.value} cannot be imported ({reason(error)});"
                " repair or remove that package"
            ) from error
        return self._fitting(Entry(name, factory, point.value))

    def _imported(self, name: str) -> Entry[T]:
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

    def _fitting(self, entry: Entry[T]) -> Entry[T]:
        wrong = None if self.base is object else misfit(entry.factory, self.base)
        if wrong is not None:
            raise InputError(f"'{entry.name}' is not one of the {self.kind}: {wrong}")
        return entry


class Slot:
    """Tells Pydantic how to read a component of a registry, and to describe it in JSON Schema."""

    def __init__(self, registry: Registry[Any], base: type[Component], without: str | None) -> None:
        """Hold components of ``registry``, but the one ``without``, with the slot's own options, those of ``base``."""
        self.registry = registry
        self.base = base
        self.without = without

    def parse(self, value: Any) -> Component:
        """Read a name, a mapping with a name, or a component that was already read."""
        if isinstance(value, self.base):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ValueError(f"must be a mapping with a 'name' out of the {self.registry.kind}, got {shown(value)}")
        if value["name"] == self.without:
            raise ValueError(f"'{self.without}' may not stand within another; put its parts here instead")
        name = outside.whole_name(value["name"])
        return self.registry.options(name, self.base).model_validate({**value, "name": name})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read with ``parse``, write as plain data."""
        plain = core_schema.plain_serializer_function_ser_schema(lambda component: component.plain())
        return core_schema.no_info_plain_validator_function(self.parse, serialization=plain)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe one mapping a registered name, the name alone, and what another package may bring."""
        names = [name for name in self.registry.names() if name != self.without]
        models = [self.registry.options(name, self.base) for name in names]
        union: Any = typing.Union[tuple(models)]  # noqa: UP007 (made from a list that is known at run time only)
        imported = {"type": "string", "pattern": ":"}
        # Said without `required`, which a search space drops: it has a name, and the name is an imported one.
        outsider = {"type": "object", "not": {"properties": {"name": {"not": imported}}}}
        forms = [handler(TypeAdapter(union).core_schema), {"enum": names}, imported, outsider]
        return {"$comment": f"{ONE_OF}{self.registry.kind}", "anyOf": forms}


class Group:
    """Tells Pydantic to read a group of options off the signature of one factory, which has no rivals."""

    def __init__(self, factory: Callable[..., Any]) -> None:
        """Derive the group from the keyword-only parameters of ``factory``."""
        self.model = _derived_model(factory, factory.__name__, Derived, {})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read and write as the derived model."""
        return handler.generate_schema(self.model)


@cache
def _options_model(factory: Callable[..., Any], name: str, slot: type[Component]) -> type[Component]:
    known = Field(name, description=_first_line(factory) or f"the component {name}")
    try:
        return _derived_model(factory, name, slot, {"name": (Literal[name], known)})
    except Exception as error:  # annotations may be any text
        raise InputError(
            f"'{name}': its options cannot be read from its signature ({reason(error)}); annotate each keyword-only"
            " parameter with a type that Pydantic knows"
        ) from error


def _derived_model(factory: Callable[..., Any], name: str, base: type[M], fields: dict[str, Any]) -> type[M]:
    hints, explained = _hints(factory), meanings(factory)
    own: dict[str, Any] = {}
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            if parameter.name not in hints:
                raise TypeError(f"the parameter '{parameter.name}' has no annotation")
            known = parameter.name in explained  # else the description may stand in the annotation
            described = Field(default, description=explained[parameter.name]) if known else Field(default)
            own[parameter.name] = (hints[parameter.name], described)
    model = create_model(_title(name), __base__=base, __doc__=_first_line(factory) or name, **fields, **own)
    model.derived = frozenset(own)
    return model


def _first_line(factory: Callable[..., Any]) -> str:
    return (inspect.getdoc(factory) or "").partition("\n")[0]


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    # Read where the function stands: a constructor may be inherited from another module.
    function = factory.__init__ if inspect.isclass(factory) else factory
    return typing.get_type_hints(function, include_extras=True)


def _title(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[\W_]+", name))


def _option_defaults(model: type[Component]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    return {
        key: {
            "description": value.get("description", ""),
            "default": value.get("default"),
            "required": key in schema.get("required", ()),
        }
        for key, value in schema["properties"].items()
        if key != "name"
    }
