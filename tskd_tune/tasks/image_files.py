"""Images that lie in files, one each: how they are listed and split, and the source that they make."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tskd_tune.errors import InputError
from tskd_tune.tasks.base import TaskFacts
from tskd_tune.tasks.classification import ImageParts, ImageSource, Labeled
from tskd_tune.tasks.decoding import ImageFile, decoded
from tskd_tune.tasks.folders import data_folder, require_writable
from tskd_tune.tasks.images import Normalization
from tskd_tune.tasks.splits import fraction_of, stratified


@dataclass(frozen=True)
class FileParts:
    """The files of each part, and those that this split leaves out.

    Attributes:
        root: the folder that names are relative to.
        classes: the name of each class.
        unused: what is decoded with the rest, so that other splits of the same files find it decoded.
    """

    root: Path
    classes: list[str]
    training: list[ImageFile]
    validation: list[ImageFile]
    test: list[ImageFile]
    unused: Sequence[ImageFile] = ()

    @property
    def everything(self) -> list[ImageFile]:
        """All files in the order of their paths, whatever the split: what is decoded together."""
        files = [*self.training, *self.validation, *self.test, *self.unused]
        return sorted(files, key=lambda file: file.path.replace(os.sep, "\0"))  # folder by folder, as pathlib sorts

    def named(self, part: str) -> list[tuple[str, int, int]]:
        """Return the name, the class and the size in bytes of every file of a part."""
        start = len(str(self.root / "_")) - 1
        return [(f.path[start:].replace(os.sep, "/"), f.label, f.bytes) for f in getattr(self, part)]


class FileImages(ImageSource):
    """Image files, decoded once to bytes ``[N, 3, size, size]`` that are kept in the data folder."""

    def __init__(
        self, split: Callable[[], FileParts], *, size: int, normalization: str, constants: Normalization | None
    ) -> None:
        """Take what lists and splits the files when it is asked for; nothing is looked at yet.

        Args:
            split: lists and splits the files.
            size: height and width of an image, in pixels.
            normalization: the name of the constants.
            constants: mean and standard deviation; None measures the training part.
        """
        self._split = split
        self._size = size
        self._normalization = normalization
        self._constants = constants

    def facts(self) -> TaskFacts:
        """List the files and split them; no image is opened."""
        parts = self._parts
        require_writable(data_folder())
        samples = (len(parts.training), len(parts.validation), len(parts.test))
        return TaskFacts(classes=len(parts.classes), channels=3, size=self._size, samples=samples)

    def read(self) -> ImageParts:
        """Read the decoded images, decoding them first where nobody has."""
        files = self._parts.everything
        pixels = decoded(files, self._size)
        places = {file.path: place for place, file in enumerate(files)}
        training, validation, test = (
            _labeled(pixels, part, places) for part in (self._parts.training, self._parts.validation, self._parts.test)
        )
        return ImageParts(training, validation, test, self._constants or Normalization.of(training.images))

    def identity(self) -> Mapping[str, Any]:
        """Return the names and sizes of the files of each part, so that a copy of the folder is the same data."""
        names = {part: self._parts.named(part) for part in ("training", "validation", "test")}
        return {"data": names, "size": self._size, "normalization": self._normalization}

    @cached_property
    def _parts(self) -> FileParts:
        return self._split()


def _labeled(pixels: NDArray[np.uint8], files: Sequence[ImageFile], places: Mapping[str, int]) -> Labeled:
    where = np.array([places[file.path] for file in files], dtype=np.int64)
    return Labeled(torch.from_numpy(np.asarray(pixels)[where]), torch.from_numpy(_targets(files)))


def listed(folder: Path, names: Sequence[str], *, remedy: str) -> list[ImageFile]:
    """List the images of every class folder, in the order of classes and names.

    Args:
        folder: the folder of the class folders, absolute; images may lie in folders within these.
        names: the name of each class folder; its place is the class.
        remedy: what to do where a class has no images, for the message.

    Raises:
        InputError: a class has no images, or a file cannot be read.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    labels = {name: label for label, name in enumerate(names)}
    found = make_dataset(folder, labels, extensions=IMG_EXTENSIONS, allow_empty=True)
    empty = sorted(set(range(len(names))) - {label for _, label in found})
    if empty:
        raise InputError(
            f"task.root: there are no images in {folder / names[empty[0]]} ({', '.join(IMG_EXTENSIONS)}); {remedy}"
        )
    return [found_file(path, label) for path, label in found]


def found_file(path: str, label: int) -> ImageFile:
    """Look at a file of a class, without opening it.

    Raises:
        InputError: it cannot be read, or is not there.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (of hundreds of thousands of files, a Path each takes seconds)
    except OSError as error:
        raise InputError(f"task.root: {path} cannot be read ({error.strerror}); mend or remove it") from error
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
