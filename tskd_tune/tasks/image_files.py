"""Images in files, one image per file: listing, splitting, and the source made from them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tskd_tune.errors import InputError
from tskd_tune.files import refuse_endless
from tskd_tune.plain import Json
from tskd_tune.tasks.base import TaskFacts
from tskd_tune.tasks.decoding import DECODING_VERSION, ImageFile, decode_each, decoded, digest_of
from tskd_tune.tasks.doubles import doubles
from tskd_tune.tasks.file_samples import FileSamples, measured_normalization
from tskd_tune.tasks.folders import data_folder, require_writable
from tskd_tune.tasks.image_source import DataPart, ImageParts, ImageSource, Labeled
from tskd_tune.tasks.images import Normalization
from tskd_tune.tasks.listing import EXTENSIONS, Lister
from tskd_tune.tasks.pictures import Oddity, brightest, dimensions, oddity
from tskd_tune.tasks.splits import fraction_of, stratified
from tskd_tune.tasks.summary import DataSummary, LeftOut, Sizes, left_out
from tskd_tune.tasks.threads import mapped
from tskd_tune.tasks.words import counted, first_few, shown

MOST_SIZES = 500
"""Of so many files the size of the image is looked up for a summary."""

DARK = 8192
"""16-bit images none of which reaches this value, an eighth of the range, are said to be dark."""


@dataclass(frozen=True)
class FileParts:
    """The files of each part, and those that this split leaves out.

    Attributes:
        root: the folder that names are relative to.
        classes: the name of each class.
        unused: what is decoded with the rest, so that other splits of the same files find it decoded.
        origins: where the training, the validation and the test part come from, for a summary.
        left_out: what was not listed, and why.
        titles: a class's name in words, where the folder's is none.
    """

    root: Path
    classes: list[str]
    training: list[ImageFile]
    validation: list[ImageFile]
    test: list[ImageFile]
    unused: Sequence[ImageFile] = ()
    origins: tuple[str, str, str] = ("", "", "")
    left_out: tuple[LeftOut, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def everything(self) -> list[ImageFile]:
        """All files in the order of their paths, whatever the split: what is decoded together."""
        files = [*self.training, *self.validation, *self.test, *self.unused]
        return sorted(files, key=lambda file: file.path.replace(os.sep, "\0"))  # folder by folder, as pathlib sorts

    def named(self, part: str) -> list[tuple[str, int, int]]:
        """Return the name, the class and the size in bytes of every file of a part."""
        return [(self.name_of(file), file.label, file.bytes) for file in getattr(self, part)]

    def name_of(self, file: ImageFile) -> str:
        """Return a file's path below the root, with slashes."""
        return file.path[self._start :].replace(os.sep, "/")

    @cached_property
    def _start(self) -> int:
        return len(str(self.root / "_")) - 1


