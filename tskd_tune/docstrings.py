"""Reads the meaning of each argument from the docstring of a class or function, in Google style."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator

# The docstring of a dataclass explains arguments as attributes.
SECTION = re.compile(r"^(?:Args|Attributes):\n((?:[ \t]+\S.*\n?|\s*\n)*)", re.MULTILINE)
ARGUMENT = re.compile(r"^(\w+): (.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)


def meanings(factory: Callable[..., object]) -> dict[str, str]:
    """Return argument -> meaning on one line; the constructor's docstring takes precedence over the class's.

    Args:
        factory: a class, a dataclass or a function, with sections ``Args:`` or ``Attributes:``.
    """
    documented = [factory, factory.__init__] if inspect.isclass(factory) else [factory]
    return {name: meaning for part in documented for name, meaning in _arguments(inspect.getdoc(part) or "")}


def _arguments(text: str) -> Iterator[tuple[str, str]]:
    for section in SECTION.findall(text):
        for name, meaning in ARGUMENT.findall(textwrap.dedent(section)):
            yield name, " ".join(meaning.replace("``", "`").split()).removesuffix(".")
