"""Tiny ImageNet: 200 classes of ImageNet at 64 x 64, in the folders of the published archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tskd_tune.errors import InputError
from tskd_tune.files import read_file
from tskd_tune.paths import PathText
from tskd_tune.tasks.base import TASKS, Task
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.decoding import ImageFile
from tskd_tune.tasks.folders import DATA_VARIABLE, data_folder
from tskd_tune.tasks.image_files import FileImages, FileParts, few, found_file, held_out, listed, refuse_lost
from tskd_tune.tasks.images import IMAGENET, Augmentation, Normalization
from tskd_tune.tasks.listing import Lister
from tskd_tune.tasks.options import BatchSize, Flip, HeldOut, Padding, SplitSeed, UsedFraction
from tskd_tune.tasks.resident import Resident
from tskd_tune.tasks.words import counted, first_few, shown

Constants = Literal["tiny_imagenet", "imagenet", "measured"]

NORMALIZATIONS = {
    "tiny_imagenet": Normalization(mean=(0.4802, 0.4481, 0.3975), std=(0.2302, 0.2265, 0.2262)),
    "imagenet": IMAGENET,
}
"""Tiny ImageNet's as mdistiller uses them; the deviation is the mean of each image's own, less than of all pixels."""

FOLDER = "tiny-imagenet-200"
ARCHIVE = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
ANEW = f"unpack {ARCHIVE} anew"


@TASKS.register("tiny_imagenet", source="Stanford CS231n 2015; its val/ is the test set, as its test/ has no labels")
def tiny_imagenet(
    *,
    batch_size: BatchSize = 128,
    size: Literal[64, 32] = 64,
    validation: HeldOut = 0,
    split_seed: SplitSeed = 0,
    fraction: UsedFraction = None,
    padding: Padding = 4,
    flip: Flip = True,
    normalization: Constants = "tiny_imagenet",
    root: PathText | None = None,
) -> Task:
    """Tiny ImageNet: 200 classes, 100,000 color images of 64 x 64 to train and 10,000 to test.

    Args:
        size: height and width of an image, in pixels; 32 scales the images down, for networks made for CIFAR.
        normalization: mean and standard deviation that pixels are normalized with: those of published work, ImageNet's,
            or those measured in the training set.
        root: folder that holds ``tiny-imagenet-200``; null: ``TSKD_TUNE_DATA``, otherwise the user's cache folder.
    """
    selection = Selection(validation, split_seed, fraction)
    source = FileImages(
        lambda: split_tiny_imagenet(_folder(root), selection),
        size=size,
        normalization=normalization,
        constants=NORMALIZATIONS.get(normalization),
    )
    return Task(source, Classification(), Resident(Augmentation(padding, flip), batch_size))


@dataclass(frozen=True)
class Selection:
    """Which files are used, and for what; the options of the task."""

    validation: int
    split_seed: int
    fraction: float | None


def split_tiny_imagenet(folder: Path, selection: Selection) -> FileParts:
    """List the images of ``train/`` and, by their annotations, of ``val/``; the classes are in the order of names.

    Raises:
        InputError: a file or the images of a class are missing, or an annotation cannot be read.
    """
    names = _class_names(folder)
    lister = Lister(str(folder))
    if (folder / "train").is_dir():
        lister.note_others(str(folder / "train"), names)
    pool = listed(folder / "train", names, remedy=ANEW, lister=lister)
    test = _annotated(folder, names, lister)
    validation, left = held_out(pool, selection.validation, seed=selection.split_seed, names=names, option="validation")
    training, unused = few(left, selection.fraction, names)
    return FileParts(
        folder,
        names,
        training,
        validation,
        test,
        unused,
        origins=("train/", "task.validation", "val/"),
        left_out=lister.left.all(),
        titles=_titles(folder),
    )


def _class_names(folder: Path) -> list[str]:
    names = sorted(_lines(folder, "wnids.txt"))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or len(names) < 2:
        what = f"names {first_few(twice)} twice" if twice else f"names {counted(len(names), 'class')}, not at least 2"
        raise InputError(f"task.root: {folder / 'wnids.txt'} {what}; {ANEW}")
    return names


def _titles(folder: Path) -> dict[str, str]:
    """Return the first word for each class of ``words.txt``, if the file exists."""
    if not (folder / "words.txt").is_file():
        return {}
    pairs = (line.partition("\t") for line in _lines(folder, "words.txt"))
    return {name: words.split(",")[0].strip() for name, _, words in pairs if words}


def _annotated(folder: Path, names: Sequence[str], lister: Lister) -> list[ImageFile]:
    """Look at every image of ``val/images`` that the annotations name: file, class and box, separated by tabs."""
    file, images = folder / "val" / "val_annotations.txt", folder / "val" / "images"
    classes = _classes_by_file(file, _lines(folder, "val/val_annotations.txt"), names)
    there = set(lister.images(str(images))) if images.is_dir() else set()
    for name in there - set(classes):
        lister.left.add("no line in val_annotations.txt", f"val/images/{name}")
    lost = [f"{shown(str(images / name))} cannot be read (No such file)" for name in classes if name not in there]
    refuse_lost(lost)
    return [found_file(str(images / name), label) for name, label in classes.items()]


def _classes_by_file(file: Path, lines: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Return the class of every annotated file, in the order of the lines."""
    labels = {name: label for label, name in enumerate(names)}
    found: dict[str, int] = {}
    for line in lines:
        image, name, *_ = *line.split("\t"), ""
        if name not in labels:
            raise InputError(
                f"task.root: {file} has the line {line!r}, which does not name a file and a class of wnids.txt; {ANEW}"
            )
        if image in found:
            raise InputError(f"task.root: {file} names {shown(image)} twice; {ANEW}")
        found[image] = labels[name]
    return found


def _lines(folder: Path, name: str) -> list[str]:
    """Return the lines of one of the set's text files, without empty ones."""
    try:
        text = read_file(folder / name).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"task.root: {folder / name} is no text file ({error}); {ANEW}") from error
    except OSError as error:
        raise InputError(
            f"task: tiny_imagenet is not in {folder.parent} ({folder / name} cannot be read: {error.strerror}); unpack "
            f"{ARCHIVE} there, so that {FOLDER}/ holds wnids.txt, train/ and val/, or name the folder that holds "
            f"{FOLDER}/ by task.root or {DATA_VARIABLE}"
        ) from error
    return [line for line in text.splitlines() if line.strip()]


def _folder(root: str | None) -> Path:
    return ((data_folder() if root is None else Path(root)) / FOLDER).absolute()
