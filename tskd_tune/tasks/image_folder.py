"""Any folder of class folders of images, resized and decoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.errors import InputError
from tskd_tune.paths import PathText
from tskd_tune.tasks.base import TASKS, Feeding, Task
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.cuts import PaddedCut
from tskd_tune.tasks.decoders import PREFETCH, default_workers, refuse_prefetch
from tskd_tune.tasks.decoding import ImageFile
from tskd_tune.tasks.image_files import FileImages, FileParts, held_out, listed
from tskd_tune.tasks.images import IMAGENET, Augmentation
from tskd_tune.tasks.layouts import class_names, layout_of
from tskd_tune.tasks.listing import Lister
from tskd_tune.tasks.options import BatchSize, FeedKind, FeedName, Flip, Padding, Prefetch, SplitSeed, Workers
from tskd_tune.tasks.resident import Resident
from tskd_tune.tasks.splits import TEST_SEED
from tskd_tune.tasks.streamed import Streamed
from tskd_tune.tasks.words import counted

Constants = Literal["measured", "imagenet"]

DEFAULT_TEST_FRACTION = 0.2
REMEDY = "add some or remove the folder"


@TASKS.register("image_folder", source="the layout of torchvision's ImageFolder")
def image_folder(
    *,
    root: Annotated[PathText, Field(examples=["data/flowers"])],
    size: PositiveInt = 32,
    batch_size: BatchSize = 128,
    validation: NonNegativeInt = 0,
    split_seed: SplitSeed = 0,
    classes: Annotated[int, Field(ge=2)] | None = None,
    per_class: PositiveInt | None = None,
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None,
    padding: Padding = 4,
    flip: Flip = True,
    normalization: Constants = "measured",
    feed: FeedKind = "resident",
    workers: Workers = None,
    prefetch: Prefetch = None,
) -> Task:
    """A folder of class folders of images, or of such folders named train, test and val.

    With ``train/`` and ``test/`` beside it, or ``val/`` where there is no ``test/``, that is the test set. With all
    three, ``val/`` is the validation set, whole, and ``validation`` must stay 0. A single folder is split by a constant
    seed.

    Hidden and tool-made files and folders are left out. Photographs are turned as their EXIF orientation says.
    Transparent pixels show white. 16-bit gray becomes its upper eight bits, as do 32-bit integers up to 65535; 32-bit
    floats must lie from 0 to 1. Of several frames the first is taken.

    Args:
        root: folder of a folder of images per class, or of such folders in ``train``, ``val`` and ``test``; these names
            count in any case, and so do ``training``, ``valid``, ``validation`` and ``testing``.
        size: height and width, in pixels, to which the middle square of every image is scaled.
        validation: number of training images held out as the validation set, in proportion to the classes.
        classes: number of class folders that are used, the first in the order of their names; null: all.
        per_class: number of images that are used of each class, the first by name, without those of the test set; the
            validation set is held out of them; null: all.
        test_fraction: share of a single folder that becomes the test set; null: 0.2; refused where there is a test set
            of its own.
        normalization: mean and standard deviation that pixels are normalized with: those measured in the training set,
            or ImageNet's.
    """
    feeding = _feeding(feed, Augmentation(padding, flip), batch_size, workers, prefetch)
    selection = Selection(validation, split_seed, classes, per_class, test_fraction)
    source = FileImages(
        lambda: split_folder(Path(root).absolute(), selection),
        size=size,
        normalization=normalization,
        constants=None if normalization == "measured" else IMAGENET,
        kept=feed == "resident",
    )
    return Task(source, Classification(), feeding)


def _feeding(
    feed: FeedName, augmentation: Augmentation, batch_size: int, workers: int | None, prefetch: int | None
) -> Feeding:
    """Choose the feeding.

    Raises:
        InputError: an option was given that does not apply.
    """
    if feed == "resident":
        for name, given in (("workers", workers), ("prefetch", prefetch)):
            if given is not None:
                raise InputError(
                    f"task.{name}: {given} does not apply where task.feed is 'resident', which decodes all images once;"
                    f" remove task.{name}, or set task.feed to streamed"
                )
        return Resident(augmentation, batch_size)
    refuse_prefetch(workers, prefetch)
    return Streamed(
        PaddedCut(augmentation),
        PaddedCut(Augmentation(0, flip=False)),
        batch_size,
        workers=default_workers() if workers is None else workers,
        prefetch=PREFETCH if prefetch is None else prefetch,
    )


@dataclass(frozen=True)
class Selection:
    """Which files are used, and for what; the options of the task."""

    validation: int
    split_seed: int
    classes: int | None
    per_class: int | None
    test_fraction: float | None


def split_folder(folder: Path, selection: Selection) -> FileParts:
    """List the images of a folder, which is an absolute path, and split them.

    Raises:
        InputError: the folder, a class in one of the parts or the images of a class are missing.
    """
    lister = Lister(str(folder))
    layout = layout_of(folder, lister)
    _refuse_needless(folder, layout, selection)
    names = _chosen(folder, layout, selection.classes, lister)
    pool = listed(layout["training"], names, remedy=REMEDY, lister=lister)
    if "test" in layout:
        test = listed(layout["test"], names, remedy=REMEDY, lister=lister)
    else:
        total = _test_images(len(pool), selection.test_fraction or DEFAULT_TEST_FRACTION, len(names))
        test, pool = held_out(pool, total, seed=TEST_SEED, names=names, option="test_fraction")
    used = _first_of_each(pool, selection.per_class, names)
    for file in _rest(pool, used):
        lister.left.add("beyond task.per_class", lister.relative(file.path))
    if "validation" in layout:
        training, validation = used, listed(layout["validation"], names, remedy=REMEDY, lister=lister)
    else:
        validation, training = held_out(
            used, selection.validation, seed=selection.split_seed, names=names, option="validation"
        )
    origins = _origins(layout, selection)
    return FileParts(folder, names, training, validation, test, origins=origins, left_out=lister.left.all())


def _test_images(images: int, fraction: float, classes: int) -> int:
    """Return how many images of a single folder become the test set; at least one of each class is needed."""
    total = round(images * fraction)
    if total < classes:
        raise InputError(
            f"task.test_fraction: {fraction:g} of {counted(images, 'image')} is {counted(total, 'test image')}, but the"
            f" test set needs one of each of the {classes} classes; add images, or give at least {classes / images:.2g}"
        )
    return total


def _chosen(folder: Path, layout: Mapping[str, Path], first: int | None, lister: Lister) -> list[str]:
    """Return the names of the classes that are used."""
    names = class_names(folder, layout, lister)
    if first is not None and first > len(names):
        raise InputError(f"task.classes: {first} were asked for but {folder} has {len(names)}; give fewer")
    for name in names[first:] if first is not None else ():
        lister.left.add("beyond task.classes", name)
    return names[:first]


def _refuse_needless(folder: Path, layout: Mapping[str, Path], selection: Selection) -> None:
    """Refuse options that would hold out a set that the folder already has."""
    if "test" in layout and selection.test_fraction is not None:
        raise InputError(
            f"task.test_fraction: is {selection.test_fraction}, but {folder} has a test set of its own in"
            f" {layout['test'].name}/; remove task.test_fraction"
        )
    if "validation" in layout and selection.validation:
        raise InputError(
            f"task.validation: {folder} has validation images of its own in {layout['validation'].name}/, but"
            f" {selection.validation} were asked for; set task.validation to 0"
        )


def _origins(layout: Mapping[str, Path], selection: Selection) -> tuple[str, str, str]:
    """Say where the training, the validation and the test part come from."""
    if "test" not in layout:
        fraction = selection.test_fraction or DEFAULT_TEST_FRACTION
        return "", "task.validation", f"{fraction:g} of each class"
    held = f"{layout['validation'].name}/" if "validation" in layout else "task.validation"
    return f"{layout['training'].name}/", held, f"{layout['test'].name}/"


def _rest(files: Sequence[ImageFile], used: Sequence[ImageFile]) -> list[ImageFile]:
    if len(files) == len(used):
        return []
    kept = {file.path for file in used}
    return [file for file in files if file.path not in kept]


def _first_of_each(files: list[ImageFile], count: int | None, names: Sequence[str]) -> list[ImageFile]:
    if count is None:
        return files
    members: list[list[ImageFile]] = [[] for _ in names]
    for file in files:
        members[file.label].append(file)
    for name, group in zip(names, members, strict=True):
        if len(group) < count:
            raise InputError(
                f"task.per_class: class '{name}' has {counted(len(group), 'training image')} but {count} were asked"
                " for; give a lower number"
            )
    return [file for group in members for file in group[:count]]
