"""COCO, and any data set of boxes in its layout: two folders of images, each with a file of annotations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated as Bounded
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.contracts import Detected
from tskd_tune.errors import InputError
from tskd_tune.files import refuse_endless
from tskd_tune.paths import PathText
from tskd_tune.tasks.annotations import Annotated, read_annotations
from tskd_tune.tasks.base import TASKS, Task
from tskd_tune.tasks.boxed_images import BoxedImages
from tskd_tune.tasks.boxed_parts import BoxedPart, BoxedParts
from tskd_tune.tasks.decoders import PREFETCH, default_workers, refuse_prefetch
from tskd_tune.tasks.decoding import ImageFile
from tskd_tune.tasks.detection import Detection
from tskd_tune.tasks.folders import data_folder
from tskd_tune.tasks.image_files import refuse_lost
from tskd_tune.tasks.listing import Lister
from tskd_tune.tasks.options import BatchSize, DecodingWorkers, Flip, Prefetch, SplitSeed
from tskd_tune.tasks.padded import Padded
from tskd_tune.tasks.scaling import Scaling
from tskd_tune.tasks.words import counted, first_few, shown

FOLDER = "coco"
Side = Bounded[int, Field(ge=16, le=16384)]


@TASKS.register("coco", source="Lin et al., ECCV 2014; its val2017 is the test set, as its test images have no labels")
def coco(
    *,
    root: PathText | None = None,
    train: str = "train2017",
    test: str = "val2017",
    train_annotations: str | None = None,
    test_annotations: str | None = None,
    batch_size: BatchSize = 16,
    validation: NonNegativeInt = 0,
    split_seed: SplitSeed = 0,
    short_side: Side = 800,
    long_side: Side = 1333,
    multi_scale: list[Side] | None = None,
    flip: Flip = True,
    pad_to: PositiveInt = 32,
    without_boxes: Literal["use", "leave_out"] = "use",
    workers: DecodingWorkers = None,
    prefetch: Prefetch = None,
) -> Task[Detected]:
    """COCO 2017 or a folder in its layout: detection, 80 classes, 118,287 images to train and 5,000 to test.

    Boxes are clipped to their image. Boxes outside their image, boxes without an area and crowds are never learned.
    Average precision is computed by faster-coco-eval from the annotations as they are, as COCO's own tools do. Images
    are normalized with ImageNet's mean and standard deviation, and padded with zeros at the right and at the bottom to
    the largest image of their batch.

    Args:
        root: folder of the folders of images and of ``annotations``; null: ``coco`` in ``TSKD_TUNE_DATA``, otherwise in
            the user's cache folder.
        train: folder of the training images, in ``root``.
        test: folder of the test images, in ``root``.
        train_annotations: file of the boxes of the training images, in ``root``; null:
            ``annotations/instances_TRAIN.json`` with the name of the folder.
        test_annotations: file of the boxes of the test images, in ``root``; null: ``annotations/instances_TEST.json``
            with the name of the folder.
        validation: number of training images held out as the validation set, at random.
        short_side: pixels that the shorter side of an image is scaled to.
        long_side: pixels that the longer side has at most; an image that would be longer is scaled to this.
        multi_scale: lengths of the shorter side of which each training image gets one at random, anew in every epoch,
            such as ``[640, 672, 704, 736, 768, 800]``; null: ``short_side``.
        pad_to: height and width of a batch are multiples of this number of pixels.
        without_boxes: whether training images without a box to learn are used, or left out, as many detectors' recipes
            leave them out.
    """
    if long_side < short_side:
        raise InputError(
            f"task.long_side: {long_side} is below task.short_side ({short_side}); raise task.long_side, or lower"
            " task.short_side"
        )
    if multi_scale is not None and not multi_scale:
        raise InputError("task.multi_scale: the list is empty; give at least one length, or null")
    refuse_prefetch(workers, prefetch)
    places = Places(root, train, test, train_annotations, test_annotations)
    feeding = Padded(
        Scaling(short_side, long_side, tuple(multi_scale or ()), flip, pad_to),
        batch_size,
        workers=default_workers() if workers is None else workers,
        prefetch=PREFETCH if prefetch is None else prefetch,
    )
    source = BoxedImages(
        lambda: split_coco(places, validation, split_seed, without_boxes == "leave_out"), feeding.typical
    )
    return Task(source, Detection(source), feeding)


@dataclass(frozen=True)
class Places:
    """Where images and annotations are; the options of the task."""

    root: str | None
    train: str
    test: str
    train_annotations: str | None
    test_annotations: str | None

    @property
    def folder(self) -> Path:
        """The folder of the data set, absolute."""
        return (data_folder() / FOLDER if self.root is None else Path(self.root)).absolute()

    def annotations(self, part: Literal["train", "test"]) -> Path:
        """The file of annotations of a part."""
        images, given = (self.train, self.train_annotations) if part == "train" else (self.test, self.test_annotations)
        return self.folder / (given or f"annotations/instances_{images}.json")


def split_coco(places: Places, validation: int, seed: int, leave_out: bool) -> BoxedParts:
    """Read both files of annotations, look at every image file, and hold out validation images.

    Raises:
        InputError: see `read_annotations`; or image files are missing, the files have other categories, or too few
            images are left.
    """
    root = places.folder
    if not root.is_dir():
        raise InputError(
            f"task.root: there is no folder {shown(str(root))}; give the folder that holds {places.train}/,"
            f" {places.test}/ and annotations/"
        )
    pool = read_annotations(places.annotations("train"), "train_annotations")
    test = read_annotations(places.annotations("test"), "test_annotations")
    _refuse_other_categories(pool, test)
    lister = Lister(str(root))
    files, test_files = (
        _files(root / name, annotated, lister) for name, annotated in ((places.train, pool), (places.test, test))
    )
    used = np.arange(len(pool.images))
    if leave_out:
        can_learn = np.bincount(pool.learned.owners[~pool.learned.crowd], minlength=len(used)) > 0
        for place in used[~can_learn]:
            lister.left.add("no box to learn (task.without_boxes)", f"{places.train}/{pool.images[place].name}")
        used = used[can_learn]
    held, rest = _held_out(used, validation, seed)

    def part(annotated: Annotated, chosen: NDArray[np.int64], paths: Sequence[ImageFile], offset: int) -> BoxedPart:
        return BoxedPart(annotated, chosen, [paths[place] for place in chosen], offset)

    return BoxedParts(
        root,
        part(pool, rest, files, 0),
        part(pool, held, files, len(rest)),
        part(test, np.arange(len(test.images)), test_files, len(rest) + len(held)),
        origins=(f"{places.train}/", "task.validation", f"{places.test}/"),
        left_out=lister.left.all(),
    )


def _held_out(images: NDArray[np.int64], count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take validation images at random; return them and those left, both ascending."""
    if count >= len(images):
        raise InputError(
            f"task.validation: {count} of {counted(len(images), 'training image')} leave none for training; lower"
            " task.validation, or add images"
        )
    order = np.random.RandomState(seed).permutation(len(images))  # NumPy guarantees that this stream never changes
    return np.sort(images[order[:count]]), np.sort(images[order[count:]])


