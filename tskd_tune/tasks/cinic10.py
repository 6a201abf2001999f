"""CINIC-10: CIFAR-10 with downsampled images of ImageNet, in the folders of the published archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt

from tskd_tune.errors import InputError
from tskd_tune.paths import PathText
from tskd_tune.tasks.base import TASKS, Task
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.decoding import ImageFile
from tskd_tune.tasks.folders import DATA_VARIABLE, data_folder
from tskd_tune.tasks.image_files import FileImages, FileParts, few, held_out, listed
from tskd_tune.tasks.images import Augmentation, Normalization
from tskd_tune.tasks.listing import Lister
from tskd_tune.tasks.options import BatchSize, Flip, Padding, SplitSeed, UsedFraction
from tskd_tune.tasks.resident import Resident

Use = Literal["validation", "training", "unused"]
Constants = Literal["cinic10", "measured"]

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
"""In the order of CIFAR-10, so that a network trained on one can be tried on the other."""

NORMALIZATION = Normalization(mean=(0.47889522, 0.47227842, 0.43047404), std=(0.24205776, 0.23828046, 0.25874835))
"""The published constants."""

ARCHIVE = "CINIC-10.tar.gz from https://doi.org/10.7488/ds/2448"
FOLDER = "cinic-10"
PARTS = ("train", "valid", "test")


@TASKS.register("cinic10", source="Darlow et al. 2018, arXiv 1810.03505; the published split and constants")
def cinic10(
    *,
    batch_size: BatchSize = 128,
    valid_part: Use = "validation",
    validation: NonNegativeInt = 0,
    split_seed: SplitSeed = 0,
    fraction: UsedFraction = None,
    padding: Padding = 4,
    flip: Flip = True,
    normalization: Constants = "cinic10",
    root: PathText | None = None,
) -> Task:
    """CINIC-10: ten classes, color images of 32 x 32; 90,000 each to train, to validate and to test.

    Args:
        valid_part: the use of the 90,000 images in ``valid/``: ``validation``: the validation set; ``training``:
            further training images, as in the authors' second benchmark; ``unused``: not read, which saves their
            evaluation after every epoch.
        validation: number of training images held out as the validation set, the same number of each class as far as
            possible; must be 0 where ``valid/`` is the validation set.
        normalization: mean and standard deviation that pixels are normalized with: the published ones, or those
            measured in the training set.
        root: folder that holds ``train/``, ``valid/`` and ``test/``; null: ``cinic-10`` in ``TSKD_TUNE_DATA``,
            otherwise in the user's cache folder.
    """
    selection = Selection(valid_part, validation, split_seed, fraction)
    source = FileImages(
        lambda: split_cinic10(_folder(root), selection),
        size=32,
        normalization=normalization,
        constants=None if normalization == "measured" else NORMALIZATION,
    )
    return Task(source, Classification(), Resident(Augmentation(padding, flip), batch_size))


@dataclass(frozen=True)
class Selection:
    """Which files are used, and for what; the options of the task."""

    valid_part: Use
    validation: int
    split_seed: int
    fraction: float | None


def split_cinic10(folder: Path, selection: Selection) -> FileParts:
    """List the images of the three published folders and split them.

    Raises:
        InputError: a folder or the images of a class are missing, or a number does not apply.
    """
    if selection.valid_part == "validation" and selection.validation:
        raise InputError(
            f"task.validation: valid/ is used whole as the validation set, but {selection.validation} training images"
            " are to be held out too; set task.validation to 0, or task.valid_part to training or unused"
        )
    lister = Lister(str(folder))
    train, valid, test = (_listed(folder, part, lister) for part in PARTS)
    pool = [*train, *valid] if selection.valid_part == "training" else train
    held, left = held_out(pool, selection.validation, seed=selection.split_seed, names=CLASSES, option="validation")
    training, unused = few(left, selection.fraction, CLASSES)
    if selection.valid_part == "validation":
        held = valid
    if selection.valid_part == "unused":
        unused = [*unused, *valid]
    origins = _origins(selection.valid_part)
    return FileParts(folder, CLASSES, training, held, test, unused, origins=origins, left_out=lister.left.all())


def _origins(valid_part: Use) -> tuple[str, str, str]:
    """Say where the training, the validation and the test part come from."""
    training = "train/ and valid/" if valid_part == "training" else "train/"
    return training, "valid/" if valid_part == "validation" else "task.validation", "test/"


def _listed(folder: Path, part: str, lister: Lister) -> list[ImageFile]:
    if not (folder / part).is_dir():
        raise InputError(
            f"task: cinic10 is not in {folder} (there is no {part}/); get {ARCHIVE} and unpack it there, so that "
            f"train/, valid/ and test/ hold a folder for each class, or name the folder that holds them by task.root "
            f"or, where it is called {FOLDER}, the one above it by {DATA_VARIABLE}"
        )
    lister.note_others(str(folder / part), CLASSES)
    return listed(folder / part, CLASSES, remedy=f"unpack {ARCHIVE} anew", lister=lister)


def _folder(root: str | None) -> Path:
    return (data_folder() / FOLDER if root is None else Path(root)).absolute()
