"""The examples of a sweep as images of Weights & Biases: with the boxes of each network, or what each arm answers."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from PIL import Image as Pillow

from tskd_tune.plain import Json
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.teacher_names import identity_of, teacher_seed, told_apart
from tskd_tune.records.kept.examples import (
    Box,
    BoxAnswers,
    ClassAnswers,
    Examples,
    Pictures,
    ScoredBox,
    examples_of,
    examples_of_teacher,
    pictures_of,
)
from tskd_tune.records.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from wandb import Image

MOST_ARMS: Final = 8
MOST_SAMPLES: Final = 32
"""The samples of a classification that are sent: the first on which arms differ."""

Networks = Mapping[str, Examples]
"""The name of a network -> its answers."""


def images(run: RunFolder) -> dict[str, list[Image]]:
    """Return lists of images by name: one for each network that finds boxes, and one of samples on which arms differ.

    Of at most eight arms the training with the lowest seed is taken, under each teacher. Empty where the run has no
    pictures.

    Raises:
        RunError: the storage or the disk fails.
    """
    found: dict[str, list[Image]] = {}
    for data, networks in _networks(run).items():
        pictures = pictures_of(run, data)
        if pictures is None or not pictures.images:
            continue
        for name, examples in networks.items():
            if isinstance(examples.answers, BoxAnswers):
                found.setdefault(f"examples/{_key(name)}", []).extend(_with_boxes(pictures, examples.answers))
        found.setdefault("examples/arms differ", []).extend(_different(pictures, networks))
    return {name: every for name, every in found.items() if every}


def _key(name: str) -> str:
    """Return a name that may name a file, as W&B's keys of images must."""
    return re.sub(r'[\\/:*?"<>|#%]', "_", name)


def _networks(run: RunFolder) -> dict[str, dict[str, Examples]]:
    """Return the teachers and the first arms with their answers, under each teacher, for each data set."""
    rows: dict[tuple[str, int | None], Row] = {}
    for row in sorted(run.rows(), key=lambda row: (row.run, row.seed)):
        if row.status == "done":
            rows.setdefault((row.arm, teacher_seed(row)), row)
    found: dict[str, dict[str, Examples]] = {}
    names = told_apart(row.teacher for row in rows.values() if row.teacher)
    shown = list(dict.fromkeys(arm for arm, _ in rows))[:MOST_ARMS]
    for (arm, teacher_of), row in rows.items():
        if arm not in shown:
            continue
        own = examples_of(run, row)
        if own is None:
            continue
        networks = found.setdefault(own.data, {})
        if row.teacher is not None and row.teacher.key is not None:
            teacher = examples_of_teacher(run, own.data, row.teacher.key)
            if teacher is not None:
                networks.setdefault(f"teacher {names[identity_of(row.teacher)]}", teacher)
        under = "" if teacher_of is None else f" (teacher {teacher_of})"
        networks[f"{arm}, seed {row.seed}{under}"] = own
    return found


def _with_boxes(pictures: Pictures, answers: BoxAnswers) -> Iterator[Image]:
    import wandb  # it takes seconds to import

    names: dict[int, str] = dict(enumerate(pictures.classes))
    for place, (height, width) in enumerate(answers.sizes):
        groups = {
            "truth": [_box(box, names, (height, width)) for box in answers.truth[place]],
            "found": [_box(box, names, (height, width), box[5]) for box in answers.answer[place]],
        }
        boxes = {name: {"box_data": some, "class_labels": names} for name, some in groups.items() if some}
        name = pictures.names[place] if place < len(pictures.names) else str(place)
        yield wandb.Image(_pillow(pictures, place), boxes=boxes or None, caption=f"image {name}")


def _box(
    box: Box | ScoredBox, names: Mapping[int, str], size: tuple[int, int], score: float | None = None
) -> dict[str, Json]:
    """Return a box as W&B takes it, in shares of the image."""
    height, width = size
    low_x, low_y, high_x, high_y = box[0] / width, box[1] / height, box[2] / width, box[3] / height
    name = names.get(box[4], str(box[4]))
    return {
        "position": {"minX": low_x, "minY": low_y, "maxX": high_x, "maxY": high_y},
        "class_id": box[4],
        "box_caption": name if score is None else f"{name} {score:.2f}",
        **({} if score is None else {"scores": {"score": score}}),
    }


def _different(pictures: Pictures, networks: Networks) -> Iterator[Image]:
    """Yield the samples that some of the students get right and others wrong."""
    import wandb  # it takes seconds to import

    known = {name: one.answers for name, one in networks.items() if isinstance(one.answers, ClassAnswers)}
    students = [answers for name, answers in known.items() if not name.startswith("teacher ")]
    for place in _differing(students)[:MOST_SAMPLES]:
        truth = students[0].truth[place]
        told = [
            f"{name}: {_class(pictures, one.answer[place])} ({100 * one.confidence[place]:.0f} %)"
            for name, one in known.items()
        ]
        yield wandb.Image(_pillow(pictures, place), caption="; ".join([_class(pictures, truth), *told]))


def _differing(students: Sequence[ClassAnswers]) -> list[int]:
    if len(students) < 2:
        return []
    right = [[answer == truth for answer, truth in zip(one.answer, one.truth, strict=True)] for one in students]
    return [place for place, of in enumerate(zip(*right, strict=True)) if len(set(of)) > 1]


def _class(pictures: Pictures, label: int) -> str:
    return pictures.classes[label] if label < len(pictures.classes) else str(label)


def _pillow(pictures: Pictures, place: int) -> Pillow.Image:
    return Pillow.open(io.BytesIO(base64.b64decode(pictures.images[place]))).convert("RGB")
