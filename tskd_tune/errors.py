"""Every failure is a sentence: what, where, what was given and what to do.

TskdTuneError
+-- InputError        what the user gave is wrong, found before training        (exit code 2)
+-- RunError          something failed during a run                             (exit code 1)
    +-- DivergedError the loss of a training is no longer a finite number
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import ValidationError


class TskdTuneError(Exception):
    """The base of every error that this package raises on purpose."""


class InputError(TskdTuneError, ValueError):
    """What the user gave is wrong; nothing was started."""


class RunError(TskdTuneError, RuntimeError):
    """Something failed while a run was under way."""


class DivergedError(RunError):
    """The loss is NaN or infinite: this training ends here, others go on."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest known word, with all of them, or only the list."""
    names = sorted(known)
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"; {hint}known: {', '.join(names)}"


def sentences(error: ValidationError) -> list[str]:
    """Turn a validation error into one line a mistake, ``where: what was wrong``."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"] if not _is_schema_word(part))
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            message = "is required but missing"
        elif item["type"] not in ("value_error", "assertion_error"):
            message = f"{message[0].lower()}{message[1:]}, got {item['input']!r}"
        lines.append(f"{where}: {message}" if where else message)
    return list(dict.fromkeys(lines))


def _is_schema_word(part: object) -> bool:
    """Tell the names that a union puts into an error's location from the user's keys."""
    words = {"int", "float", "str", "bool"}
    return isinstance(part, str) and (part.endswith("]") or part.startswith("constrained-") or part in words)
