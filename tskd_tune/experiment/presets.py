"""Three interpretations of the paper as presets, and the differences of an experiment from its preset.

``paper`` is the default of every option: the paper's explicit equations; details missing in the paper come from the
authors' code or from attention transfer. ``official`` reproduces the authors' code, including its bugs; `remaining`
lists the remaining differences. ``paper_literal`` applies the equations without normalization and diverges at the
paper's own lambda.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tskd_tune import documents
from tskd_tune.outside import short_name

Preset = Literal["paper", "official", "paper_literal"]

PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "official": {
        "task": {"name": "cifar100", "normalization": "cifar10"},
        "distiller": {"name": "kd", "temperature": 4.0, "weight": 1.0, "task_weight": 1.0},
        "review": {
            "transform": {"name": "attention", "reduce": "mean", "norm": "column_l2"},
            "taps": {"layers": "official", "point": "post", "teacher_point": "official", "size_match": "pool_teacher"},
            "extractor": {
                "name": "conv_lstm",
                "hidden": [64, 64, 32],
                "stem": "strided8",
                "head": "deconv",
                "peephole": "none",
                "initialization": "joint",
                "training": {"decay_when_frozen": True},
            },
            "memory": {"batch_norm": "train"},
        },
        "teacher": {"batch_norm": "train"},
        "training": {"nesterov": True, "milestone_convention": "after"},
        "evaluation": {"test": "every_epoch"},
    },
    "paper_literal": {
        "review": {
            "transform": {"name": "attention", "norm": "none"},
            "extractor": {"name": "conv_lstm", "peephole": "full"},
        },
    },
}

# The authors' code treats some networks differently: the file of VGG pairs has other sizes and taps, and the training
# script lowers the learning rate for small students.
VGG = frozenset({"vgg8", "vgg13"})
SMALL = frozenset({"mobilenet_v2", "shufflenet_v1", "shufflenet_v2"})
OFFICIAL_VGG = {"review": {"taps": {"teacher_point": "post"}, "extractor": {"hidden": [64, 32, 32]}}}
OFFICIAL_SMALL = {"training": {"lr": 0.02}}

# Both differences change only running statistics, and no result of a training uses these statistics.
SNAPSHOTS = (
    "official: the running statistics of a snapshot's batch norms go on from batch to batch (authors' code: each batch"
    " begins with those of the snapshot's file); no output depends on it"
)
WIDE = (
    "official: the tapped batch norms of a wide residual teacher count a batch once (authors' code: twice); no output"
    " depends on it"
)

# Keys that say which data, networks, seed or machine are used are not deviations.
NOT_COMPARED = frozenset(
    {
        "evaluation.examples",
        "preset",
        "seed",
        "student",
        "task.name",
        "teacher.name",
        "teacher.weights",
        "teacher.training",
        "teacher.fine_tune",
        "training.channels_last",
        "training.checkpoint",
        "training.device",
        "training.graphs",
        "training.threads",
    }
)


def filling(preset: str, student: str, teacher: str) -> dict[str, object]:
    """Return the options of a preset for a student and a teacher, both given by the names of their networks."""
    found = PRESETS.get(preset, {})
    if preset != "official":
        return dict(found)
    if {student, teacher} <= VGG:
        found = documents.merge(found, OFFICIAL_VGG)
    return documents.merge(found, OFFICIAL_SMALL) if student in SMALL else dict(found)


def remaining(preset: str, teacher: str) -> list[str]:
    """Return how a review under ``official`` still differs from the authors' code, one line per difference.

    Args:
        preset: the preset of the experiment.
        teacher: the name of the teacher's network.
    """
    if preset != "official":
        return []
    return [SNAPSHOTS, *([WIDE] if teacher.startswith("wrn_") else [])]


def deviations(given: Mapping[str, object], preset: Mapping[str, object], path: str = "") -> list[str]:
    """List the differences between two resolved experiments: ``review.k: 6 (preset: 3)``."""
    lines = []
    for key in [*given, *(key for key in preset if key not in given)]:
        ours, theirs, where = given.get(key), preset.get(key), f"{path}.{key}" if path else key
        if where in NOT_COMPARED or ours == theirs:
            continue
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping) and ours.get("name") == theirs.get("name"):
            lines += deviations(ours, theirs, where)
        else:
            lines.append(f"{where}: {_word(ours)} (preset: {_word(theirs)})")
    return lines


def _word(value: object) -> str:
    """Write a value in short form: the name of a component, ``on`` for a larger group, otherwise the value."""
    if isinstance(value, Mapping):
        return short_name(str(value["name"])) if "name" in value else "on" if len(value) > 1 else str(dict(value))
    return "null" if value is None else str(value)
