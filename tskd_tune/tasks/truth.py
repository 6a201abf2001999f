"""What is annotated in images, as an evaluator of detections needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Objects(NamedTuple):
    """The n objects of an image, as annotated: nothing is clipped or left out.

    Attributes:
        image: the id of the image in its file of annotations.
        height: the height of the image, in pixels.
        width: the width of the image, in pixels.
        boxes: ``[n, 4]``, x, y, width and height, in pixels.
        labels: ``[n]``, the class.
        areas: ``[n]``, the area of the object's outline, in square pixels.
        crowd: ``[n]``, whether it is a region of many objects.
    """

    image: int
    height: int
    width: int
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]


class Truth(Protocol):
    """Knows the objects of each image by the index that batches name it by."""

    def count(self) -> int:
        """Return the number of images; their indices are below it."""

    def objects(self, index: int) -> Objects:
        """Return what is annotated in the image of an index."""

    def categories(self) -> Sequence[int]:
        """Return the id of each class in the files of annotations."""

    def names(self) -> Sequence[str]:
        """Return the name of each class."""
