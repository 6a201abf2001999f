"""All private parts of W&B's packages that this package uses; a new version of W&B may change them.

``tests/test_private_names.py`` fails with a sentence for each name that another version lacks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import wandb_workspaces.reports.v2 as wr

NAMES: Final[Mapping[str, str]] = {
    "wandb_workspaces.reports.v2:Report._to_model": "gives the spec of a report, which is written beside the run",
    "wandb_workspaces.reports.v2:Runset._id": "names a set of runs by its place, as W&B's own names are random",
    "wandb_workspaces.reports.v2:LinePlot._id": "names a panel by its place, as W&B's own names are random",
}
"""``module:attribute`` -> what it is used for."""

# W&B's panels and run sets have no types.
Part: TypeAlias = Any


def spec(report: wr.Report) -> dict[str, Any]:
    """Return a report's spec, which is the object that W&B stores, as plain data."""
    plain: dict[str, Any] = json.loads(report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    return plain


def name(part: Part, word: str) -> None:
    """Name a panel or a run set of a report."""
    part._id = word
