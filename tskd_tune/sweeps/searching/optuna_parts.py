"""Makes samplers, pruners and their parts by the name of Optuna's class, with options checked against its signature.

Classes also come from OptunaHub (``hub: samplers/auto_sampler``), from optuna-integration (BoTorch), and from a user's
own module (``module:Class``). Optuna is imported only when a part is made.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, cast

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from tskd_tune import outside
from tskd_tune.errors import InputError, TskdTuneError, did_you_mean, reason, sentences, shown
from tskd_tune.kinds import misfit
from tskd_tune.paths import Written, whole
from tskd_tune.plain import Document
from tskd_tune.sweeps.searching import hub

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

Base = Literal["BaseSampler", "BasePruner", "BaseMutation", "BaseCrossover"]
Factory: TypeAlias = Callable[..., object]

# The module of Optuna that has the classes with each base class.
MODULES: Final[Mapping[Base, str]] = {
    "BaseSampler": "optuna.samplers",
    "BasePruner": "optuna.pruners",
    "BaseMutation": "optuna.samplers.nsgaii",
    "BaseCrossover": "optuna.samplers.nsgaii",
}
# The class -> why it is of no use here, and what to write instead.
UNFIT: Final[Mapping[str, str]] = {
    "GridSampler": "needs the grid itself, and repeats points after the last one; use search: {name: grid}",
    "PartialFixedSampler": "fixes some search parameters; write their values in the experiment instead",
    "NopPruner": "stops no trial; use scheduler: fifo",
}
# A class that is not in Optuna itself -> its module, and what to install.
INTEGRATED: Final[Mapping[str, tuple[str, str]]] = {
    "BoTorchSampler": ("optuna_integration", "'optuna-integration[botorch]'"),
    "PyCmaSampler": ("optuna_integration", "'optuna-integration' cma"),
}
# A package -> what to install for it, where the name of the package is not enough.
INSTALL: Final[Mapping[str, str]] = {"cmaes": "'tskd-tune[samplers]'", "optunahub": "'tskd-tune[samplers]'"}
# The words of annotations that are checked; the class itself checks values with other annotations.
WORDS: Final[Mapping[str, type[object]]] = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}
STRICT: Final = ConfigDict(strict=True)


def located(value: object) -> object:
    """Make the folders of modules and registries absolute, while the file of the text is known."""
    if isinstance(value, str):
        return outside.whole_name(value)
    if not isinstance(value, Mapping):
        return value
    found: Document = {}
    for key, inner in value.items():
        if key == "name" and isinstance(inner, str):
            found[key] = outside.whole_name(inner)
        elif key == "registry" and isinstance(inner, str) and "hub" in value:
            found[key] = whole(inner)
        elif isinstance(inner, Mapping):
            found[key] = located(inner)
        else:
            found[key] = str(inner) if isinstance(inner, Written) else inner
    return found


Given: TypeAlias = Annotated[str | Document, BeforeValidator(located)]
"""The name of a class, or a mapping with ``name`` or ``hub`` and the options of the class."""


@dataclass(frozen=True)
class Part:
    """A class of a sampler, a pruner or a part of one, and the options that the user gave.

    Attributes:
        name: the name for messages.
        factory: the class.
        options: the options by name, as given.
        where: the key of the sweep's file.
    """

    name: str
    factory: Factory
    options: Mapping[str, object]
    where: str

    def takes(self, option: str) -> bool:
        """Tell whether the constructor has an option, or takes any."""
        parameters = inspect.signature(self.factory).parameters
        return option in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())

    def make(self, **set_here: object) -> object:
        """Return a new object with the user's options; options of ``set_here`` that the class lacks are left out.

        Raises:
            InputError: an option is unknown or wrong, or another package is needed.
        """
        given = {key: self._option(key, value) for key, value in self.options.items()}
        more = {key: value for key, value in set_here.items() if key not in given and self.takes(key)}
        with self.named("cannot be built with these options"):
            return self.factory(**given, **more)

    @contextmanager
    def named(self, what: str, kind: type[TskdTuneError] = InputError) -> Iterator[None]:
        """Raise any error of the class as an error that names the class; hide warnings of new interfaces."""
        from optuna.exceptions import ExperimentalWarning

        try:
            with warnings.catch_warnings():
                # Optuna warns that some interfaces may change. This package limits Optuna's version.
                warnings.simplefilter("ignore", ExperimentalWarning)
                yield
        except TskdTuneError:
            raise
        except ImportError as error:
            raise kind(f"{self.where}: '{self.name}' {_lacking(error)}") from error
        except Exception as error:  # the code of a plug-in may raise anything
            raise kind(f"{self.where}: '{self.name}' {what} ({reason(error)})") from error

    def _option(self, key: str, value: object) -> object:
        parameters = inspect.signature(self.factory).parameters
        where = f"{self.where}.{key}"
        if key == "seed":
            raise InputError(f"{where}: the seed of a sampler is search.seed; give the number there")
        if not self.takes(key):
            known = [name for name in parameters if name != "seed"]
            raise InputError(f"{where}: '{self.name}' has no option '{key}'{did_you_mean(key, known)}")
        if key not in parameters:
            return value
        hint = parameters[key].annotation
        hint = hint if isinstance(hint, str) else inspect.formatannotation(hint)
        base = next((base for base in MODULES if base in hint and "Callable" not in hint), None)
        if base is not None and value is not None:
            return part_of(value, base, where).make()
        return _checked(hint, value, where)


def part_of(given: object, base: Base, where: str) -> Part:
    """Find the class that a name or a mapping gives.

    Args:
        given: the name, or a mapping with ``name`` or ``hub`` and the options.
        base: the base class, by name.
        where: the key of the sweep's file.

    Raises:
        InputError: there is no such class, it is of no use here, or another package is needed.
    """
    options: Mapping[str, object] = {"name": given} if isinstance(given, str) else cast("Document", given)
    if not isinstance(options, Mapping) or not isinstance(options.get("hub", options.get("name")), str):
        raise InputError(f"{where}: must be a name, or a mapping with a 'name' or a 'hub', got {shown(given)}")
    if "hub" in options:
        own = {key: value for key, value in options.items() if key not in hub.KEYS}
        found = Part(str(options["hub"]), object, own, where)
        with found.named("of OptunaHub cannot be loaded"):
            return Part(found.name, hub.load(options, parent_of(base), where), own, where)
    name = str(options["name"])
    own = {key: value for key, value in options.items() if key != "name"}
    return Part(outside.short_name(name), _class(name, base, where), own, where)


def sampler_of(part: Part, seed: int) -> BaseSampler:
    """Return a new sampler with a seed, which logs nothing about parameters that it draws independently.

    Raises:
        InputError: an option is unknown or wrong, or another package is needed.
    """
    quiet = {} if part.name == "TPESampler" else {"warn_independent_sampling": False}
    named = {key: value for key, value in quiet.items() if key in inspect.signature(part.factory).parameters}
    return cast("BaseSampler", _fitting(part, part.make(seed=seed, **named), "BaseSampler"))


def pruner_of(part: Part, **set_here: object) -> BasePruner:
    """Return a new pruner; options of ``set_here`` hold where the user gave none.

    Raises:
        InputError: an option is unknown or wrong.
    """
    return cast("BasePruner", _fitting(part, part.make(**set_here), "BasePruner"))


def parent_of(base: Base) -> type[object]:
    """Return a base class of Optuna by name."""
    return cast("type[object]", getattr(importlib.import_module(MODULES[base]), base))


def classes(base: Base) -> dict[str, type[object]]:
    """Return Optuna's own classes of a kind by name, without abstract classes and those of no use here."""
    module, parent = importlib.import_module(MODULES[base]), parent_of(base)
    found = {name: getattr(module, name) for name in module.__all__ if not name.startswith("Base")}
    return {
        name: one
        for name, one in found.items()
        if inspect.isclass(one) and issubclass(one, parent) and name not in UNFIT
    }


