"""Finds trainings of one run that were made with different code of a component in the user's own files."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.records.entries.row import Row


def edited_code(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return a sentence on each component whose code differs between rows; rows that broke are trained again."""
    digests: dict[str, dict[str, int]] = {}
    for row in rows:
        for name, digest in row.code.items():
            if not row.broke:
                of = digests.setdefault(name, {})
                of[digest] = of.get(digest, 0) + 1
    return tuple(
        f"The code of '{name}' was edited during the run: {' and '.join(map(str, of.values()))} trainings have"
        " different code, so their results are not of one method. Train all of them in a new run."
        for name, of in digests.items()
        if len(of) > 1
    )
