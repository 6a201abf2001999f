"""ImageNet (ILSVRC 2012) in torchvision's folders; images are decoded and cropped anew for each batch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, final

from filelock import FileLock
from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.errors import InputError, RunError
from tskd_tune.files import write_whole
from tskd_tune.paths import PathText
from tskd_tune.plain import Json
from tskd_tune.registry import NO_IDENTITY
from tskd_tune.tasks.base import TASKS, Task
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.cuts import MiddleCut, ResizedCut
from tskd_tune.tasks.decoders import PREFETCH, default_workers, refuse_prefetch
from tskd_tune.tasks.decoding import DECODING_VERSION
from tskd_tune.tasks.folders import DATA_VARIABLE, data_folder
from tskd_tune.tasks.image_files import FileImages, FileParts, few, held_out, listed
from tskd_tune.tasks.imagenet_archives import ARCHIVES, titles_of, unpack_archives
from tskd_tune.tasks.images import IMAGENET
from tskd_tune.tasks.layouts import class_names
from tskd_tune.tasks.listing import Lister
from tskd_tune.tasks.options import BatchSize, Flip, HeldOut, SplitSeed, UsedFraction
from tskd_tune.tasks.streamed import Streamed
from tskd_tune.tasks.words import counted, first_few, shown

FOLDER = "imagenet"
WNID = re.compile(r"n\d{8}")
"""The name of a class's folder: its number in WordNet."""

RESIZED = 256 / 224
"""The shorter side of an evaluated image, divided by the side of its middle square."""


@TASKS.register(
    "imagenet", source="Russakovsky et al. 2015, arXiv 1409.0575; torchvision's layout; its val/ is the test set"
)
def imagenet(
    *,
    root: PathText | None = None,
    size: Annotated[int, Field(ge=32)] = 224,
    resize: PositiveInt | None = None,
    batch_size: BatchSize = 256,
    validation: HeldOut = 0,
    split_seed: SplitSeed = 0,
    fraction: UsedFraction = None,
    min_area: Annotated[float, Field(gt=0, le=1)] = 0.08,
    max_ratio: Annotated[float, Field(ge=1)] = 4 / 3,
    flip: Flip = True,
    workers: Annotated[NonNegativeInt | None, NO_IDENTITY] = None,
    prefetch: Annotated[PositiveInt | None, NO_IDENTITY] = None,
    unpack: Annotated[bool, NO_IDENTITY] = False,
) -> Task:
    """ImageNet: 1000 classes, 1,281,167 images to train and 50,000 to test, or a part of the classes.

    The folder holds ``train/<wnid>/`` and ``val/<wnid>/``, as torchvision's ``ImageNet`` leaves them; wnids such as
    n01440764 are the numbers of the classes in WordNet. Classes are in the order of wnids. Images are decoded as those
    of ``image_folder``, normalized with ImageNet's mean and standard deviation, and never kept.

    Args:
        root: folder that holds ``train`` and ``val``, or torchvision's archives; null: the folder ``imagenet`` in
            ``TSKD_TUNE_DATA``, otherwise in the user's cache folder.
        size: height and width of an image as the network gets it, in pixels.
        resize: the shorter side of an image in an evaluation, in pixels, before the middle square is cut out; null:
            256 / 224 of ``size``.
        min_area: the smallest part of a training image's area that a random crop shows; the largest part is 1.
        max_ratio: the largest ratio of width to height, and of height to width, of a random crop.
        workers: number of processes that decode images for a training; 0 decodes in the training's own process; null:
            4, or the number of CPUs where there are fewer.
        prefetch: number of batches that each of these processes prepares in advance; null: 2; only where ``workers``
            is above 0.
        unpack: unpack ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz in ``root``
            where ``train`` or ``val`` is missing; torchvision checks and unpacks them.
    """
    shorter = round(size * RESIZED) if resize is None else resize
    _refuse(size, shorter, workers, prefetch)
    selection = Selection(validation, split_seed, fraction)
    source = ImageNetFiles(
        lambda: split_imagenet(_folder(root), selection, unpack=unpack),
        size=size,
        normalization="imagenet",
        constants=IMAGENET,
        kept=False,
    )
    middle = MiddleCut(shorter, size)
    feeding = Streamed(
        ResizedCut(middle, (min_area, 1.0), (1 / max_ratio, max_ratio), flip),
        middle,
        batch_size,
        workers=default_workers() if workers is None else workers,
        prefetch=PREFETCH if prefetch is None else prefetch,
        least=batch_size,
    )
    return Task(source, Classification(), feeding)


@dataclass(frozen=True)
class Selection:
    """Which files are used, and for what; the options of the task."""

    validation: int
    split_seed: int
    fraction: float | None


