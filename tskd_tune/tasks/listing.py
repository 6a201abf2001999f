"""Listing folders of images: files and folders that are neither class nor image are left out and noted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tskd_tune.errors import InputError
from tskd_tune.tasks.summary import Leftovers
from tskd_tune.tasks.words import shown

TOOLS = {
    *("__macosx", "@eadir", "__pycache__", "$recycle.bin", "system volume information", "lost+found", "#recycle"),
    *("#snapshot", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
"""Folders and files that systems and tools leave behind, in lower case; names that begin with a dot are hidden."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What an image's name ends in, as torchvision has it."""


@dataclass
class Lister:
    """Lists folders below a root, and notes what it leaves out.

    Attributes:
        root: the folder that noted names are relative to, absolute.
        left: what was left out so far.
    """

    root: str
    left: Leftovers = field(default_factory=Leftovers)

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder that may be classes or parts, in order.

        Raises:
            InputError: the folder cannot be read.
        """
        found = [entry for entry in self._entries(folder) if _is_folder(entry)]
        return sorted(entry.name for entry in found if not self._leads_back(entry))

    def images(self, folder: str) -> list[str]:
        """Return the names of the images that lie in a folder itself, in order."""
        return sorted(entry.name for entry in self._entries(folder) if not _is_folder(entry) and is_image(entry.name))

    def walk(self, folder: str) -> list[os.DirEntry[str]]:
        """Return all images of a folder and those below, folder by folder, in the order of names, as torchvision does.

        A link to a folder is followed unless that leads back to a folder above.

        Raises:
            InputError: a folder cannot be read.
        """
        found: list[tuple[str, list[os.DirEntry[str]]]] = []
        self._walk(folder, (), found)
        return [file for _, files in sorted(found, key=lambda pair: pair[0]) for file in files]

    def holds_files(self, folder: str) -> bool:
        """Return whether a folder or a folder below contains any file."""
        return any(
            not _is_folder(entry) or (not self._leads_back(entry) and self.holds_files(entry.path))
            for entry in self._entries(folder)
        )

    def holds_images(self, folder: str) -> bool:
        """Return whether a folder or a folder below contains any image."""
        entries = list(self._entries(folder))
        if any(is_image(entry.name) for entry in entries if not _is_folder(entry)):
            return True
        inner = [entry for entry in entries if _is_folder(entry) and not self._leads_back(entry)]
        return any(self.holds_images(entry.path) for entry in inner)

    def note_others(self, folder: str, names: Sequence[str]) -> None:
        """Note the folders that are none of the named classes, and the images that lie in no folder."""
        for name in set(self.folders(folder)) - set(names):
            self.left.add("no class of the data set", self.relative(str(Path(folder) / name)))
        self.note_loose(folder)

    def note_loose(self, folder: str) -> None:
        """Note the images that lie in a folder of class folders."""
        for name in self.images(folder):
            self.left.add("in no class folder", self.relative(str(Path(folder) / name)))

    def relative(self, path: str) -> str:
        """Return a path as it is named to the user, with slashes."""
        start = self.root.rstrip(os.sep) + os.sep
        return path.removeprefix(start).replace(os.sep, "/")

    def _walk(self, folder: str, above: tuple[str, ...], found: list[tuple[str, list[os.DirEntry[str]]]]) -> None:
        files: list[os.DirEntry[str]] = []
        above = (*above, str(Path(folder).resolve()))
        for entry in self._entries(folder):
            if _is_folder(entry):
                if not self._leads_back(entry, above):
                    self._walk(entry.path, above, found)
            elif self._is_used(entry):
                files.append(entry)
        found.append((folder, sorted(files, key=lambda entry: entry.name)))

    def _is_used(self, entry: os.DirEntry[str]) -> bool:
        if is_image(entry.name):
            return True
        ending = PurePath(entry.name).suffix.lower()
        self.left.add(f"the ending {shown(ending)} is not read" if ending else "no ending", self.relative(entry.path))
        return False

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError as error:
            raise InputError(
                f"task.root: the folder {shown(folder)} cannot be read ({error.strerror}); repair or remove it"
            ) from error
        for entry in found:
            why = tool_made(entry.name)
            if why is None:
                yield entry
            else:
                self.left.add(why, self.relative(entry.path))

    def _leads_back(self, entry: os.DirEntry[str], above: Sequence[str] = ()) -> bool:
        """Tell, and note, whether a folder is a link to one of the folders that it lies in."""
        if not entry.is_symlink():
            return False
        target = str(Path(entry.path).resolve())
        chain = above or (str(Path(entry.path).parent.resolve()),)
        back = any(folder == target or folder.startswith(target.rstrip(os.sep) + os.sep) for folder in chain)
        if back:
            self.left.add("a link back to a folder above", self.relative(entry.path))
        return back


def tool_made(name: str) -> str | None:
    """Return why a file or folder was not made by the user; None if the user made it."""
    if name.startswith("."):
        return "hidden"
    return "made by a tool" if name.lower() in TOOLS else None


def is_image(name: str) -> bool:
    """Tell by its ending whether a file is an image."""
    return name.lower().endswith(EXTENSIONS)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
