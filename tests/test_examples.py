"""The examples in docstrings give what they show; the front door and the extension points have at least one each."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import tskd_tune

# What an outsider builds on, and what the paper's equations are.
SHOWN = [
    "tskd_tune.api",
    "tskd_tune.distillers.base",
    "tskd_tune.method.extractors.base",
    "tskd_tune.method.extractors.conv_lstm",
    "tskd_tune.method.memory",
    "tskd_tune.method.plan",
    "tskd_tune.method.review",
    "tskd_tune.method.sequences",
    "tskd_tune.method.taps",
    "tskd_tune.method.transforms.attention",
    "tskd_tune.metrics",
    "tskd_tune.networks.base",
    "tskd_tune.registry",
    "tskd_tune.tasks.base",
]


def with_examples() -> list[str]:
    """Return the modules whose text has an example."""
    root = Path(tskd_tune.__file__).parent
    files = (path for path in sorted(root.rglob("*.py")) if ">>> " in path.read_text())
    return [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in files]


def test_what_others_build_on_has_examples() -> None:
    assert set(SHOWN) <= set(with_examples())


@pytest.mark.parametrize("name", with_examples())
def test_the_examples_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0 < tried
