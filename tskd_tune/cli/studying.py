"""The ``study`` command: does a study and shows what was found."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from tskd_tune.cli.terminal import complain, put_json, say
from tskd_tune.signals import Ended
from tskd_tune.studies import STUDIES
from tskd_tune.studies.work import PAGE, command_of, default_folder, do_study, options_of


def study(name: str | None, *, quick: bool, settings: Sequence[str], output: Path | None, as_json: bool) -> None:
    """Do a study and show its sentences, or list the studies.

    Raises:
        InputError: there is no such study, or an option or the folder is wrong.
        RunError: something failed; the same command goes on.
    """
    if name is None:
        _list(as_json=as_json)
        return
    options_of(name, quick=quick, settings=settings)  # a mistake is told before anything else
    folder = output or default_folder(name, quick=quick)
    again = command_of(name, quick=quick, settings=settings)
    if output is not None:
        again += f" --output {shlex.quote(str(output))}"
    tell = _unheard if as_json else say
    tell(f"{name}: works in {folder}; if it is interrupted, the same command goes on: {again}")
    try:
        whole = do_study(name, folder, quick=quick, settings=settings, tell=tell)
    except KeyboardInterrupt:
        complain(f"interrupted; finished trainings and jobs are kept in {folder}; continue with: {again}")
        raise typer.Exit(Ended.code()) from None
    if as_json:
        put_json({"folder": str(folder), **asdict(whole)})
        return
    for sentence in whole.found.sentences:
        say(sentence)
    say(f"page: {folder / PAGE}")


def _list(*, as_json: bool) -> None:
    asked = {entry.name: entry.summary for entry in STUDIES}
    if as_json:
        put_json(asked)
        return
    for name, summary in asked.items():
        say(f"{name}: {summary}")
    say("their options: tskd-tune list studies NAME; a study in two minutes: tskd-tune study NAME --quick")


def _unheard(text: str) -> None:
    """Say nothing, because stdout has one JSON object only."""
