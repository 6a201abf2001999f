"""The output of the commands: lines on stdout and stderr, exit codes, and one JSON object for ``--json``."""

from __future__ import annotations

import functools
import json
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console, RenderableType

from tskd_tune.errors import InputError, TskdTuneError, printable, sentences
from tskd_tune.paths import Address, StoragePlace, local_path
from tskd_tune.records.runs.finding import has_run
from tskd_tune.redaction import redacted
from tskd_tune.signals import Ended, as_interrupts, continuing

P = ParamSpec("P")
R = TypeVar("R")

FAILED, WRONG = 1, 2
# The width for output that goes to no terminal, such as a file: wide enough for any table.
FILE_WIDTH = 240


def console() -> Console:
    """Return the console on stdout for tables, as wide as the terminal, or wide enough for a file."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=FILE_WIDTH)


def show(what: RenderableType) -> None:
    """Draw a table or a drawing on stdout."""
    console().print(what)


def say(line: str = "") -> None:
    """Write a line on stdout unchanged."""
    typer.echo(line)


def warn(lines: Iterable[str]) -> None:
    """Write warnings on stdout, one per line."""
    for line in lines:
        typer.echo(f"warning: {_harmless(redacted(line))}")


def complain(message: str) -> None:
    """Write an error on stderr, with ``error:`` before each line."""
    for line in redacted(message).splitlines() or [message]:
        typer.echo(f"error: {_harmless(line)}", err=True)


def _harmless(line: str) -> str:
    """Escape what would act on the terminal: a message may show a name that a stranger's file holds."""
    return "\n".join(printable(part) for part in line.split("\n"))


def put_json(value: object) -> None:
    """Write one object as JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def in_words(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command end any error with a sentence and an exit code; only a bug shows a traceback."""

    @functools.wraps(command)
    def told(*arguments: P.args, **options: P.kwargs) -> R:
        with warnings.catch_warnings():
            warnings.showwarning = _Warner()
            try:
                with as_interrupts():
                    _make_local(options)
                    return command(*arguments, **options)
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except KeyboardInterrupt:
                complain("interrupted; nothing was started")
                raise typer.Exit(Ended.code()) from None
            except Exception as error:
                raise typer.Exit(_told(error)) from error

    return told


PATH_OPTIONS = frozenset({"storage", "points", "output"})
"""The options that are paths; other paths are arguments, which are named in capitals."""


def _make_local(options: dict[str, object]) -> None:
    """Replace ``file:///a`` with the path ``/a`` in all options that are paths.

    The storage and the run may be on an object storage; other options refuse its addresses.
    """
    for name, value in options.items():
        if isinstance(value, Path) or (name == "run" and isinstance(value, str)):
            try:
                address = Address.read(str(value)) if name in ("storage", "run") else None
                if address is not None:
                    options[name] = str(address) if name == "run" else address
                else:
                    options[name] = type(value)(local_path(value))
            except ValueError as error:
                where = f"--{name}" if name in PATH_OPTIONS else name.upper()
                raise InputError(f"{where}: {error}") from error


def interrupted(folder: StoragePlace) -> typer.Exit:
    """Say how to continue an interrupted run, and return the exception that ends the command."""
    if has_run(folder):
        complain(f"interrupted; {continuing(folder)}")
    else:
        complain("interrupted; nothing was started")
    return typer.Exit(Ended.code())


def _of_system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    text = error.strerror or str(error) or type(error).__name__
    return f"{where}the operating system says: {text}; check the disk, the permissions and the limits of this user"


def _of_import(error: ImportError) -> str:
    name = f" ({error.name})" if error.name else ""
    return f"a package that is needed cannot be imported{name}: {error}; install it again"


# The errors that the user's machine or input can cause, and not a bug of this program -> the message.
CAUSES: tuple[tuple[type[Exception], Callable[[Any], str]], ...] = (
    (OSError, _of_system),
    (MemoryError, lambda error: "there is not enough memory; free memory, or lower task.batch_size or the data's size"),
    (ImportError, _of_import),
    (RecursionError, lambda error: "the input is nested too deeply; use fewer levels"),
    (UnicodeError, lambda error: f"a text or a name contains an invalid character ({error}); correct it"),
)


def _told(error: Exception) -> int:
    if isinstance(error, ValidationError):
        complain("\n".join(sentences(error)))
        return WRONG
    if isinstance(error, TskdTuneError):
        complain(str(error))
        return WRONG if isinstance(error, InputError) else FAILED
    told = next((told(error) for kind, told in CAUSES if isinstance(error, kind)), None)
    if told is not None:
        complain(told)
        return FAILED
    typer.echo(redacted("".join(traceback.format_exception(error))), err=True, nl=False)
    complain("this is a bug in tskd-tune, not a mistake in your input; please report it with the lines above")
    return FAILED


class _Warner:
    """Writes each warning once, also where several functions read the same file and give the same warning."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, message: Warning | str, category: type[Warning], *where: object, **to: object) -> None:
        if issubclass(category, UserWarning) and str(message) not in self._told:
            self._told.add(str(message))
            typer.echo(f"warning: {redacted(str(message))}", err=True)
