"""Images in files with annotated boxes, and the parts of a data set of such images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tskd_tune.errors import InputError
from tskd_tune.tasks.annotations import Annotated, Picture
from tskd_tune.tasks.decoding import ImageFile, read_picture, unreadable
from tskd_tune.tasks.pictures import as_seen
from tskd_tune.tasks.summary import LeftOut
from tskd_tune.tasks.truth import Objects


@final
@dataclass(frozen=True)
class BoxedPart:
    """The images of one part.

    Attributes:
        annotated: the file of annotations that the images stand in.
        places: ``[N]``, the place of each image in this file, ascending.
        files: the file of each image.
        offset: the index of the first image: samples are numbered through training, validation and test set, so that an
            index names an image, whatever set it is in.
    """

    annotated: Annotated
    places: NDArray[np.int64]
    files: Sequence[ImageFile]
    offset: int = 0

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.places)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of each image, ``[N, 2]``."""
        pictures = [self.annotated.images[place] for place in self.places]
        return np.array([(one.height, one.width) for one in pictures], dtype=np.int64).reshape(-1, 2)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """The boxes of each image that a batch has, crowds included, ``[N]``."""
        return np.diff(self.annotated.learned.starts)[self.places]

    @cached_property
    def members(self) -> NDArray[np.bool_]:
        """Whether each annotation of the file belongs to an image of this part, ``[T]``."""
        return np.isin(self.annotated.owners, self.places)

    def box_counts(self) -> tuple[int, int, int]:
        """Return how many boxes of single objects and of crowds can be learned, and how many images have neither."""
        own, crowd = self.annotated.learned.used & self.members, self.annotated.crowd
        return int((own & ~crowd).sum()), int((own & crowd).sum()), int((self.counts == 0).sum())

    def picture(self, sample: int) -> Image.Image:
        """Decode an image; raises as `annotated_picture`, in whole sentences."""
        file = self.files[sample]
        try:
            return annotated_picture(file.path, self.annotated.images[self.places[sample]])
        except InputError as error:
            raise InputError(unreadable({file.path: str(error)}, 1)) from error

    def boxes(self, sample: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
        """Return corners ``[n, 4]`` in pixels of the file, classes and crowds ``[n]`` of an image."""
        learned = self.annotated.learned
        own = learned.of(int(self.places[sample]))
        return learned.corners[own], learned.labels[own], learned.crowd[own]

    def objects(self, sample: int) -> Objects:
        """Return what is annotated in an image, as the evaluator needs it."""
        known, place = self.annotated, int(self.places[sample])
        image, own = known.images[place], known.of(place)
        return Objects(
            image.id, image.height, image.width, known.boxes[own], known.labels[own], known.areas[own], known.crowd[own]
        )

    def digest(self) -> str:
        """Return a digest of names, sizes and boxes; a copy of the folder has the same."""
        known, own = self.annotated, self.members
        found = hashlib.sha256()
        for file, place in zip(self.files, self.places.tolist(), strict=True):
            found.update(repr((*known.images[place], file.bytes)).encode())
        for array in (known.boxes, known.labels, known.areas, known.crowd, known.owners):
            found.update(np.ascontiguousarray(array[own]).tobytes())
        return found.hexdigest()


@final
@dataclass(frozen=True)
class BoxedSamples:
    """The images of a part, to be looked at: as they are in their files, with the ids of their annotations as names."""

    part: BoxedPart

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.part)

    def __getitem__(self, sample: int) -> Tensor:
        """Decode an image to bytes ``[3, H, W]``; raises as `BoxedPart.picture`."""
        return torch.from_numpy(np.array(self.part.picture(sample))).permute(2, 0, 1)

    def name(self, sample: int) -> str:
        """Return the id of an image."""
        return str(self.part.annotated.images[self.part.places[sample]].id)


@dataclass(frozen=True)
class BoxedParts:
    """The images of all three parts, which are numbered through; see `BoxedPart`.

    Attributes:
        root: the folder of the data set.
        origins: where the training, the validation and the test part come from, for a summary.
        left_out: image files that are not used.
    """

    root: Path
    training: BoxedPart
    validation: BoxedPart
    test: BoxedPart
    origins: tuple[str, str, str] = ("", "", "")
    left_out: tuple[LeftOut, ...] = ()

    @property
    def all(self) -> Mapping[str, BoxedPart]:
        """The parts by name."""
        return {"training": self.training, "validation": self.validation, "test": self.test}

    @property
    def names(self) -> list[str]:
        """The name of each class."""
        return [category.name for category in self.training.annotated.categories]

    @cached_property
    def annotated(self) -> list[Annotated]:
        """The files of annotations, each once."""
        return list({id(part.annotated): part.annotated for part in self.all.values()}.values())


def annotated_picture(path: str, picture: Picture) -> Image.Image:
    """Decode an image to 8-bit RGB, in the size that is annotated.

    A photograph is turned as its EXIF orientation says, unless it has the annotated size only as it is stored.

    Raises:
        InputError: it cannot be read, or has another size, with the reason.
        RunError: the file vanished.
    """
    return oriented(path, picture)[0]


def oriented(path: str, picture: Picture) -> tuple[Image.Image, bool]:
    """Return the image, and whether it is left as stored against its EXIF orientation; see `annotated_picture`."""
    wanted = (picture.width, picture.height)
    found = read_picture(path, as_seen)
    if found.size == wanted:
        return found, False
    stored = read_picture(path, partial(as_seen, upright=False))
    if stored.size == wanted:
        return stored, True
    raise InputError(
        f"it has {found.width} x {found.height} pixels, but its annotation says {picture.width} x {picture.height}"
    )
