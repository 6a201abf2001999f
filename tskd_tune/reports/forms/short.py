"""Words for times and teachers. This module loads no large package, so commands that show little start fast."""

from __future__ import annotations

from tskd_tune.records.entries.teaching import Teaching

MISSING = "—"


def duration(seconds: float | None) -> str:
    """Return a time in seconds, minutes or hours, in words."""
    if seconds is None:
        return MISSING
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def broken_teacher_line(teacher: Teaching) -> str:
    """Return a sentence on a teacher whose training broke."""
    return (
        f"teacher {teacher.name} broke after {teacher.epochs} of {teacher.planned} epochs: {teacher.reason}"
        " (`tskd-tune resume` trains the teacher again)"
    )
