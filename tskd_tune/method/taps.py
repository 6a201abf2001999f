"""Where student and teacher are compared: the pairs of layers C in Eq. 7 and 8 of TSKD, matched in size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from tskd_tune.contracts import STEM, Output, Shapes
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.method.padding import Padding, Size

_OFFICIAL = (STEM, "stage1", "stage2")
LEVEL = "fpn"
"""How the names of a detector's pyramid levels begin."""


class Taps:
    """The tapped stages of a student and its teacher; stages of the same name form a pair.

    >>> from tskd_tune.networks import NETWORKS
    >>> student, teacher = (NETWORKS.build(name, 10).probe(3, 32) for name in ("resnet8", "resnet20"))
    >>> taps = Taps(student, teacher)
    >>> taps.names, taps.sites
    (('stage1', 'stage2', 'stage3'), ((32, 32), (16, 16), (8, 8)))

    Args:
        student: the student's shapes.
        teacher: the teacher's shapes.
        layers: stages at which student and teacher are compared. ``stages``: every stage of the student but its stem,
            of a detector those of its backbone; ``official``: stem, stage1 and stage2, as in the authors' public code;
            ``last``: the last of ``stages``; ``pyramid``: the levels of a detector's feature pyramid, fpn0 and so on;
            or a list of names of stages and levels, in order.
        point: where a stage of the student is tapped: after (``post``) or before (``pre``) the activation that ends it.
        teacher_point: where a stage of the teacher is tapped; null: as for the student; ``official``: the stem after,
            the other stages before their activation.
        size_match: how maps of different sizes are matched before the transform. ``pool_larger``: the larger map is
            averaged down; ``pool_teacher``: the teacher's map is brought to the student's size, averaged down or with
            repeated pixels; ``interp_student``: the student's map is brought to the teacher's size bilinearly;
            ``error``: the experiment is refused.

    Attributes:
        names: the tapped stages, in order.
        sites: the matched ``(H, W)`` of every tap, in order, in pixels.
        channels: the numbers of channels of student and teacher at every tap, in order.
        student_points: stage -> ``post`` or ``pre``, where the student is tapped.
        teacher_points: the same of the teacher.

    Raises:
        InputError: a stage or its pre-activation that a network lacks, a stage that is no ``[C, H, W]`` map, no or
            repeated layers, or sizes that differ under ``size_match: error``.
    """

    def __init__(
        self,
        student: Shapes,
        teacher: Shapes,
        *,
        layers: Literal["stages", "official", "last", "pyramid"] | list[str] = "stages",
        point: Literal["post", "pre"] = "post",
        teacher_point: Literal["post", "pre", "official"] | None = None,
        size_match: Literal["pool_larger", "pool_teacher", "interp_student", "error"] = "pool_larger",
    ) -> None:
        self.names = _names(layers, list(student.features))
        self._size_match = size_match
        self.student_points = dict.fromkeys(self.names, point)
        self.teacher_points = _teacher_points(self.names, teacher_point or point)
        self.sites = self._sites(student, teacher)
        self.channels = tuple(
            (
                _shape(student, name, self.student_points[name], "student")[0],
                _shape(teacher, name, self.teacher_points[name], "teacher")[0],
            )
            for name in self.names
        )

    def pairs(self, student: Output, teacher: Output, padding: Padding | None = None) -> list[tuple[Tensor, Tensor]]:
        """Return the student's and the teacher's features of every tap, ``[B, C_s, H, W]`` and ``[B, C_t, H, W]``.

        Args:
            student: the student's output.
            teacher: the teacher's output on the same batch.
            padding: keeps the padding of the images out of what is averaged; None: no image is padded.
        """
        taken = zip(self.names, _taken(student, self.student_points), _taken(teacher, self.teacher_points), strict=True)
        return [self._pair(name, ours, theirs, padding) for name, ours, theirs in taken]

    def of_student(self, output: Output, like: Sequence[Tensor], padding: Padding | None = None) -> list[Tensor]:
        """Return the features of a snapshot at every tap, in the sizes of the current student's matched features.

        Args:
            output: the output of a snapshot.
            like: the current student's features after size matching, ``[B, C, H, W]`` for each tap.
            padding: as for `pairs`.
        """
        features = _taken(output, self.student_points)
        return [self._student(map_, _size(today), padding) for map_, today in zip(features, like, strict=True)]

    def _sites(self, student: Shapes, teacher: Shapes) -> tuple[Size, ...]:
        ours = _checked(student, self.student_points, "student")
        theirs = _checked(teacher, self.teacher_points, "teacher")
        return tuple(self._matched(name, ours[name], theirs[name]) for name in self.names)

    def _pair(self, name: str, student: Tensor, teacher: Tensor, padding: Padding | None) -> tuple[Tensor, Tensor]:
        size = self._matched(name, _size(student), _size(teacher))
        theirs = pooled(teacher, size) if padding is None else padding.resized(teacher, size, pooled)
        return self._student(student, size, padding), theirs

    def _student(self, student: Tensor, size: Size, padding: Padding | None) -> Tensor:
        return self._resized(student, size) if padding is None else padding.resized(student, size, self._resized)

    def _resized(self, student: Tensor, size: Size) -> Tensor:
        if self._size_match == "interp_student" and _size(student) != size:
            return F.interpolate(student, size, mode="bilinear", align_corners=False)
        return pooled(student, size)

    def _matched(self, name: str, student: Size, teacher: Size) -> Size:
        if student == teacher or self._size_match == "pool_teacher":
            return student
        if self._size_match == "interp_student":
            return teacher
        if self._size_match == "pool_larger":
            return min(student[0], teacher[0]), min(student[1], teacher[1])
        raise InputError(
            f"review.taps.size_match: stage '{name}' is {student[0]}x{student[1]} in the student but "
            f"{teacher[0]}x{teacher[1]} in the teacher; use pool_larger, pool_teacher or interp_student"
        )


