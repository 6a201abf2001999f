"""What a report reads of a run's ``sweep.yaml``: its form is checked, since the file may be damaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tskd_tune.errors import InputError, sentences


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Compare(_Part):
    baseline: str | None = None
    pairs: list[Annotated[list[str], Field(min_length=2, max_length=2)]] | None = None
    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    controls: dict[str, str] | None = None
    added: list[list[int]] | None = None
    looks: list[int] | None = None


class _Search(_Part):
    name: str = "grid"
    metric: str | None = None
    mode: str | None = None


class _Sweep(_Part):
    search: _Search | None = None
    compare: _Compare | None = None
    experiment: dict[str, Any] | None = None
    seeds: list[Any] | None = None


def require_form(document: Mapping[str, Any], path: Path) -> None:
    """Refuse a document whose parts cannot be those of a sweep.

    Args:
        document: the resolved sweep, or the resolved experiment of a single training.
        path: its file, for the message.

    Raises:
        InputError: a part that a report reads is of another form; the first mistake is named.
    """
    try:
        _Sweep.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{path}: {sentences(error)[0]}") from error
