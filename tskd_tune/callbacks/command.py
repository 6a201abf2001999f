"""Runs a command of the user's at events, such as one that sends mail or a message to Slack."""

from __future__ import annotations

import os
import subprocess
from typing import Annotated

from pydantic import Field, PositiveFloat

from tskd_tune.callbacks.base import CALLBACKS, Callback, Heard
from tskd_tune.errors import RunError
from tskd_tune.options import DISTINCT
from tskd_tune.records.entries.events import Event, What
from tskd_tune.records.storing.lines import json_line

PREFIX = "TSKD_TUNE_"
# Fields of an event that the command has as variables of its environment.
SHOWN = ("what", "arm", "run", "seed", "epoch", "epochs", "reason")


@CALLBACKS.register("command", source="a program of the user's")
class Command(Callback):
    """Runs a program at events; the event is JSON on the standard input, and variables of the environment.

    The variables are ``TSKD_TUNE_SWEEP``, ``TSKD_TUNE_FOLDER``, ``TSKD_TUNE_WHAT``, ``_ARM``, ``_RUN``, ``_SEED``,
    ``_EPOCH``, ``_EPOCHS`` and ``_REASON``; a variable without a value is empty. No shell reads the words. The program
    has the environment of the sweep, so it finds a password or a web address there and none stands in the file.
    """

    def __init__(
        self,
        run: Heard,
        *,
        words: Annotated[list[str], Field(min_length=1, examples=[["sh", "notify.sh"]])],
        on: Annotated[list[What], DISTINCT] = ["finished", "failed", "ended"],  # noqa: B006
        seconds: PositiveFloat = 60.0,
    ) -> None:
        """Choose the program.

        Args:
            run: the run whose events are heard.
            words: the program and its arguments, such as ``[sh, notify.sh]``.
            on: the events at which the program is run.
            seconds: the longest time of one call; then the program is ended.
        """
        self._run = run
        self._words = words
        self._on = frozenset(on)
        self._seconds = seconds

    def hear(self, event: Event) -> None:
        """Run the program.

        Raises:
            RunError: the program is missing, takes too long, or returns a status other than 0.
        """
        if event.what not in self._on:
            return
        plain = {"sweep": self._run.name, "folder": str(self._run.place), **event.plain()}
        shown = {name: "" if plain[name] is None else str(plain[name]) for name in ("sweep", "folder", *SHOWN)}
        environment = {**os.environ, **{f"{PREFIX}{name.upper()}": value for name, value in shown.items()}}
        try:
            done = subprocess.run(
                self._words,
                input=json_line(plain),
                env=environment,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=self._seconds,
                check=False,
            )
        except OSError as error:
            raise RunError(f"'{self._words[0]}' cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired:
            raise RunError(f"'{self._words[0]}' was ended after {self._seconds:g} s") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip().rpartition("\n")[2][:200]
            raise RunError(f"'{self._words[0]}' returned the status {done.returncode}" + (f": {said}" if said else ""))
