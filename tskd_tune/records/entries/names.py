"""Checks a run's name, which is also a folder, a W&B group and a word on the command line, and names in records."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from tskd_tune.errors import InputError, shown

# Names of folders have at most 255 bytes; Ray Tune, W&B and temporary files append text of their own.
MOST_BYTES = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _in_its_folder(name: str) -> str:
    if "/" in name or "\0" in name or name in (".", ".."):
        raise ValueError(f"{shown(name)} names files of the run, so it must not lead to another folder")
    return name


FileName = Annotated[str, AfterValidator(_in_its_folder)]
"""A word of a record that names files: a record that somebody else wrote must not lead out of the run's folder."""


def refuse_name(name: str) -> None:
    """Refuse a name that is no plain word.

    Raises:
        InputError: the name is empty, too long, begins with a dash or a dot, or contains a slash, a control character
            or half a character.
    """
    slip = _slip(name)
    if slip is not None:
        raise InputError(f"--name: must be a plain name, but {shown(name)} {slip}; give another --name")


def _slip(name: str) -> str | None:
    size = len(name.encode("utf-8", "surrogatepass"))
    found = _CONTROL.search(name)
    if not name.strip():
        return "is empty"
    if found is not None:
        return f"holds the character U+{ord(found[0]):04X}"
    if name[0] in "-.":
        return f"begins with '{name[0]}'"
    if name != name.strip():
        return "begins or ends with a space"
    if "/" in name or "\\" in name:
        return "holds a slash"
    return f"has {size} bytes of at most {MOST_BYTES}" if size > MOST_BYTES else None
