"""What the docstring of a class or function says of each of its arguments, in the style of Google."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator

# A dataclass explains its arguments as its attributes.
SECTION = re.compile(r"^(?:Args|Attributes):\n((?:[ \t]+\S.*\n?|\s*\n)*)", re.MULTILINE)
ARGUMENT = re.compile(r"^(\w+): (.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)


def meanings(factory: Callable[..., object]) -> dict[str, str]:
    """Return argument -> its meaning on one line; what a constructor says stands above what its class says.

    Args:
        factory: a class, a dataclass or a function, with sections ``Args:`` or ``Attributes:``.
    """
    documented = [factory, factory.__init__] if inspect.isclass(factory) else [factory]
    return {name: meaning for part in documented for name, meaning in _arguments(inspect.getdoc(part) or "")}


def _arguments(text: str) -> Iterator[tuple[str, str]]:
    for section in SECTION.findall(text):
        for name, meaning in ARGUMENT.findall(textwrap.dedent(section)):
            yield name, " ".join(meaning.replace("``", "`").split()).removesuffix(".")
