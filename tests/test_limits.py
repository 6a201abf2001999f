"""Limits that keep the package readable: the length of files and functions, untyped values, and names of one metric."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tskd_tune"
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in FILES}
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_ANY_A_THOUSAND = 350, 50, 8.0
# Any, and the names that stand for dict[str, Any].
UNTYPED = ("Any", "Document", "Saved")
# What may name the metric of classification.
OF_CLASSIFICATION = "tasks/classification.py"


def long_functions(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # A docstring explains each option of a component, however many there are.
            explained = len((ast.get_docstring(node, clean=False) or "").splitlines())
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - explained
            if lines > MOST_LINES_OF_A_FUNCTION:
                yield f"{node.name} has {lines} lines"


def count_of_any(source: str) -> int:
    """Count the uses of ``Any`` and of its aliases in code, without those in docstrings and comments."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type == tokenize.NAME and token.string in UNTYPED for token in tokens)


@pytest.mark.parametrize("file", SOURCES)
def test_a_file_is_short(file: str) -> None:
    lines = SOURCES[file].count("\n")
    assert lines <= MOST_LINES, f"{file} has {lines} lines; {MOST_LINES} are the most"


@pytest.mark.parametrize("file", SOURCES)
def test_functions_are_short(file: str) -> None:
    found = list(long_functions(SOURCES[file]))
    assert not found, found


@pytest.mark.parametrize("file", SOURCES)
def test_one_file_names_the_metric_of_classification(file: str) -> None:
    found = re.findall(r".*top_?1.*", SOURCES[file])
    assert not found or file == OF_CLASSIFICATION, found


def test_few_values_are_untyped() -> None:
    counts = {file: count_of_any(source) for file, source in SOURCES.items()}
    lines = sum(source.count("\n") for source in SOURCES.values())
    most = sorted(counts, key=lambda file: -counts[file])[:10]
    assert 1000 * sum(counts.values()) / lines < MOST_ANY_A_THOUSAND, {file: counts[file] for file in most}


def test_the_limits_are_seen() -> None:
    assert list(long_functions("def f():\n" + "    pass\n" * 50)) == ["f has 51 lines"]
    assert list(long_functions("class A:\n    def f(self):\n" + "        pass\n" * 49)) == []
    assert count_of_any("from typing import Any\n# Any\nx: dict[str, Any] = {}\n'Any'\n") == 2
    assert count_of_any("from tskd_tune.plain import Document\nx: Document = {}\ny: Saved = {}\n") == 3
