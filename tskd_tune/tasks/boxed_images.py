"""The source of images with annotated boxes, and what is odd in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tskd_tune.errors import InputError
from tskd_tune.plain import Json
from tskd_tune.tasks.annotations import Annotated, Picture
from tskd_tune.tasks.base import Source, TaskFacts
from tskd_tune.tasks.boxed_parts import BoxedPart, BoxedParts, BoxedSamples, oriented
from tskd_tune.tasks.decoding import AT_ONCE, ImageFile, unreadable
from tskd_tune.tasks.doubles import doubles
from tskd_tune.tasks.summary import MOST_EXAMPLES, BoxCounts, DataSummary, LeftOut, Sizes
from tskd_tune.tasks.threads import mapped
from tskd_tune.tasks.truth import Objects
from tskd_tune.tasks.words import counted, first_few

Oddity: TypeAlias = Callable[[Annotated], NDArray[np.int64]]


class BoxedImages(Source):
    """Images with boxes; an image is decoded when it is asked for, and is not kept."""

    def __init__(
        self, split: Callable[[], BoxedParts], typical: Callable[[BoxedPart], tuple[int, int]] | None = None
    ) -> None:
        """Take the functions that make the parts and look at them; they are called when they are needed.

        Args:
            split: reads the annotations, and splits the images.
            typical: returns height and width of a usual batch of the training set.
        """
        self._split = split
        self._typical = typical

    @cached_property
    def parts(self) -> BoxedParts:
        """The images of each part."""
        return self._split()

    def facts(self) -> TaskFacts:
        """Read the annotations; no image is opened.

        Raises:
            InputError: see `read_annotations`; or a part has no image, or no box.
        """
        return self._facts

    @cached_property
    def _facts(self) -> TaskFacts:
        parts = self.parts
        for name, part in parts.all.items():
            if len(part) and not (part.members & ~part.annotated.crowd).any():
                raise InputError(
                    f"task.root: none of the {counted(len(part), f'{name} image')} has a box in"
                    f" {part.annotated.file}, so there is nothing to learn or to find; add annotations or other images"
                )
        samples = (len(parts.training), len(parts.validation), len(parts.test))
        typical = None if self._typical is None else self._typical(parts.training)
        return TaskFacts((3, None, None), len(parts.names), samples, classes=False, boxes=True, typical=typical)

    def identity(self) -> Mapping[str, Json]:
        """Return the classes, and a digest of names, sizes and boxes of each part."""
        parts = self.parts
        return {"classes": parts.names, "data": {name: part.digest() for name, part in parts.all.items()}}

    def location(self) -> str:
        """Return the folder."""
        return str(self.parts.root)

    def count(self) -> int:
        """Return the number of images of all three parts."""
        return sum(map(len, self.parts.all.values()))

    def objects(self, index: int) -> Objects:
        """Return what is annotated in the image of an index, which counts through all three parts."""
        part = next(part for part in [*self.parts.all.values()][::-1] if index >= part.offset and len(part))
        return part.objects(index - part.offset)

    def categories(self) -> Sequence[int]:
        """Return the id of each class in the files of annotations."""
        return [category.id for category in self.parts.training.annotated.categories]

    def names(self) -> Sequence[str]:
        """Return the name of each class."""
        return self.parts.names

    def samples(self, part: str) -> BoxedSamples:
        """Return the images of a part, each decoded when it is asked for."""
        return BoxedSamples(self.parts.all[part])

    def summary(self) -> DataSummary:
        """Count images and boxes; the sizes of the images are those annotated."""
        parts = self.parts
        every = list(parts.all.values())
        labels = np.concatenate([part.annotated.labels[part.members] for part in every])
        pictures = [part.annotated.images[place] for part in every for place in part.places]
        return DataSummary(
            source=str(parts.root),
            classes=tuple(parts.names),
            counts=tuple(np.bincount(labels, minlength=len(parts.names)).tolist()),
            samples=(len(parts.training), len(parts.validation), len(parts.test)),
            origins=parts.origins,
            size=None,
            sizes=Sizes.of([(picture.width, picture.height) for picture in pictures]),
            left_out=(*parts.left_out, *self._boxes_left_out()),
            boxes=BoxCounts(*zip(*(part.box_counts() for part in every), strict=True)),
        )

    def verify(self) -> list[str]:
        """Decode all images, and return a sentence for each oddity.

        Raises:
            InputError: images cannot be read, or have another size than annotated; all are counted.
            RunError: a file vanished.
        """
        self.facts()
        parts = self.parts
        stored: list[str] = []
        for part in parts.all.values():
            stored += _as_stored(part)
        name = partial(_below, root=parts.root)
        shared = doubles(parts.training.files, parts.validation.files, parts.test.files, name)
        return [*shared, *_on_orientation(stored), *self._on_boxes(), *self._on_classes()]

    def _boxes_left_out(self) -> list[LeftOut]:
        reasons: dict[str, Oddity] = {
            "boxes outside their image (learned by no training; AP counts them)": lambda one: one.learned.outside,
            "boxes without an area (learned by no training; AP counts them)": lambda one: one.learned.empty,
        }
        found = []
        for why, ids_of in reasons.items():
            named = [f"annotation {id_} of {one.file.name}" for one in self.parts.annotated for id_ in ids_of(one)]
            found += [LeftOut(why, len(named), tuple(named[:MOST_EXAMPLES]))] if named else []
        return found

    def _on_boxes(self) -> list[str]:
        """Say what is odd in each file of annotations."""
        sentences = []
        for one in self.parts.annotated:
            what = {
                "lie outside their image: no training learns them, and AP counts them as objects": one.learned.outside,
                "have no area: no training learns them, and AP counts them as objects": one.learned.empty,
                "reach beyond their image by more than a pixel: they are clipped for a training, not for AP": (
                    one.learned.clipped
                ),
                "have no area of their own, which decides on small and large objects: that of their box is taken": (
                    one.unmeasured
                ),
            }
            sentences += [
                f"task.root: in {one.file}, {len(ids)} of {counted(len(one.ids), 'annotation')} {words}, such as"
                f" {first_few([str(id_) for id_ in ids])}"
                for words, ids in what.items()
                if len(ids)
            ]
        return sentences

    def _on_classes(self) -> list[str]:
        """Name the classes that a part has no box of."""
        sentences = []
        for name, part in self.parts.all.items():
            have = set(part.annotated.labels[part.members & ~part.annotated.crowd].tolist())
            missing = [title for label, title in enumerate(self.parts.names) if label not in have]
            if missing and len(part):
                effect = "AP is the mean over the other classes" if name != "training" else "no training learns them"
                sentences.append(
                    f"task.root: the {name} set has no box of {len(missing)} of the"
                    f" {counted(len(self.parts.names), 'class')}, such as {first_few(missing)}; {effect}"
                )
        return sentences


def _as_stored(part: BoxedPart) -> list[str]:
    """Decode all images of a part, and return the paths of those that are left as stored."""
    broken: dict[str, str] = {}
    stored: list[str] = []
    items = [(file.path, part.annotated.images[place]) for file, place in zip(part.files, part.places, strict=True)]
    for start in range(0, len(items), AT_ONCE):
        for (path, _), found in zip(items[start:], mapped(_looked_at, items[start : start + AT_ONCE]), strict=False):
            if isinstance(found, str):
                broken[path] = found
            elif found:
                stored.append(path)
    if broken:
        raise InputError(unreadable(broken, len(items)))
    return stored


def _looked_at(item: tuple[str, Picture]) -> bool | str:
    """Decode an image; return whether it is left as stored, or why it cannot be used."""
    try:
        return oriented(*item)[1]
    except InputError as error:
        return str(error)


def _on_orientation(paths: Sequence[str]) -> list[str]:
    if not paths:
        return []
    return [
        f"task.root: {counted(len(paths), 'photograph')} with an EXIF orientation have the annotated size only as they"
        f" are stored, and are not turned: {first_few(paths)}"
    ]


def _below(file: ImageFile, root: Path) -> str:
    return file.path.removeprefix(f"{root}/").replace("\\", "/")
