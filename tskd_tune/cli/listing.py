"""The ``list`` command: the components that a YAML can name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from tskd_tune.cli.terminal import put_json, say, show
from tskd_tune.distillers import DISTILLERS
from tskd_tune.method.extractors import EXTRACTORS
from tskd_tune.method.transforms import TRANSFORMS
from tskd_tune.networks import NETWORKS
from tskd_tune.registry import Registry
from tskd_tune.sweep.search import SCHEDULERS, SEARCHERS
from tskd_tune.tasks import TASKS
from tskd_tune.teaching import TEACHER_METHODS

REGISTRIES: Mapping[str, Registry[Any]] = {
    registry.kind: registry
    for registry in (
        DISTILLERS,
        NETWORKS,
        TASKS,
        TEACHER_METHODS,
        TRANSFORMS,
        EXTRACTORS,
        SEARCHERS,
        SCHEDULERS,
    )
}


def list_components(kind: str | None, *, as_json: bool) -> None:
    """Show the components of a kind with their options, or the names of all kinds."""
    if kind is None:
        _list_names(as_json=as_json)
        return
    described = REGISTRIES[kind].describe()
    if as_json:
        put_json(described)
        return
    show(_table(kind, described))


def _list_names(*, as_json: bool) -> None:
    names = {kind: registry.names() for kind, registry in REGISTRIES.items()}
    if as_json:
        put_json(names)
        return
    for kind, known in names.items():
        say(f"{kind}: {', '.join(known)}")


def _table(kind: str, described: list[dict[str, Any]]) -> Table:
    table = Table("name", "options", "source", title=kind, title_justify="left")
    for entry in described:
        needs = f"\nneeds {', '.join(entry['needs'])}" if entry["needs"] else ""
        table.add_row(*map(Text, (entry["name"], _options(entry["options"]), entry["source"] + needs)))
    return table


def _options(options: Mapping[str, Mapping[str, Any]]) -> str:
    return "\n".join(
        f"{name} (required)" if option["required"] else f"{name}: {_value(option['default'])}"
        for name, option in options.items()
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
