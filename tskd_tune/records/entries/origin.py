"""The origin of a run: the name of its YAML file, and the question in the file's first comment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tskd_tune.records.entries.replicate import Replicate
from tskd_tune.records.storing.files import read_text
from tskd_tune.shipped import file_of

LONGEST_QUESTION = 400
# Comments for machines and lawyers, which contain no question.
_SENTENCE = re.compile(r".*?[.?](?=\s|$)")
NO_QUESTION = ("copyright", "spdx-", "license", "yaml-language-server", "vim:", "-*-", "!/")


@dataclass(frozen=True)
class Origin:
    """The name of the file that started a run, without the folder, and the file's question; None where unknown.

    ``replicate`` is the run's place among the replicates of a search; None for other runs.
    """

    file: str | None = None
    question: str | None = None
    replicate: Replicate | None = None

    @property
    def sentence(self) -> str:
        """The first sentence of the question; empty if the question is unknown."""
        text = self.question or ""
        found = _SENTENCE.match(text)
        return found[0] if found else text

    @classmethod
    def of(cls, path: Path) -> Origin:
        """Read a YAML's first comment; the path may be the name of a search space of the package.

        Raises:
            InputError: there is no such file.
            RunError: the file cannot be read.
        """
        file = file_of(path)
        return cls(file.name, question(read_text(file)))


def question(text: str) -> str | None:
    """Return the first paragraph of the comment at the beginning of a YAML file, as one line; None without one."""
    for paragraph in _paragraphs(text):
        words = " ".join(paragraph)
        if not any(mark in words.lower() for mark in NO_QUESTION):
            return words if len(words) <= LONGEST_QUESTION else f"{words[: LONGEST_QUESTION - 3].rstrip()}..."
    return None


def _paragraphs(text: str) -> list[list[str]]:
    """Return the lines of the comment at the beginning, grouped into paragraphs."""
    found: list[list[str]] = [[]]
    for line in map(str.strip, text.removeprefix("\ufeff").splitlines()):
        if line and line != "---" and not line.startswith(("#", "%")):
            break
        words = line.lstrip("#").strip() if line.startswith("#") else ""
        if words:
            found[-1].append(words)
        elif found[-1]:
            found.append([])
    return [paragraph for paragraph in found if paragraph]
