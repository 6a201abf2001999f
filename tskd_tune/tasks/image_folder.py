"""Any folder of class folders of images, resized and decoded once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.errors import InputError, RunError
from tskd_tune.tasks.base import TASKS, Task, TaskFacts
from tskd_tune.tasks.classification import Classification, ImageParts, ImageSource, Labeled
from tskd_tune.tasks.folders import DATA_VARIABLE, data_folder, require_writable
from tskd_tune.tasks.images import Augmentation, Normalization
from tskd_tune.tasks.splits import TEST_SEED, stratified

Constants = Literal["measured", "imagenet"]

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
DEFAULT_TEST_FRACTION = 0.2


@TASKS.register("image_folder", source="the layout of torchvision's ImageFolder")
def image_folder(
    *,
    root: str,
    size: PositiveInt = 32,
    batch_size: PositiveInt = 128,
    validation: NonNegativeInt = 0,
    split_seed: NonNegativeInt = 0,
    classes: Annotated[int, Field(ge=2)] | None = None,
    per_class: PositiveInt | None = None,
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None,
    padding: NonNegativeInt = 4,
    flip: bool = True,
    normalization: Constants = "measured",
) -> Task:
    """A folder of class folders of images, or of such folders named train, test and val.

    With ``train/`` and ``test/`` beside it, or ``val/`` where there is no ``test/``, that is the test part. With all
    three, ``val/`` is the validation part, whole, and ``validation`` must stay 0. A single folder is split by a
    constant seed.

    Args:
        root: the folder.
        size: height and width that every image is brought to: its middle square, scaled.
        batch_size: images in a training batch.
        validation: how many training images are held out, in proportion to the classes.
        split_seed: what decides which; it does not move the test part.
        classes: use the first so many class folders, in the order of their names (null: all).
        per_class: use the first so many images of each class, by name, of those that are not for the test (null:
            all); the validation part is held out of them.
        test_fraction: the share of a single folder that is the test part (null: 0.2); refused beside ``train/``.
        padding: zero pixels around an image before its random crop.
        flip: mirror half of the training images.
        normalization: mean and standard deviation, measured in the training part or ImageNet's.
    """
    source = FolderImages(
        folder=Path(root).expanduser(),
        size=size,
        selection=Selection(validation, split_seed, classes, per_class, test_fraction),
        normalization=normalization,
    )
    return Classification(source, Augmentation(padding, flip), batch_size)


@dataclass(frozen=True)
class Selection:
    """Which files are used, and for what; the options of the task."""

    validation: int
    split_seed: int
    classes: int | None
    per_class: int | None
    test_fraction: float | None


@dataclass(frozen=True)
class ImageFile:
    """A file as it was found: its class, size in bytes and time of change in nanoseconds."""

    path: Path
    label: int
    bytes: int
    changed: int


@dataclass(frozen=True)
class FileParts:
    """The files of each part, each in the order of classes and names."""

    classes: list[str]
    training: list[ImageFile]
    validation: list[ImageFile]
    test: list[ImageFile]

    @property
    def everything(self) -> list[ImageFile]:
        """All files in the order of their paths, whatever the split: what is decoded together."""
        return sorted([*self.training, *self.validation, *self.test], key=lambda file: file.path)


class FolderImages(ImageSource):
    """Image files, decoded once to bytes ``[N, 3, size, size]`` that are kept in the data folder.

    The bytes are found again by the paths, sizes and times of change of the files, so that a changed folder is
    decoded anew; trials that start together decode once.
    """

    def __init__(self, *, folder: Path, size: int, selection: Selection, normalization: Constants) -> None:
        """Take the folder and the options of the task; nothing is looked at yet."""
        self._folder = folder
        self._size = size
        self._selection = selection
        self._normalization = normalization

    def facts(self) -> TaskFacts:
        """List the files and split them."""
        parts = self._parts
        require_writable(data_folder())
        samples = (len(parts.training), len(parts.validation), len(parts.test))
        return TaskFacts(classes=len(parts.classes), channels=3, size=self._size, samples=samples)

    def read(self) -> ImageParts:
        """Read the decoded images, decoding them first where nobody has."""
        files = self._parts.everything
        pixels = torch.from_numpy(_decoded(files, self._size))
        places = {file.path: place for place, file in enumerate(files)}
        training, validation, test = (
            _labeled(pixels, part, places) for part in (self._parts.training, self._parts.validation, self._parts.test)
        )
        measured = self._normalization == "measured"
        constants = Normalization.of(training.images) if measured else IMAGENET
        return ImageParts(training, validation, test, constants)

    def identity(self) -> Mapping[str, Any]:
        """Return the names and sizes of the files of each part, so that a copy of the folder is the same data."""
        parts = {
            "training": self._parts.training,
            "validation": self._parts.validation,
            "test": self._parts.test,
        }
        names = {
            part: [(file.path.relative_to(self._folder).as_posix(), file.label, file.bytes) for file in files]
            for part, files in parts.items()
        }
        return {"data": names, "size": self._size, "normalization": self._normalization}

    @cached_property
    def _parts(self) -> FileParts:
        return split_folder(self._folder, self._selection)


def split_folder(folder: Path, selection: Selection) -> FileParts:
    """List the images of a folder and split them.

    Raises:
        InputError: the folder, a class in one of the parts or the images of a class are missing.
    """
    layout = _layout(folder, selection)
    names = _class_names(folder, layout, selection.classes)
    pool = _files(layout["training"], names)
    if "test" in layout:
        test = _files(layout["test"], names)
    else:
        fraction = selection.test_fraction or DEFAULT_TEST_FRACTION
        test, pool = _take(pool, round(len(pool) * fraction), TEST_SEED, names, "test_fraction")
    pool = _first_of_each(pool, selection.per_class, names)
    if "validation" in layout:
        return FileParts(names, pool, _files(layout["validation"], names), test)
    validation, training = _take(pool, selection.validation, selection.split_seed, names, "validation")
    return FileParts(names, training, validation, test)


def _layout(folder: Path, selection: Selection) -> dict[str, Path]:
    """Return the folder of each part; a single folder is only ``training``."""
    if not folder.is_dir():
        raise InputError(f"task.root: there is no folder {folder}; give a folder of class folders of images")
    train, test, val = (folder / part for part in ("train", "test", "val"))
    if not train.is_dir():
        return {"training": folder}
    if not test.is_dir() and not val.is_dir():
        raise InputError(
            f"task.root: {folder} has train/ but neither test/ nor val/; add one, or give {train} to split it"
        )
    if selection.test_fraction is not None:
        raise InputError(
            f"task.test_fraction: {folder} has a test part of its own, {selection.test_fraction} does not apply; "
            "remove test_fraction"
        )
    if test.is_dir() and val.is_dir() and selection.validation:
        raise InputError(
            f"task.validation: {folder} has validation images of its own in val/, but {selection.validation} "
            "were asked for; set it to 0"
        )
    if test.is_dir() and val.is_dir():
        return {"training": train, "validation": val, "test": test}
    return {"training": train, "test": test if test.is_dir() else val}


def _class_names(folder: Path, layout: Mapping[str, Path], first: int | None) -> list[str]:
    found = {part: _subfolders(where) for part, where in layout.items()}
    names = found["training"]
    for part, others in found.items():
        different = sorted(set(names) ^ set(others))
        if different:
            raise InputError(
                f"task.root: {layout['training']} and {layout[part]} hold different classes ('{different[0]}' is "
                f"only in one, {len(different)} in all); make them the same"
            )
    if len(names) < 2:
        raise InputError(
            f"task.root: {folder} has {len(names)} class folders, at least 2 are needed; "
            "give a folder of class folders of images"
        )
    if first is not None and first > len(names):
        raise InputError(f"task.classes: {first} were asked for but {folder} has {len(names)}; give fewer")
    return names[:first]


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _files(folder: Path, names: Sequence[str]) -> list[ImageFile]:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    labels = {name: label for label, name in enumerate(names)}
    found = make_dataset(folder, labels, extensions=IMG_EXTENSIONS, allow_empty=True)
    empty = sorted(set(range(len(names))) - {label for _, label in found})
    if empty:
        raise InputError(
            f"task.root: there are no images in {folder / names[empty[0]]} ({', '.join(IMG_EXTENSIONS)}); "
            "add some or remove the folder"
        )
    return [_file(Path(path), label) for path, label in found]


def _file(path: Path, label: int) -> ImageFile:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"task.root: {path} cannot be read ({error.strerror}); mend or remove it") from error
    return ImageFile(path, label, status.st_size, status.st_mtime_ns)


def _take(
    files: list[ImageFile], total: int, seed: int, names: Sequence[str], option: str
) -> tuple[list[ImageFile], list[ImageFile]]:
    targets = np.array([file.label for file in files], dtype=np.int64)
    taken, left = stratified(targets, total, seed=seed, option=option, names=names)
    return [files[index] for index in taken], [files[index] for index in left]


def _first_of_each(files: list[ImageFile], count: int | None, names: Sequence[str]) -> list[ImageFile]:
    if count is None:
        return files
    members: list[list[ImageFile]] = [[] for _ in names]
    for file in files:
        members[file.label].append(file)
    for name, group in zip(names, members, strict=True):
        if len(group) < count:
            raise InputError(
                f"task.per_class: class '{name}' has {len(group)} training images but {count} were asked for; "
                "give a lower number"
            )
    return [file for group in members for file in group[:count]]


def _labeled(pixels: torch.Tensor, files: list[ImageFile], places: Mapping[Path, int]) -> Labeled:
    where = torch.tensor([places[file.path] for file in files], dtype=torch.int64)
    return Labeled(pixels[where], torch.tensor([file.label for file in files], dtype=torch.int64))


def _decoded(files: list[ImageFile], size: int) -> NDArray[np.uint8]:
    """Return the images ``[N, 3, size, size]``, from the data folder where they were decoded before."""
    facts = [size, [(str(file.path.absolute()), file.bytes, file.changed) for file in files]]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    kept = data_folder() / "decoded" / f"{digest}.npy"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(kept.with_suffix(".lock")):
            if not kept.exists():
                _write(kept, _decode_all([file.path for file in files], size))
    except OSError as error:
        raise RunError(
            f"task: the decoded images cannot be written to {kept} ({error}); free some space, or set "
            f"{DATA_VARIABLE} to a folder that can be written"
        ) from error
    return _read(kept, (len(files), 3, size, size))


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        pixels: NDArray[np.uint8] = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"task: the decoded images {path} cannot be read ({error}); delete the file") from error
    if pixels.shape != shape:
        raise RunError(f"task: the decoded images {path} have shape {pixels.shape}, not {shape}; delete the file")
    return pixels


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write to a temporary file, then rename it: nobody ever reads half an array."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            np.save(file, pixels)
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _decode_all(paths: list[Path], size: int) -> NDArray[np.uint8]:
    pixels = np.empty((len(paths), 3, size, size), dtype=np.uint8)
    with ThreadPoolExecutor() as pool:
        for place, image in enumerate(pool.map(partial(_decode, size=size), paths)):
            pixels[place] = image
    return pixels


def _decode(path: Path, size: int) -> NDArray[np.uint8]:
    """Return the middle square of an image, scaled to ``[3, size, size]``; nothing is scaled that fits already."""
    try:
        with Image.open(path) as image:
            square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except FileNotFoundError as error:
        raise RunError(f"task: {path} vanished while the images were read; put it back and start again") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"task.root: {path} is not a readable image ({error}); mend or remove it") from error
    return np.asarray(square).transpose(2, 0, 1)
