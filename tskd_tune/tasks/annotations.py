"""Annotations in COCO's format: read, checked, and kept as arrays, because a data set has hundreds of thousands."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated as Bounded
from typing import Literal, NamedTuple, NotRequired, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from tskd_tune.errors import InputError, sentences
from tskd_tune.files import read_file
from tskd_tune.tasks.words import counted, first_few, shown

LEAST_SIDE = 0.01
"""Pixels of the shorter side of a box that can be learned, after clipping; COCO rounds to this."""
TOLERANCE = 1.0
"""Pixels by which a box may reach beyond its image without a word: COCO's own boxes do, by rounding."""
MOST_NAMED = 3

Whole: TypeAlias = Bounded[int, Field(strict=True, gt=-(2**62), lt=2**62)]
Length: TypeAlias = Bounded[int, Field(strict=True, gt=0, lt=2**31)]
Place: TypeAlias = Bounded[float, Field(strict=True, allow_inf_nan=False, gt=-(2**31), lt=2**31)]
Side: TypeAlias = Bounded[float, Field(strict=True, allow_inf_nan=False, ge=0, lt=2**31)]
Area: TypeAlias = Bounded[float, Field(strict=True, allow_inf_nan=False, ge=0, lt=2**62)]
Name: TypeAlias = Bounded[str, Field(min_length=1)]


class CategoryEntry(TypedDict):
    """What is read of an entry of ``categories``."""

    id: Whole
    name: Name


class ImageEntry(TypedDict):
    """What is read of an entry of ``images``."""

    id: Whole
    file_name: Name
    height: Length
    width: Length


class BoxEntry(TypedDict):
    """What is read of an entry of ``annotations``; outlines are skipped."""

    id: Whole
    image_id: Whole
    category_id: Whole
    bbox: tuple[Place, Place, Side, Side]
    area: NotRequired[Area]
    iscrowd: NotRequired[Literal[0, 1]]


class Content(TypedDict):
    """What is read of a file."""

    images: list[ImageEntry]
    annotations: list[BoxEntry]
    categories: list[CategoryEntry]


class Category(NamedTuple):
    """A class: its id in the file, and its name."""

    id: int
    name: str


class Picture(NamedTuple):
    """An image as annotated: its id in the file, the name of its file, and its size in pixels."""

    id: int
    name: str
    height: int
    width: int