def _names(layers: str | list[str], stages: list[str]) -> tuple[str, ...]:
    """Resolve the option to the names of stages, each once."""
    if isinstance(layers, list):
        names = tuple(layers)
    elif layers == "official":
        names = _OFFICIAL
    elif layers == "pyramid":
        names = tuple(stage for stage in stages if stage.startswith(LEVEL))
    else:
        behind_stem = tuple(stage for stage in stages if stage != STEM and not stage.startswith(LEVEL))
        names = behind_stem if layers == "stages" else behind_stem[-1:]
    if not names:
        raise InputError(
            f"review.taps.layers: no stage to tap, got {layers!r}; give one or more of {', '.join(stages)}"
        )
    if len(set(names)) < len(names):
        raise InputError(f"review.taps.layers: a stage is tapped once, got {layers}; name each stage once")
    return names


def _teacher_points(names: Sequence[str], point: str) -> dict[str, str]:
    if point == "official":
        return {name: "post" if name == STEM else "pre" for name in names}
    return dict.fromkeys(names, point)


def _checked(shapes: Shapes, points: Mapping[str, str], who: str) -> dict[str, Size]:
    """Return the size of every tap of a network.

    Raises:
        InputError: the network lacks a tap, or the tap is no map ``[C, H, W]``.
    """
    sizes = {}
    for name, point in points.items():
        shape = _shape(shapes, name, point, who)
        if len(shape) != 3:
            raise InputError(
                f"review.taps.layers: stage '{name}' of the {who} has the shape {list(shape)}, but a review needs "
                "maps [C, H, W]; tap other stages"
            )
        sizes[name] = (shape[1], shape[2])
    return sizes


def _shape(shapes: Shapes, name: str, point: str, who: str) -> tuple[int, ...]:
    if name not in shapes.features:
        raise InputError(f"review.taps.layers: the {who} has no stage '{name}'{did_you_mean(name, shapes.features)}")
    table = shapes.features if point == "post" else shapes.preactivations
    if name not in table:
        raise InputError(
            f"review.taps: the {who} has no pre-activation of stage '{name}'; known: {', '.join(table) or 'none'}; "
            f"leave '{name}' out of layers, or tap the {who} with 'post'"
        )
    return table[name]


def _taken(output: Output, points: Mapping[str, str]) -> list[Tensor]:
    return [(output.features if point == "post" else output.preactivations)[name] for name, point in points.items()]


def _size(map_: Tensor) -> Size:
    return map_.shape[-2], map_.shape[-1]


def pooled(map_: Tensor, size: Size) -> Tensor:
    """Average a map ``[B, C, H, W]`` down to a size; if the map is smaller than this size, its pixels are repeated."""
    height, width = _size(map_)
    if (height, width) == size:
        return map_
    if height % size[0] == 0 and width % size[1] == 0:
        # The same averages, with a backward pass that is deterministic on GPUs.
        return F.avg_pool2d(map_, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(map_, size)
