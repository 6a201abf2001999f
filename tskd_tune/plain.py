"""Types of plain data: values that JSON and YAML can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""A value of JSON or YAML, for reading only."""

Document: TypeAlias = dict[str, Any]
"""A mapping of JSON or YAML as a parser returns it, before a model has checked its keys and values.

Use it where data enter or leave the program. Between functions, pass a record.
"""