@dataclass(frozen=True)
class Learned:
    """The boxes of a file that can be learned, clipped to their images, in the order of the images.

    Attributes:
        corners: ``[K, 4]``, x1, y1, x2, y2 in pixels of the image.
        labels: ``[K]``, the class.
        crowd: ``[K]``, whether the box is a region of many objects.
        starts: ``[N + 1]``, where the boxes of each image begin.
        owners: ``[K]``, the image of each box.
        used: ``[T]``, whether the box of an annotation is among them.
        outside: the ids of annotations whose box lies outside its image; these boxes are left out.
        empty: the ids of annotations whose box has no area; these boxes are left out.
        clipped: the ids of annotations whose box reached beyond its image by more than a pixel.
    """

    corners: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    starts: NDArray[np.int64]
    owners: NDArray[np.int64]
    used: NDArray[np.bool_]
    outside: NDArray[np.int64]
    empty: NDArray[np.int64]
    clipped: NDArray[np.int64]

    def of(self, image: int) -> slice:
        """Return where the boxes of an image stand."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))


@dataclass(frozen=True)
class Annotated:
    """A file of annotations.

    Attributes:
        file: where it was read.
        categories: the classes, in the order of their ids, which may have gaps.
        images: the images, in the order of their ids.
        ids: ``[T]``, the id of each annotation; the annotations of an image stand together, in the order of the file.
        boxes: ``[T, 4]``, x, y, width and height as annotated, in pixels.
        labels: ``[T]``, the class: the place of its category.
        areas: ``[T]``, the area as annotated, which is that of the object's outline, and decides on small and large.
        crowd: ``[T]``, whether the annotation is a region of many objects.
        starts: ``[N + 1]``, where the annotations of each image begin.
        unmeasured: the ids of annotations without an area, which have that of their box.
    """

    file: Path
    categories: tuple[Category, ...]
    images: tuple[Picture, ...]
    ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    starts: NDArray[np.int64]
    unmeasured: NDArray[np.int64]

    def of(self, image: int) -> slice:
        """Return where the annotations of an image stand."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """The image of each annotation, ``[T]``."""
        return np.repeat(np.arange(len(self.images)), np.diff(self.starts))

    @cached_property
    def learned(self) -> Learned:
        """The boxes that can be learned."""
        sizes = np.array([(image.width, image.height) for image in self.images], dtype=np.float64).reshape(-1, 2)
        limits = sizes[self.owners]
        first, last = self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]
        corners = np.concatenate([first.clip(0, limits), last.clip(0, limits)], axis=1)
        beyond = np.maximum(-first, last - limits).max(axis=1, initial=0)
        empty = self.boxes[:, 2:].min(axis=1, initial=math.inf) < LEAST_SIDE
        small = (corners[:, 2:] - corners[:, :2]).min(axis=1, initial=math.inf) < LEAST_SIDE
        used = ~(empty | small)
        counts = np.bincount(self.owners[used], minlength=len(self.images))
        return Learned(
            corners=corners[used].astype(np.float32),
            labels=self.labels[used],
            crowd=self.crowd[used],
            starts=np.concatenate([[0], counts.cumsum()]).astype(np.int64),
            owners=self.owners[used],
            used=used,
            outside=self.ids[small & ~empty],
            empty=self.ids[empty],
            clipped=self.ids[used & (beyond > TOLERANCE)],
        )


def read_annotations(file: Path, option: str) -> Annotated:
    """Read a file of annotations.

    Args:
        file: the file.
        option: the option of the task that names the file, for messages.

    Raises:
        InputError: the file is missing, is no file of boxes in COCO's format, or contradicts itself.
    """
    found = _content(file, option)
    for name in ("categories", "images"):
        if not found[name]:
            raise InputError(f"task.{option}: {shown(str(file))} has no entry in {name}; give a file with at least one")
    _refuse_twice((entry["id"] for entry in found["categories"]), "categories", "id", file)
    _refuse_twice((entry["name"] for entry in found["categories"]), "categories", "name", file)
    _refuse_twice((entry["id"] for entry in found["images"]), "images", "id", file)
    _refuse_twice((entry["file_name"] for entry in found["images"]), "images", "file_name", file)
    _refuse_twice((entry["id"] for entry in found["annotations"]), "annotations", "id", file)
    _refuse_unknown(found["annotations"], "image_id", {entry["id"] for entry in found["images"]}, "images", file)
    categories = {entry["id"] for entry in found["categories"]}
    _refuse_unknown(found["annotations"], "category_id", categories, "categories", file)
    return _arranged(file, found)


def _content(file: Path, option: str) -> Content:
    """Read and check the entries of a file, one by one."""
    try:
        text = read_file(file)
    except OSError as error:
        raise InputError(
            f"task.{option}: the annotations {shown(str(file))} cannot be read ({error.strerror}){_beside(file)}; name"
            f" the folder by task.root, and the file in it by task.{option}"
        ) from error
    try:
        return TypeAdapter(Content).validate_json(text)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            said = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise InputError(
                f"task.{option}: {shown(str(file))} cannot be read ({said}); give a file of boxes in COCO's format"
            ) from error
        lines = sentences(error)
        more = f"; and {len(lines) - MOST_NAMED} more" if len(lines) > MOST_NAMED else ""
        raise InputError(
            f"task.{option}: {shown(str(file))} is no file of boxes in COCO's format, such as instances_train2017.json:"
            f" {'; '.join(map(shown, lines[:MOST_NAMED]))}{more}; correct or remove these entries"
        ) from error


def _beside(file: Path) -> str:
    """Name the JSON files that stand where a file was looked for."""
    if not file.parent.is_dir():
        return f"; there is no folder {shown(str(file.parent))}"
    names = sorted(path.name for path in file.parent.glob("*.json"))
    return f"; {shown(str(file.parent))} has {first_few(names)}" if names else ""


def _refuse_twice(values: Iterable[int | str], name: str, key: str, file: Path) -> None:
    twice = [str(value) for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InputError(
            f"task.root: {shown(str(file))} has several {name} with the same {key}: {first_few(twice)}; give each"
            f" its own {key}"
        )


def _refuse_unknown(
    entries: Sequence[BoxEntry], key: Literal["image_id", "category_id"], known: set[int], name: str, file: Path
) -> None:
    wrong = [entry for entry in entries if entry[key] not in known]
    if wrong:
        raise InputError(
            f"task.root: in {shown(str(file))} the {key} of {len(wrong)} of {counted(len(entries), 'annotation')} is in"
            f" no entry of {name}, such as {wrong[0][key]} of annotation {wrong[0]['id']}; correct or remove these"
            " annotations"
        )


def _arranged(file: Path, found: Content) -> Annotated:
    """Put the annotations into the order of the images."""
    entries = found["annotations"]
    images = sorted(
        Picture(entry["id"], entry["file_name"], entry["height"], entry["width"]) for entry in found["images"]
    )
    categories = sorted(Category(entry["id"], entry["name"]) for entry in found["categories"])
    places = {picture.id: place for place, picture in enumerate(images)}
    classes = {category.id: place for place, category in enumerate(categories)}
    owners = np.array([places[entry["image_id"]] for entry in entries], dtype=np.int64)
    order = np.argsort(owners, kind="stable")
    ids = np.array([entry["id"] for entry in entries], dtype=np.int64)
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    areas = np.array([entry.get("area", math.nan) for entry in entries], dtype=np.float64)
    return Annotated(
        file=file,
        categories=tuple(categories),
        images=tuple(images),
        ids=ids[order],
        boxes=boxes[order],
        labels=np.array([classes[entry["category_id"]] for entry in entries], dtype=np.int64)[order],
        areas=np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas)[order],
        crowd=np.array([entry.get("iscrowd", 0) == 1 for entry in entries], dtype=np.bool_)[order],
        starts=np.concatenate([[0], np.bincount(owners, minlength=len(images)).cumsum()]).astype(np.int64),
        unmeasured=ids[np.isnan(areas)],
    )
