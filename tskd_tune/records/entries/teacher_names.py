"""Names of teachers: teachers of one network with different weights are told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from tskd_tune.records.entries.row import Row, TeacherRecord

SEED: Final = "teacher.seed"
"""The value of a row's point that is the seed of its teacher, in sweeps that train arms under several teachers."""

Identity: TypeAlias = tuple[str, str, str | None]


def identity_of(teacher: TeacherRecord) -> Identity:
    """Return what makes two teachers the same: name, source and the digest of the weights or of their recipe."""
    return teacher.name, teacher.source, teacher.key


def told_apart(teachers: Iterable[TeacherRecord]) -> dict[Identity, str]:
    """Name teachers by their networks; where several teachers have one network, the name gets the key too.

    >>> one, other = (TeacherRecord(name="resnet56", source="auto", key=key) for key in ("1f" * 8, "2e" * 8))
    >>> list(told_apart([one, other]).values())
    ['resnet56 (key 1f1f1f1f)', 'resnet56 (key 2e2e2e2e)']
    """
    found = dict.fromkeys(map(identity_of, teachers))
    names = [name for name, _, _ in found]
    return {
        one: one[0] if names.count(one[0]) == 1 else f"{one[0]} ({f'key {one[2][:8]}' if one[2] else one[1]})"
        for one in found
    }


def under(point: Mapping[str, object]) -> str:
    """Name the teacher of a point after its arm; empty without several teachers.

    >>> "tskd" + under({"arm": "tskd", "teacher.seed": 1})
    'tskd, teacher 1'
    """
    seed = point.get(SEED)
    return "" if seed is None else f", teacher {seed}"


def teacher_seed(row: Row) -> int | None:
    """Return the seed of a row's teacher; None without several teachers, and for an arm that needs no teacher."""
    found = row.point.get(SEED)
    return found if isinstance(found, int) else None
