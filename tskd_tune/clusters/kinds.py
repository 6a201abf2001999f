"""Recognizes cluster files of Ray, without Ray."""

from __future__ import annotations

from pathlib import Path

from tskd_tune import documents
from tskd_tune.errors import InputError


def is_cluster_file(path: Path) -> bool:
    """Tell whether a file is a cluster file of Ray and neither a sweep nor an experiment.

    A file that cannot be read is none; who reads it next says why.
    """
    if not path.is_file():
        return False
    try:
        keys = set(documents.read(path))
    except InputError:
        return False
    return "provider" in keys or "available_node_types" in keys
