"""The errors of this package; a message says what is wrong, where, which value was given, and what to do.

TskdTuneError
+-- InputError        the user's input is wrong, found before training           (exit code 2)
+-- RunError          something failed during a run                             (exit code 1)
    +-- UnwritableError a file of the run could not be written or read
    +-- OtherDataError a checkpoint is of a training on other data
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
# The requirements of Pydantic, in the words of YAML.
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
    """The base class of all errors that this package raises on purpose."""


class InputError(TskdTuneError, ValueError):
    """The user's input is wrong; nothing was started."""


class RunError(TskdTuneError, RuntimeError):
    """Something failed during a run."""


class UnwritableError(RunError):
    """The disk is full, or a folder is missing or not writable; a resume continues the run."""


class LostWorkerError(RunError):
    """A worker of a data-parallel training ended or did not answer; the training goes on from its checkpoint.

    Attributes:
        silent: the IP addresses of the machines whose workers neither answered nor ended.
    """

    silent: tuple[str, ...] = ()


class OtherDataError(RunError):
    """A checkpoint was written by a training on other data; the training begins anew."""


class DivergedError(RunError):
    """The loss is NaN or infinite, or the review has no gradient. This is a result; other trainings continue."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` with the nearest known word, ignoring case, and list all known words."""
    names = sorted(set(known))
    lowered = {name.casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(str(word)[:LONGEST_VALUE].casefold(), lowered, n=1, cutoff=0.6)
    hint = f"did you mean '{lowered[near[0]]}'? " if near else ""
    return f"; {hint}known: {', '.join(names)}"


def shown(value: object) -> str:
    """Write a given value as YAML; long values are shortened."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def printable(text: str) -> str:
    """Return a text as a terminal can show it: what cannot be printed is escaped, such as half a character."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def reason(error: BaseException) -> str:
    """Return the type and the first line of an error raised by foreign code, and the line of code."""
    said = str(error).strip().partition("\n")[0]
    # A syntax error names the line itself; Python raises it, not the foreign code.
    frames = [] if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)
    # W&B replaces `sys.exit` by a function of its own.
    outer = ("exit",) if isinstance(error, SystemExit) else ()
    frames = [frame for frame in frames if not frame.filename.startswith("<") and frame.name not in outer]
    where = f", {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {said[:300]}{where}" if said else f"{type(error).__name__}{where}"


def sentences(error: ValidationError) -> list[str]:
    """Return a validation error as lines, one line per mistake: ``where: what was wrong``."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"] if not _is_schema_word(part))
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            message = "is required but missing"
        elif item["type"] not in ("value_error", "assertion_error"):
            said = _WANTED.get(item["type"]) or _SHOULD.sub("must", f"{message[0].lower()}{message[1:]}")
            message = f"{said}, got {shown(item['input'])}{_near(item['input'], item.get('ctx', {}).get('expected'))}"
        # The message of a group may begin with the wrong key, and each of its lines with another one.
        several = message.splitlines()
        for line in several if all(map(_KEY.match, several)) else [message]:
            joint = "." if where and _KEY.match(line) else ": "
            lines.append(f"{where}{joint}{line}" if where else line)
    return list(dict.fromkeys(lines))


def _near(given: object, expected: object) -> str:
    """Return the nearest of the words that an option takes, if a word was given; ``expected`` quotes each of them."""
    if not isinstance(given, str) or not isinstance(expected, str):
        return ""
    near = difflib.get_close_matches(given[:LONGEST_VALUE].casefold(), re.findall(r"'([^']*)'", expected), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _is_schema_word(part: object) -> bool:
    """Tell whether a part of an error's location comes from a union of types, and not from the user's keys."""
    words = {"int", "float", "str", "bool"}
    return isinstance(part, str) and (part.endswith("]") or part.startswith("constrained-") or part in words)
