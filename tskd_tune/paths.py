"""Paths as people write them: relative to the file or the folder where they were written, with ``~``, or as ``file://``.

A path is made whole once, where it comes in, since a worker stands in another folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

LONGEST_NAME, LONGEST_PATH = 255, 4095
# `Path` makes one slash out of two, so one is enough; one letter is a drive.
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/+")


class Written(str):
    """A text of a file that remembers the folder of this file, until it is known whether the text is a path."""

    __slots__ = ("folder",)
    folder: Path

    @classmethod
    def of(cls, text: str, folder: Path) -> Written:
        """Return the text with its folder; a text that has one keeps it."""
        if isinstance(text, Written):
            return text
        written = cls(text)
        written.folder = folder
        return written


def written(value: object, folder: Path) -> object:
    """Return plain data in which every text, but no key, remembers the folder of the file that it stands in."""
    if isinstance(value, str):
        return Written.of(value, folder)
    if isinstance(value, Mapping):
        return {key: written(inner, folder) for key, inner in value.items()}
    return [written(item, folder) for item in value] if isinstance(value, list) else value


def whole(text: str) -> str:
    """Return the absolute path that a text means, from the folder of its file or else from the current folder.

    Raises:
        ValueError: the text is no path of a file system, such as the address of an object storage.
    """
    path = _without_scheme(str(text))
    _refuse_impossible(path)
    try:
        expanded = Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: the home folder is not known ({error}); write the whole path") from error
    return _without_dots(str(Path(getattr(text, "folder", ""), expanded).absolute()))


def whole_path(given: str | Path) -> Path:
    """Return `whole` as a path.

    Raises:
        ValueError: as `whole`.
    """
    return Path(whole(str(given)))


def local_path(given: str | Path) -> Path:
    """Return the path that an argument of the command line means, relative where it is.

    Raises:
        ValueError: it is no path of a file system, such as the address of an object storage.
    """
    path = _without_scheme(str(given))
    _refuse_impossible(path)
    return Path(path)


def _without_dots(path: str) -> str:
    """Return a path without ``..``, unless a link on the way gives them another meaning."""
    shorter = os.path.normpath(path)
    return shorter if os.path.realpath(shorter) == os.path.realpath(path) else path


def _without_scheme(text: str) -> str:
    scheme = _SCHEME.match(text)
    if scheme is None:
        return text
    local = re.match(r"^file:(?://(?:localhost)?)?(/.*)$", text)
    if local is not None and not local[1].startswith("//"):
        return local[1]
    raise ValueError(
        f"{scheme[1]}://{text[scheme.end() :]} is an address, not a folder of a file system; object storage is not"
        " supported yet; give a path"
        " (on a cluster: of a folder that all machines share)"
    )


def _refuse_impossible(path: str) -> None:
    """Refuse what no file system can hold, before any of its calls raises an error of its own."""
    if not path.strip():
        raise ValueError("an empty path names nothing; give the path of a folder or a file")
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ValueError(f"{path!r} is no path (it holds half a character); correct the path") from error
    if b"\0" in encoded:
        raise ValueError(f"{path!r} is no path (it holds a null character); correct the path")
    if len(encoded) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in encoded.split(b"/")):
        raise ValueError(
            f"{path[:40]}... is no path: a name has at most {LONGEST_NAME} bytes and a path {LONGEST_PATH};"
            " give a shorter path"
        )


def _always(text: str) -> bool:
    return True


@dataclass(frozen=True)
class PathOption:
    """Tells Pydantic that an option is a path, which is made whole when it is read.

    Attributes:
        applies: tells which texts are paths, where the option may also be a word, such as ``auto``.
    """

    applies: Callable[[str], bool] = _always

    def read(self, value: object) -> object:
        """Return the whole path; what is no text is left to the option's own type."""
        if not isinstance(value, str):
            return value
        return whole(value) if self.applies(value) else str(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read with `read`, then as text."""
        return core_schema.no_info_before_validator_function(self.read, handler(source))


PathText = Annotated[str, PathOption()]
"""The type of a component's option that is a path: absolute when the component gets it."""