@final
class ImageNetFiles(FileImages):
    """ImageNet's files: so many that no header is read to name them, and that they are verified once a machine."""

    def identity(self) -> Mapping[str, Json]:
        """Return the names and sizes of the files of each part, and always the version of the decoding."""
        return {**self.named(), "decoding": DECODING_VERSION}

    def verify(self) -> list[str]:
        """Decode all images once, and return a sentence for each oddity, which is kept in the data folder.

        Raises:
            InputError: files cannot be read.
            RunError: a file vanished, or what was found cannot be written.
        """
        kept = data_folder() / "decoded" / f"{self.location()}.verified.json"
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(kept.with_suffix(".lock")):
                found = _read(kept)
                if found is None:
                    found = super().verify()
                    write_whole(kept, json.dumps(found))
        except OSError as error:
            raise RunError(
                f"task: what was found in the images cannot be written to {kept} ({error}); free some space, or set"
                f" {DATA_VARIABLE} to a folder that can be written"
            ) from error
        return found


def split_imagenet(folder: Path, selection: Selection, *, unpack: bool = False) -> FileParts:
    """List the images of ``train/`` and ``val/``, which is the test set; the classes are in the order of wnids.

    Args:
        folder: the folder of ``train`` and ``val``, absolute.
        selection: what is held out and used.
        unpack: unpack torchvision's archives first, where one of the two is missing.

    Raises:
        InputError: a folder or the images of a class are missing, or ``val/`` was never sorted into classes.
        RunError: the archives cannot be unpacked.
    """
    if unpack:
        unpack_archives(folder)
    lister = Lister(str(folder))
    layout = {"training": folder / "train", "test": folder / "val"}
    for place in layout.values():
        _require(place)
    _refuse_loose(layout["test"], lister)
    names = class_names(folder, layout, lister)
    _refuse_other_names(layout["training"], names)
    pool = listed(layout["training"], names, remedy="unpack its archive anew", lister=lister)
    test = listed(layout["test"], names, remedy="unpack the archive of val/ anew", lister=lister)
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
        titles=titles_of(folder),
    )


def _require(place: Path) -> None:
    """Refuse a folder that is missing, or that was unpacked only in part."""
    archive = ARCHIVES[place.name]
    if not place.is_dir():
        there = (place.parent / archive).is_file()
        what = (
            f"{archive} is there: set task.unpack to true, and torchvision unpacks it"
            if there
            else f"put train/<wnid>/*.JPEG and val/<wnid>/*.JPEG there, or torchvision's archives ({archive}) with"
            f" task.unpack set to true, or name the folder that holds train/ and val/ by task.root or {DATA_VARIABLE}"
        )
        raise InputError(f"task: imagenet is not in {shown(str(place.parent))} (it has no {place.name}/); {what}")
    tars = sorted(path.name for path in place.glob("n*.tar"))
    if tars:
        raise InputError(
            f"task.root: {shown(str(place))} holds {counted(len(tars), 'archive')} of classes, such as {tars[0]}, that"
            " was never unpacked; unpack each into a folder of its name, or remove the folder and set task.unpack to"
            " true"
        )


def _refuse_loose(val: Path, lister: Lister) -> None:
    """Refuse a ``val/`` whose images lie side by side, as their archive holds them."""
    loose = lister.images(str(val))
    if loose:
        raise InputError(
            f"task.root: {shown(str(val))} holds {counted(len(loose), 'image')} such as {shown(loose[0])} in no class"
            f" folder, so that their classes are unknown; remove {val.name}/, put {ARCHIVES['val']} and"
            f" {ARCHIVES['devkit']} into {shown(str(val.parent))} and set task.unpack to true, or sort the images into"
            f" {val.name}/<wnid>/"
        )


def _refuse_other_names(train: Path, names: Sequence[str]) -> None:
    """Refuse classes that are not named by wnids: published weights would read their order wrongly."""
    others = [name for name in names if not WNID.fullmatch(name)]
    if others:
        raise InputError(
            f"task.root: {shown(str(train))} holds the class folders {first_few(others)}, which are no wnids such as"
            " n01440764, and the order of ImageNet's classes is that of wnids; rename the folders, or use the task"
            " image_folder"
        )


def _refuse(size: int, shorter: int, workers: int | None, prefetch: int | None) -> None:
    """Refuse options that do not fit one another."""
    if shorter < size:
        raise InputError(
            f"task.resize: {shorter} is less than task.size, {size}, so that the middle square would have black edges;"
            f" give at least {size}"
        )
    refuse_prefetch(workers, prefetch)


def _read(path: Path) -> list[str] | None:
    """Read what was found before; None where there is nothing, or nothing whole."""
    try:
        return [str(sentence) for sentence in json.loads(path.read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _folder(root: str | None) -> Path:
    return (data_folder() / FOLDER if root is None else Path(root)).absolute()
