"""The ``list`` command: the components that a YAML file can name, and the meaning of each option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from tskd_tune.callbacks import CALLBACKS
from tskd_tune.cli.preparing.options import REQUIRED, Option, options_of
from tskd_tune.cli.terminal import console, put_json, say, show
from tskd_tune.distillers import DISTILLERS
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.experiment.descent import RateOptions
from tskd_tune.experiment.networks import Student, Teacher
from tskd_tune.experiment.review import Extractor
from tskd_tune.method.extractors import EXTRACTORS
from tskd_tune.method.transforms import TRANSFORMS
from tskd_tune.networks import NETWORKS
from tskd_tune.outside import whole_name
from tskd_tune.registry import Component, Described, Entry, Registry
from tskd_tune.signatures import DescribedOption
from tskd_tune.studies import STUDIES
from tskd_tune.sweeps.scheduling.schedulers import SCHEDULERS
from tskd_tune.sweeps.searching.objectives import Search
from tskd_tune.sweeps.searching.search import SEARCHERS
from tskd_tune.tasks import TASKS
from tskd_tune.teaching import TEACHER_METHODS
from tskd_tune.training.observers import OBSERVERS
from tskd_tune.training.optimizers import OPTIMIZERS
from tskd_tune.training.rates import RATE_SCHEDULES

REGISTRIES: Mapping[str, Registry[object]] = {
    registry.kind: registry
    for registry in (
        DISTILLERS,
        NETWORKS,
        TASKS,
        TEACHER_METHODS,
        TRANSFORMS,
        EXTRACTORS,
        OBSERVERS,
        OPTIMIZERS,
        RATE_SCHEDULES,
        SEARCHERS,
        SCHEDULERS,
        CALLBACKS,
        STUDIES,
    )
}
# Kind -> heading -> the options that a component also has where it is used, such as a network used as a student.
SLOTS: Mapping[str, Mapping[str, type[Component]]] = {
    "networks": {"options as a student": Student, "options as a teacher": Teacher},
    "extractors": {"options of every extractor": Extractor},
    "rate_schedules": {"options of every schedule": RateOptions},
    "searchers": {"options of every searcher": Search},
}
OWN = "options"


def list_components(kind: str | None, name: str | None, *, as_json: bool) -> None:
    """Explain a component, or list the components of a kind with their options, or list all kinds.

    Raises:
        InputError: there is no such kind, or no such component.
    """
    if kind is None:
        _list_names(as_json=as_json)
        return
    registry = _registry(kind)
    if name is not None:
        _explain(registry, registry.entry(whole_name(name)), as_json=as_json)
    elif as_json:
        put_json(registry.describe())
    else:
        show(_table(kind, registry.describe()))
        say(f"what an option means, and which values it takes: tskd-tune list {kind} NAME")


def explained(registry: Registry[object], name: str) -> dict[str, list[Option]]:
    """Return heading -> options of a component: its own options, and those of the places where it is used."""
    groups = {OWN: options_of(registry.options(name))}
    slots = SLOTS.get(registry.kind, {})
    return groups | {title: options_of(base) for title, base in slots.items()}


def _registry(kind: str) -> Registry[object]:
    if kind in REGISTRIES:
        return REGISTRIES[kind]
    holding = [other for other, registry in REGISTRIES.items() if kind in registry.names()]
    if holding:
        raise InputError(f"list: '{kind}' is one of the {holding[0]}; run `tskd-tune list {holding[0]} {kind}`")
    raise InputError(f"list: there is no kind '{kind}'{did_you_mean(kind, REGISTRIES)}")


def _list_names(*, as_json: bool) -> None:
    names = {kind: registry.names() for kind, registry in REGISTRIES.items()}
    if as_json:
        put_json(names)
        return
    for kind, known in names.items():
        say(f"{kind}: {', '.join(known)}")
    say("their options: tskd-tune list KIND; what an option means: tskd-tune list KIND NAME")


def _explain(registry: Registry[object], entry: Entry[object], *, as_json: bool) -> None:
    groups = explained(registry, entry.name)
    if as_json:
        facts = {"kind": registry.kind, "name": entry.name, "summary": entry.summary, "source": entry.source}
        listed = {title: [option.plain() for option in group] for title, group in groups.items()}
        put_json({**facts, "needs": entry.needs, **listed})
        return
    say(f"{entry.name}, one of the {registry.kind}: {entry.summary}")
    say(f"source: {entry.source}")
    if entry.needs:
        say(f"needs: {', '.join(entry.needs)}")
    for title, group in groups.items():
        _show_options(title, group)


def _show_options(title: str, options: list[Option]) -> None:
    if not options:
        say(f"{title}: none")
    elif console().is_terminal:
        table = Table("option", "meaning", "values", "default", title=title, title_justify="left", show_lines=True)
        for option in options:
            table.add_row(*map(Text, (option.key, option.meaning, option.values, option.default)))
        show(table)
    else:
        say(f"{title}:")
        for option in options:
            default = REQUIRED if option.default == REQUIRED else f"default: {option.default}"
            say(f"  {option.key}: {option.meaning} ({option.values}; {default})")


def _table(kind: str, described: Sequence[Described]) -> Table:
    table = Table("name", "options", "source", title=kind, title_justify="left")
    for entry in described:
        needs = f"\nneeds {', '.join(entry['needs'])}" if entry["needs"] else ""
        table.add_row(*map(Text, (entry["name"], _options(entry["options"]), entry["source"] + needs)))
    return table


def _options(options: Mapping[str, DescribedOption]) -> str:
    return "\n".join(
        f"{name} (required)" if option["required"] else f"{name}: {_value(option['default'])}"
        for name, option in options.items()
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