class FileImages(ImageSource):
    """Image files: decoded once to bytes ``[N, 3, size, size]`` that are kept in the data folder, or one at a time."""

    def __init__(
        self,
        split: Callable[[], FileParts],
        *,
        size: int,
        normalization: str,
        constants: Normalization | None,
        kept: bool = True,
    ) -> None:
        """Take the function that lists and splits the files; the function is called when the files are first needed.

        Args:
            split: lists and splits the files.
            size: height and width of an image, in pixels.
            normalization: the name of the constants.
            constants: mean and standard deviation; None measures the training part.
            kept: keep all decoded images in the data folder; otherwise `verify` and `normalization` decode each file
                and drop its image.
        """
        self._kept = kept
        self._split = split
        self._size = size
        self._normalization = normalization
        self._constants = constants

    def facts(self) -> TaskFacts:
        """List the files and split them; no image is opened."""
        parts = self._parts
        require_writable(data_folder())
        samples = (len(parts.training), len(parts.validation), len(parts.test))
        return TaskFacts(inputs=(3, self._size, self._size), outputs=len(parts.classes), samples=samples)

    def summary(self) -> DataSummary:
        """Count the images of each class, and read the sizes of some images from the headers of their files."""
        parts = self._parts
        used = [*parts.training, *parts.validation, *parts.test]
        counts = np.bincount(_targets(used), minlength=len(parts.classes)).tolist()
        unused = [left_out("for task.fraction or task.valid_part", (parts.name_of(f) for f in parts.unused))]
        return DataSummary(
            source=str(parts.root),
            classes=tuple(f"{name} {parts.titles[name]}" if name in parts.titles else name for name in parts.classes),
            counts=tuple(counts),
            samples=(len(parts.training), len(parts.validation), len(parts.test)),
            origins=parts.origins,
            size=(self._size, self._size),
            sizes=Sizes.of(_sizes_of_some(parts.everything)),
            left_out=(*parts.left_out, *(unused if parts.unused else [])),
        )

    def read(self) -> ImageParts:
        """Read the decoded images; decode the files first if no process has decoded them."""
        files = self._parts.everything
        pixels = decoded(files, self._size)
        places = {file.path: place for place, file in enumerate(files)}
        training, validation, test = (
            _labeled(pixels, part, places) for part in (self._parts.training, self._parts.validation, self._parts.test)
        )
        return ImageParts(training, validation, test, self._constants or Normalization.of(training.images))

    def samples(self, part: DataPart) -> FileSamples:
        """Return the files of one part; each is decoded when it is asked for."""
        parts = self._parts
        files = {"training": parts.training, "validation": parts.validation, "test": parts.test}[part]
        return FileSamples(files, self._size)

    def normalization(self) -> Normalization:
        """Return the normalization; a measured normalization is kept in the data folder."""
        if self._kept:
            return super().normalization()
        return self._constants or measured_normalization(self._parts.training, self._size)

    def verify(self) -> list[str]:
        """Decode all images, unless kept decoded images are found, and return a sentence for each oddity."""
        if self._kept:
            self.read()
        else:
            for _ in decode_each(self._parts.everything, self._size):
                pass
            self.normalization()
        shared = doubles(self._parts.training, self._parts.validation, self._parts.test, self._parts.name_of)
        return [*shared, *self._on_frames(), *self._on_dark_images()]

    def identity(self) -> Mapping[str, Json]:
        """Return the names and sizes of the files of each part, so that a copy of the folder is the same data.

        The version of the decoding is left out where no file is decoded otherwise than before there were versions, so
        that the teachers of most folders are found.
        """
        used = [*self._parts.training, *self._parts.validation, *self._parts.test]
        changed = any(file.path in self._odd and self._odd[file.path].changed for file in used)
        return self.named() | ({"decoding": DECODING_VERSION} if changed else {})

    def named(self) -> dict[str, Json]:
        """Return the names and sizes of the files of each part, the size of an image and the normalization."""
        names = {part: self._parts.named(part) for part in ("training", "validation", "test")}
        return {"data": names, "size": self._size, "normalization": self._normalization}

    def location(self) -> str:
        """Return a digest of the paths, sizes and times of change of all files."""
        return digest_of(self._parts.everything, self._size)

    def _on_frames(self) -> list[str]:
        several = [path for path, odd in self._odd.items() if odd.frames > 1]
        if not several:
            return []
        return [
            f"task.root: of {counted(len(several), 'file')} with several frames or pages only the first is used:"
            f" {first_few(several)}"
        ]

    def _on_dark_images(self) -> list[str]:
        deep = [path for path, odd in self._odd.items() if odd.deep]
        top = max(map(brightest, deep), default=0)
        if not 0 < top < DARK:
            return []
        return [
            f"task.root: {counted(len(deep), '16-bit image')} such as {shown(deep[0])} will be dark: the largest value"
            f" is {top} of 65535, which becomes {top >> 8} of 255; scale them to the whole range"
        ]

    @cached_property
    def _odd(self) -> Mapping[str, Oddity]:
        """Read the header of every file, once."""
        paths = [file.path for file in self._parts.everything]
        looks = mapped(oddity, paths)
        return {path: found for path, found in zip(paths, looks, strict=True) if found is not None}

    @cached_property
    def _parts(self) -> FileParts:
        return self._split()


