"""The folder of an outsider: components of their own, a file each, and the kit's tests of each."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put this folder on Python's path, as an outsider's package would be."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
