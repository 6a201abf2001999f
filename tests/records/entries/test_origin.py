"""The question of a file is the first paragraph of the comment that it begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tskd_tune.records.entries.origin import LONGEST_QUESTION, Origin, question
from tskd_tune.sweeps.declared.schema import Sweep


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Does it help?\n#\n#   tskd-tune sweep x.yaml\na: 1\n", "Does it help?"),
        ("\ufeff\n---\n#Does it\n# help?\n\n# more\na: 1", "Does it help?"),
        ("# Copyright 2026, me\n#\n# Does it help?\na: 1", "Does it help?"),
        ("# SPDX-License-Identifier: MIT\n\n# yaml-language-server: $schema=x.json\n# \n## Which k?\na: 1", "Which k?"),
        ("a: 1 # no question\n# nor here\n", None),
        ("", None),
        ("#\n#\na: 1", None),
    ],
)
def test_the_first_paragraph_asks(text: str, expected: str | None) -> None:
    assert question(text) == expected


def test_a_question_of_pages_is_cut() -> None:
    found = question("# " + "word " * 500)
    assert found is not None and len(found) <= LONGEST_QUESTION and found.endswith("...")


def test_an_origin_names_the_file_without_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# Why?\na: 1\n")
    assert Origin.of(path) == Origin("mine.yaml", "Why?")


def test_a_sweep_keeps_the_origin_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# Why?\nexperiment: {task: digits, student: resnet8, training: {epochs: 1}}\nsearch: grid\n")
    assert Sweep.load(path).origin == Origin("mine.yaml", "Why?")
    assert Sweep.read(Sweep.load(path).plain()).origin == Origin()


def test_a_search_space_of_the_package_asks_too_when_it_is_run_by_name() -> None:
    found = Sweep.load(Path("digits")).origin
    assert found.file == "digits.yaml" and found.question is not None
    assert found.question.startswith("Does reviewing help a small student?")