def _class(name: str, base: Base, where: str) -> Factory:
    if ":" in name:
        return _imported(name, base, where)
    if name in UNFIT:
        raise InputError(f"{where}: '{name}' {UNFIT[name]}")
    if name == "BruteForceSampler":
        return _enumerating()
    known = classes(base)
    if name in known:
        return known[name]
    if name not in INTEGRATED or base != "BaseSampler":
        usable, kind = [*known, *(INTEGRATED if base == "BaseSampler" else {})], base.removeprefix("Base")
        near = did_you_mean(name if name.endswith(kind) else f"{name}{kind}", usable)
        raise InputError(f"{where}: '{name[:100]}' is no class of {MODULES[base]}{near}")
    module, install = INTEGRATED[name]
    try:
        return cast("Factory", getattr(importlib.import_module(module), name))
    except ImportError as error:
        raise InputError(f"{where}: '{name}' needs other packages ({error}): pip install {install}") from error


def _imported(name: str, base: Base, where: str) -> Factory:
    short, kind = outside.short_name(name), base.removeprefix("Base").lower()
    try:
        found = outside.load(name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:  # a module may do anything while it is imported
        raise InputError(f"{where}: '{short}' cannot be imported ({reason(error)})") from error
    if (wrong := misfit(found, parent_of(base))) is not None:
        raise InputError(f"{where}: '{short}' is no {kind} of Optuna: {wrong}")
    return cast("Factory", found)


def _enumerating() -> Factory:
    from optuna.samplers import BruteForceSampler

    class Enumerating(BruteForceSampler):
        """Does not end the study after the last point: a search ends by itself, and Optuna would raise an error."""

        def after_trial(self, *args: object) -> None:
            pass

    return Enumerating


def _fitting(part: Part, found: object, base: Base) -> object:
    if isinstance(found, parent_of(base)):
        return found
    kind = base.removeprefix("Base").lower()
    raise InputError(f"{part.where}: '{part.name}' gave a {type(found).__name__}, but must give a {kind} of Optuna")


def _checked(hint: str, value: object, where: str) -> object:
    """Check a value against an annotation, as far as its words are known."""
    if value is not None and any(word in hint for word in ("Callable", "FrozenTrial", "ndarray")):
        raise InputError(
            f"{where}: needs an object of Python, which a YAML file cannot hold; leave the option out, or write a class"
            " of your own and name it as module:Class"
        )
    words = [word.strip() for word in hint.split("|")]
    if not all(word in WORDS for word in words):
        return value
    wrong = None
    for word in words:
        try:
            return TypeAdapter(WORDS[word], config=STRICT).validate_python(value)
        except ValidationError as error:
            wrong = wrong or error
    assert wrong is not None
    raise InputError(f"{where}: {sentences(wrong)[0]}") from wrong


def _lacking(error: ImportError) -> str:
    """Say which package is needed; Optuna raises an error of its own where a package is lacking."""
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "name", None) is None:
        cause = cause.__cause__ or cause.__context__
    name = str(getattr(cause, "name", "")).partition(".")[0]
    if not name:
        return f"cannot be imported ({reason(error)})"
    return f"needs the package '{name}', which is not installed: pip install {INSTALL.get(name, name)}"