def _labeled(pixels: NDArray[np.uint8], files: Sequence[ImageFile], places: Mapping[str, int]) -> Labeled:
    where = np.array([places[file.path] for file in files], dtype=np.int64)
    return Labeled(torch.from_numpy(np.asarray(pixels)[where]), torch.from_numpy(_targets(files)))


def listed(folder: Path, names: Sequence[str], *, remedy: str, lister: Lister | None = None) -> list[ImageFile]:
    """List the images of every class folder, in the order of classes and names.

    Args:
        folder: the folder of the class folders, absolute; images may lie in folders within these.
        names: the name of each class folder; its place is the class.
        remedy: what to do where a class has no images, for the message.
        lister: lists the folders, and notes what is left out.

    Raises:
        InputError: a class has no images, or a file or folder cannot be read.
    """
    lister = lister or Lister(str(folder))
    files: list[ImageFile] = []
    lost: list[str] = []
    for label, name in enumerate(names):
        place = folder / name
        before = len(files) + len(lost)
        for entry in lister.walk(str(place)) if place.is_dir() else ():
            try:
                status = entry.stat()
            except OSError as error:
                lost.append(f"{shown(entry.path)} cannot be read ({_why(entry, error)})")
                continue
            if stat.S_ISREG(status.st_mode):
                files.append(ImageFile(entry.path, label, status.st_size, status.st_mtime_ns))
            else:
                lister.left.add("neither file nor folder", lister.relative(entry.path))
        if len(files) + len(lost) == before:
            raise InputError(
                f"task.root: there are no images in {shown(str(place))} ({', '.join(EXTENSIONS)}); {remedy}"
            )
    refuse_lost(lost)
    return files


def refuse_lost(lost: Sequence[str]) -> None:
    """Refuse files that are missing; each is given as a sentence, and the first ones are shown.

    Raises:
        InputError: there are some.
    """
    if lost:
        more = f" (and {counted(len(lost) - 3, 'other file')})" if len(lost) > 3 else ""
        raise InputError(
            f"task.root: {'; '.join(lost[:3])}{more}; repair or remove {'it' if len(lost) == 1 else 'them'}"
        )


def _why(entry: os.DirEntry[str], error: OSError) -> str:
    return "a link to nothing" if entry.is_symlink() and isinstance(error, FileNotFoundError) else str(error.strerror)


def _sizes_of_some(files: Sequence[ImageFile]) -> list[tuple[int, int]]:
    """Return the sizes of at most `MOST_SIZES` images, evenly chosen; files that cannot be read are skipped."""
    chosen = files[:: -(-len(files) // MOST_SIZES) or 1]
    return [size for size in mapped(dimensions, [file.path for file in chosen]) if size is not None]


def found_file(path: str, label: int) -> ImageFile:
    """Look at a file of a class, without opening it.

    Raises:
        InputError: it cannot be read, or is not there.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (of hundreds of thousands of files, a Path each takes seconds)
        refuse_endless(status.st_mode)
    except OSError as error:
        raise InputError(f"task.root: {path} cannot be read ({error.strerror}); repair or remove it") from error
    return ImageFile(path, label, status.st_size, status.st_mtime_ns)


def held_out(
    files: Sequence[ImageFile], total: int, *, seed: int, names: Sequence[str], option: str
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Take a stratified part out of files; return it and what is left. See `splits.stratified`."""
    taken, left = stratified(_targets(files), total, seed=seed, option=option, names=names)
    return [files[index] for index in taken], [files[index] for index in left]


def few(
    files: Sequence[ImageFile], fraction: float | None, names: Sequence[str]
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Keep a share of each class's files; return it and what is left out. See `splits.fraction_of`."""
    kept = set(fraction_of(_targets(files), fraction, names=names).tolist())
    rest = [file for index, file in enumerate(files) if index not in kept]
    return [file for index, file in enumerate(files) if index in kept], rest


def _targets(files: Sequence[ImageFile]) -> NDArray[np.int64]:
    return np.array([file.label for file in files], dtype=np.int64)
