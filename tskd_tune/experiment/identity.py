"""Names a training by a digest of the options that affect its numbers, without the seed.

Rows, histories, checkpoints, students and W&B runs are named by this digest and the seed. A label or a trial's number
could refer to another training after an edit of the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic.fields import FieldInfo

from tskd_tune.experiment.schema import Experiment
from tskd_tune.outside import short_name
from tskd_tune.plain import Json
from tskd_tune.registry import NO_IDENTITY, Component, Options, WasDefault

LENGTH: Final = 12
VERSION: Final = 1
"""Raise this number if the same options come to mean another training."""


def identity(experiment: Experiment) -> str:
    """Return the digest of an experiment without its seed: twelve hexadecimal digits.

    Options at their default are left out, so a new option with a default renames no training. Where a default was
    changed, the first one is left out, which renames none either (`registry.WasDefault`). Options that change no number
    (`registry.NO_IDENTITY`: the preset's name, the device, the threads) are left out too. A user's own component is
    included by module and class, without the folder and the code, so a training is still found on resume after a
    correction of the code.

    >>> identity(Experiment.read({"task": "digits", "student": "resnet8", "review": None, "seed": 7}))
    'cc1ac256e078'
    """
    words = json.dumps({"version": VERSION, **essence(experiment)}, sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:LENGTH]


def essence(options: Options) -> dict[str, Json]:
    """Return the options that are not at their default and affect the numbers of a training, as plain data."""
    found: dict[str, Json] = {}
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if isinstance(options, Component) and name == "name":
            found[name] = short_name(options.name)
        elif not _is_aside(options, name, field) and not _is_default(field, value):
            found[field.alias or name] = _plain(value)
    return found


def _is_aside(options: Options, name: str, field: FieldInfo) -> bool:
    return NO_IDENTITY in field.metadata or (isinstance(options, Experiment) and name == "seed")


def _is_default(field: FieldInfo, value: object) -> bool:
    # Compared as plain data: the default group may differ in an option that changes no number.
    return not field.is_required() and _plain(value) == _plain(_first_default(field))


def _first_default(field: FieldInfo) -> object:
    """Return the default of an option when it came; of a group, the group with these defaults."""
    marks = [mark.value for mark in field.metadata if isinstance(mark, WasDefault)]
    default = field.get_default(call_default_factory=True)
    if marks or not isinstance(default, Options):
        return marks[0] if marks else default
    fields = type(default).model_fields.items()
    changed = {name for name, inner in fields if any(isinstance(mark, WasDefault) for mark in inner.metadata)}
    return default.model_copy(update={name: _first_default(type(default).model_fields[name]) for name in changed})


def _plain(value: object) -> Json:
    if isinstance(value, Options):
        return essence(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
