"""The findings of a run as plain data, which ``report --json`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import singledispatch

from tskd_tune.plain import Json
from tskd_tune.records.entries.row import Record
from tskd_tune.reports.findings.comparison import Verdicts
from tskd_tune.reports.findings.head import TrainedTask
from tskd_tune.reports.findings.records import ArmFindings
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.judge.contrasts import Contrast


def as_json(found: Findings) -> dict[str, Json]:
    """Return all findings of a run as plain data, without the rows."""
    return _fields(found, without=("rows",))


@singledispatch
def plain(value: object) -> Json:
    """Return a record, or a collection of records, as plain data. A name loses its trailing underscore."""
    if is_dataclass(value):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if isinstance(value, Sequence):
        return [plain(each) for each in value]
    raise TypeError(f"{type(value).__name__} is no plain data")


@plain.register
def _record(value: Record) -> Json:
    return value.plain()


@plain.register
def _contrast(value: Contrast) -> Json:
    # With one teacher there is nothing to say of several.
    return _fields(value, without=() if value.teachers else ("teachers",)) | {"p": value.p}


@plain.register
def _task(value: TrainedTask) -> Json:
    return {"name": value.name, **(value.data.plain() if value.data else {})}


@plain.register
def _verdicts(value: Verdicts) -> Json:
    return _fields(value.family) | _fields(value, without=("family",))


@plain.register
def _arm(value: ArmFindings) -> Json:
    """Merge the headline into the facts of the arm."""
    found: dict[str, Json] = {}
    for name, each in _fields(value, without=("rows", "beyond")).items():
        found |= _fields(value.headline) if name == "headline" else {name: each}
    return found | {"statistics": _fields(value.statistics) | {"beyond": value.beyond}}


def _fields(record: object, without: Sequence[str] = ()) -> dict[str, Json]:
    if not is_dataclass(record):
        raise TypeError(f"{type(record).__name__} is no record")
    names = [each.name for each in fields(record) if each.name not in without]
    return {name.removesuffix("_"): plain(getattr(record, name)) for name in names}
