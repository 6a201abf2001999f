"""Tiny ImageNet: 200 classes of ImageNet at 64 x 64, in the folders of the published archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from tskd_tune.errors import InputError
from tskd_tune.paths import PathText
from tskd_tune.tasks.base import TASKS, Task
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.decoding import ImageFile
from tskd_tune.tasks.folders import DATA_VARIABLE, data_folder
from tskd_tune.tasks.image_files import FileImages, FileParts, few, found_file, held_out, listed
from tskd_tune.tasks.images import IMAGENET, Augmentation, Normalization
from tskd_tune.tasks.splits import Fraction

Constants = Literal["tiny_imagenet", "imagenet", "measured"]

NORMALIZATIONS = {
    "tiny_imagenet": Normalization(mean=(0.4802, 0.4481, 0.3975), std=(0.2302, 0.2265, 0.2262)),
    "imagenet": IMAGENET,
}
"""Tiny ImageNet's as mdistiller uses them; the deviation is the mean of each image's own, less than of all pixels."""

FOLDER = "tiny-imagenet-200"
ARCHIVE = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


@TASKS.register("tiny_imagenet", source="Stanford CS231n 2015; its val/ is the test part, as its test/ has no labels")
def tiny_imagenet(
    *,
    batch_size: PositiveInt = 128,
    size: Literal[64, 32] = 64,
    validation: NonNegativeInt = 0,
    split_seed: NonNegativeInt = 0,
    fraction: Fraction | None = None,
    padding: NonNegativeInt = 4,
    flip: bool = True,
    normalization: Constants = "tiny_imagenet",
    root: PathText | None = None,
) -> Task:
    """Tiny ImageNet: 200 classes, 100,000 color images of 64 x 64 to train and 10,000 to test.

    Args:
        batch_size: images in a training batch.
        size: height and width of an image, in pixels; 32 scales the images down, for networks made for CIFAR.
        validation: number of training images held out as the validation set, the same number of each class as far as
            possible.
        split_seed: seed that decides which images are held out for validation; it does not change the test set.
        fraction: share of each class's remaining training images that is used, the same images for every seed; a
            smaller share is a part of a larger one; null: all.
        padding: zero pixels added to each side of a training image before a random crop of its size; 0: no random crop.
        flip: mirror a random half of the training images, anew in every epoch.
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
    return Classification(source, Augmentation(padding, flip), batch_size)


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
    names = sorted(_lines(folder, "wnids.txt"))
    pool = listed(folder / "train", names, remedy=f"unpack {ARCHIVE} anew")
    validation, left = held_out(pool, selection.validation, seed=selection.split_seed, names=names, option="validation")
    training, unused = few(left, selection.fraction, names)
    return FileParts(folder, names, training, validation, list(_annotated(folder, names)), unused)


def _annotated(folder: Path, names: Sequence[str]) -> Iterator[ImageFile]:
    """Look at every image of ``val/images`` that the annotations name: file, class and box, parted by tabs."""
    labels = {name: label for label, name in enumerate(names)}
    for line in _lines(folder, "val/val_annotations.txt"):
        file, name, *_ = *line.split("\t"), ""
        if name not in labels:
            raise InputError(
                f"task.root: {folder / 'val' / 'val_annotations.txt'} has the line {line!r}, which does not name a "
                f"file and a class of wnids.txt; unpack {ARCHIVE} anew"
            )
        yield found_file(str(folder / "val" / "images" / file), labels[name])


def _lines(folder: Path, name: str) -> list[str]:
    """Return the lines of one of the set's text files, without empty ones."""
    try:
        text = (folder / name).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"task: tiny_imagenet is not in {folder.parent} ({folder / name} cannot be read: {error.strerror}); unpack "
            f"{ARCHIVE} there, so that {FOLDER}/ holds wnids.txt, train/ and val/, or name the folder that holds "
            f"{FOLDER}/ by task.root or {DATA_VARIABLE}"
        ) from error
    return [line for line in text.splitlines() if line.strip()]


def _folder(root: str | None) -> Path:
    return ((data_folder() if root is None else Path(root)) / FOLDER).absolute()
