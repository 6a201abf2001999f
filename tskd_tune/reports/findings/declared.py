"""The parts of a run's ``sweep.yaml`` that a report needs. Their form is checked, because the file may be damaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tskd_tune.errors import InputError, sentences

GRID = "grid"


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Compare(_Part):
    """Which arms a sweep compares with which, and how; None means not declared."""

    baseline: str | None = None
    pairs: list[Annotated[list[str], Field(min_length=2, max_length=2)]] | None = None
    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    controls: dict[str, str] | None = None
    added: list[list[int]] | None = None
    interim: list[int] | None = None


class DeclaredSearch(_Part):
    """The searcher of a sweep, and its objectives."""

    name: str = GRID
    metric: str | None = None
    mode: Literal["max", "min"] | None = None
    objectives: dict[str, Literal["max", "min"]] | None = None


class _Experiment(_Part):
    seed: int | None = None


class Declared(_Part):
    """The parts that a report needs of a resolved sweep, or of the resolved experiment of a single training."""

    search: DeclaredSearch | None = None
    compare: Compare | None = None
    experiment: _Experiment | None = None
    seeds: list[int] | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any], path: Path) -> Declared:
        """Read a resolved document.

        Args:
            document: the resolved sweep, or the resolved experiment of a single training.
            path: the document's file, for the message.

        Raises:
            InputError: a part that a report needs has a wrong form; the message names the first mistake.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InputError(f"{path}: {sentences(error)[0]}") from error

    @property
    def is_search(self) -> bool:
        """Whether the sweep is a search, which ranks its configurations, and not a grid."""
        return self.search is not None and self.search.name != GRID

    @property
    def comparing(self) -> Compare:
        """The comparisons that the sweep declares."""
        return self.compare or Compare()

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of every configuration."""
        return self.seeds or [1 if self.experiment is None or self.experiment.seed is None else self.experiment.seed]
