"""Every failure is a sentence: what, where, what was given and what to do.

TskdTuneError
+-- InputError        what the user gave is wrong, found before training        (exit code 2)
+-- RunError          something failed during a run                             (exit code 1)
    +-- UnwritableError a file of the run could not be written or read
    +-- DivergedError the loss of a training is no longer a finite number
"""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

LONGEST_VALUE = 100
_KEY = re.compile(r"^[a-z_]+(?:\.[a-z_]+)*: ")
_SHOULD = re.compile(r"^(?:\w+ )?should")
# What Pydantic wants, in the words of YAML.
_WANTED = {
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
    "dict_type": "must be a mapping (key: value)",
    "mapping_type": "must be a mapping (key: value)",
    "list_type": "must be a list",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
}


class TskdTuneError(Exception):
    """The base of every error that this package raises on purpose."""


class InputError(TskdTuneError, ValueError):
    """What the user gave is wrong; nothing was started."""


class RunError(TskdTuneError, RuntimeError):
    """Something failed while a run was under way."""


class UnwritableError(RunError):
    """The disk is full, or a folder is gone or not writable: nothing can be kept, and a resume goes on."""


class DivergedError(RunError):
    """The loss is NaN or infinite, or the review has no gradient: a result. This training ends here, others go on."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest known word, whatever its case, with all of them."""
    names = sorted(known)
    lowered = {name.casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(str(word)[:LONGEST_VALUE].casefold(), lowered, n=1, cutoff=0.6)
    hint = f"did you mean '{lowered[near[0]]}'? " if near else ""
    return f"; {hint}known: {', '.join(names)}"


def shown(value: object) -> str:
    """Write a value that was given as YAML writes it, shortened where it is long."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def reason(error: BaseException) -> str:
    """Return the type and the first line of an error that another's code raised, and the line of code."""
    said = str(error).strip().partition("\n")[0]
    # A mistake in the syntax names its own line, and was found by Python's machinery, not by another's code.
    frames = [] if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)
    # W&B puts a function of its own in the place of `sys.exit`.
    outer = ("exit",) if isinstance(error, SystemExit) else ()
    frames = [frame for frame in frames if not frame.filename.startswith("<") and frame.name not in outer]
    where = f", {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {said[:300]}{where}" if said else f"{type(error).__name__}{where}"


def sentences(error: ValidationError) -> list[str]:
    """Turn a validation error into one line a mistake, ``where: what was wrong``."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"] if not _is_schema_word(part))
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            message = "is required but missing"
        elif item["type"] not in ("value_error", "assertion_error"):
            said = _WANTED.get(item["type"]) or _SHOULD.sub("must", f"{message[0].lower()}{message[1:]}")
            message = f"{said}, got {shown(item['input'])}"
        joint = "." if where and _KEY.match(message) else ": "  # a group may name the key that is wrong in it
        lines.append(f"{where}{joint}{message}" if where else message)
    return list(dict.fromkeys(lines))


def _is_schema_word(part: object) -> bool:
    """Tell the names that a union puts into an error's location from the user's keys."""
    words = {"int", "float", "str", "bool"}
    return isinstance(part, str) and (part.endswith("]") or part.startswith("constrained-") or part in words)