def _refuse_other_categories(training: Annotated, test: Annotated) -> None:
    """Refuse files of annotations that mean different classes."""
    if training.categories == test.categories:
        return
    mine, its = set(training.categories), set(test.categories)
    named = [f"{one.id} '{one.name}'" for one in sorted(mine ^ its)]
    raise InputError(
        f"task.test_annotations: the categories of {test.file} differ from those of {training.file}, in"
        f" {first_few(named)}; give both files the same ids and names of categories"
    )


def _files(folder: Path, annotated: Annotated, lister: Lister) -> list[ImageFile]:
    """Look at the file of every annotated image, and note image files without annotations."""
    files: list[ImageFile] = []
    lost: list[str] = []
    for image in annotated.images:
        path = os.path.join(folder, image.name)  # noqa: PTH118 (of a hundred thousand files, a Path each takes seconds)
        try:
            status = os.stat(path)  # noqa: PTH116
            refuse_endless(status.st_mode)
        except OSError as error:
            lost.append(f"{shown(path)} of {annotated.file.name} cannot be read ({error.strerror})")
            continue
        except ValueError as error:  # the name holds the character U+0000
            lost.append(f"{shown(path)} of {annotated.file.name} cannot be read ({error})")
            continue
        files.append(ImageFile(path, 0, status.st_size, status.st_mtime_ns))
    refuse_lost(lost)
    names = {image.name for image in annotated.images}
    for name in lister.images(str(folder)):
        if name not in names:
            lister.left.add(f"no entry in {annotated.file.name}", lister.relative(str(folder / name)))
    return files
