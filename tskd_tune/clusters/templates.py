"""The templates of the package, and how a template is filled in.

A template is a valid file with placeholders ``YOUR-...``. A line that ends in ``# init: KEY`` gets the value of KEY,
and a line that ends in ``# only: FLAG`` stays only if FLAG is set.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1]
PLACEHOLDER: Final = re.compile(r"YOUR-[A-Z]+(?:-[A-Z]+)*")
AWS, LOCAL, SLURM = "cluster.yaml", "cluster.local.yaml", "cluster.slurm.sh"
_INIT = re.compile(r"^(?P<key>\s*[\w-]+: ).*?  # init: (?P<name>\w+)$")
_ONLY = re.compile(r"^(?P<line>.*?)  # only: (?P<flag>\w+)$")


def template(name: str) -> str:
    """Return the text of a template: in a wheel it is inside the package, in a clone beside the package."""
    inside = PACKAGE / "cluster_files" / name
    return (inside if inside.is_file() else PACKAGE.parent / name).read_text(encoding="utf-8")


def clone() -> Path | None:
    """Return the clone that the package runs from; None for an installed wheel."""
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None


def filled(text: str, values: Mapping[str, str], flags: Collection[str]) -> str:
    """Return a template with its placeholders and marked lines filled in.

    Args:
        text: the template.
        values: placeholder without ``YOUR-``, or name after ``# init:`` -> text. Other placeholders stay.
        flags: the flags whose lines stay.
    """
    return "\n".join(_lines(text, values, flags)) + "\n"


def placeholders(text: str) -> list[str]:
    """Return the placeholders that a text still has, each once."""
    return list(dict.fromkeys(PLACEHOLDER.findall(text)))


def _lines(text: str, values: Mapping[str, str], flags: Collection[str]) -> Iterator[str]:
    for line in text.splitlines():
        only = _ONLY.match(line)
        if only is not None:
            if only["flag"] not in flags:
                continue
            line = only["line"]  # noqa: PLW2901
        init = _INIT.match(line)
        if init is not None and init["name"] in values:
            line = f"{init['key']}{values[init['name']]}"  # noqa: PLW2901
        yield PLACEHOLDER.sub(lambda found: values.get(found[0].removeprefix("YOUR-"), found[0]), line)
