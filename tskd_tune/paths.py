"""Makes the paths that users write absolute: relative paths, paths with ``~``, and addresses.

A relative path is relative to the file with the path, or to the current folder. Each path is made absolute once, when
it is read, because a worker runs in another folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, TypeAlias

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

LONGEST_NAME, LONGEST_PATH = 255, 4095
# `Path` replaces two slashes by one, so one slash is enough. A single letter may be a drive.
_ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):(?:/+|$)")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/+")


def in_shell(place: object) -> str:
    """Return a path or an address as a word of a command for the shell: in quotes if it has spaces or the like."""
    return quote(str(place))


@dataclass(frozen=True)
class Address:
    """The URL of a folder on an object storage, or on another file system that fsspec knows, such as ``s3://bucket/x``.

    Attributes:
        url: the scheme, two slashes and the path, without a slash at the end.
    """

    url: str

    @classmethod
    def read(cls, text: str) -> Address | None:
        """Return the address in a text; None for the path of a file system and for ``file://``.

        Raises:
            ValueError: the text is an address that no folder can have.
        """
        scheme = _ADDRESS.match(text)
        if scheme is None or scheme[1].lower() == "file":
            return None
        path = text[scheme.end() :].strip("/")
        parts = path.split("/")
        if not path or any(part in ("", ".", "..") for part in parts) or re.search(r"[\x00-\x1f?#*\[\]]", path):
            raise ValueError(
                f"{scheme[1]}://{path}: is no address of a folder; give SCHEME://BUCKET/FOLDER without empty names,"
                " '..' and ?#*[]"
            )
        return cls(f"{scheme[1].lower()}://{path}")

    @property
    def scheme(self) -> str:
        """The word before ``://``."""
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        """The last name of the path."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> Address:
        """The folder above; a bucket is its own parent."""
        above = self.url.rpartition("/")[0]
        return self if above.endswith("/") else Address(above)

    def absolute(self) -> Address:
        """Return the address itself, as `Path.absolute` returns a path."""
        return self

    def __truediv__(self, name: str) -> Address:
        return Address(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url


StoragePlace: TypeAlias = Path | Address
"""Where runs are kept: a folder, or an address of an object storage."""


def storage_place(given: str | Path) -> StoragePlace:
    """Return the address or the absolute path in a text.

    Raises:
        ValueError: the text is neither.
    """
    return Address.read(str(given)) or whole_path(given)


class Written(str):
    """A text from a file, with the folder of this file, which is needed if the text turns out to be a path."""

    __slots__ = ("folder",)
    folder: Path

    @classmethod
    def of(cls, text: str, folder: Path) -> Written:
        """Return the text with a folder; a text that has a folder is returned unchanged."""
        if isinstance(text, Written):
            return text
        written = cls(text)
        written.folder = folder
        return written


def written(value: object, folder: Path) -> object:
    """Return plain data in which every text, except keys, remembers the folder of its file."""
    if isinstance(value, str):
        return Written.of(value, folder)
    if isinstance(value, Mapping):
        return {key: written(inner, folder) for key, inner in value.items()}
    return [written(item, folder) for item in value] if isinstance(value, list) else value


def whole(text: str) -> str:
    """Return the absolute path of a text, from the folder of its file or otherwise from the current folder.

    Raises:
        ValueError: the text is not a path of a file system, but for example the address of an object storage.
    """
    path = _without_scheme(str(text))
    _refuse_impossible(path)
    try:
        expanded = Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: the home folder is not known ({error}); write the whole path") from error
    return _without_dots(str(Path(getattr(text, "folder", ""), expanded).absolute()))


def whole_path(given: str | Path) -> Path:
    """Return the result of `whole` as a `Path`.

    Raises:
        ValueError: as `whole`.
    """
    return Path(whole(str(given)))


def local_path(given: str | Path) -> Path:
    """Return the path of an argument of the command line; a relative path stays relative.

    Raises:
        ValueError: the argument is not a path of a file system, but for example the address of an object storage.
    """
    path = _without_scheme(str(given))
    _refuse_impossible(path)
    return Path(path)


def _without_dots(path: str) -> str:
    """Return a path without ``..``, unless a symbolic link in the path changes the meaning of ``..``."""
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
        f"{scheme[1]}://{text[scheme.end() :]} is an address, not a folder of a file system; only runs can be kept on"
        " an object storage (--storage); give a path (on a cluster: of a folder that all machines share)"
    )


def _refuse_impossible(path: str) -> None:
    """Refuse a path that is impossible in every file system, before a call of the system raises another error."""
    if not path.strip():
        raise ValueError("the path is empty; give the path of a folder or a file")
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
    """Tells Pydantic that an option is a path, which is made absolute when it is read.

    Attributes:
        applies: tells whether a text is a path; needed for an option that may also be a word, such as ``auto``.
    """

    applies: Callable[[str], bool] = _always

    def read(self, value: object) -> object:
        """Return the absolute path; a value that is not text is returned unchanged, and the option's type checks it."""
        if not isinstance(value, str):
            return value
        return whole(value) if self.applies(value) else str(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Apply `read`, then the schema of text."""
        return core_schema.no_info_before_validator_function(self.read, handler(source))


PathText = Annotated[str, PathOption()]
"""The type of a component's option that is a path; the component receives an absolute path."""
