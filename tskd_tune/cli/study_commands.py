"""The command ``study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tskd_tune.cli.app import STUDY, Json, app
from tskd_tune.cli.terminal import in_words


@app.command(
    "study",
    rich_help_panel=STUDY,
    epilog="Example: tskd-tune study\n\nExample: tskd-tune study temporal --quick",
)
@in_words
def _study(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Name of the study; default: list all studies.", show_default=False),
    ] = None,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do a small version, in about two minutes on two cores.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="OPTION=VALUE",
            help="Set an option of the study (see `tskd-tune list studies NAME`); may be given several times.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FOLDER",
            help="Folder of the study; default: studies/NAME, or studies/NAME-quick.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a claim of the method, and write a page of figures with their numbers.

    The folder has index.html (the page), figures/*.csv (the numbers of each figure and table) and found.json
    (everything, with the options, the seeds and the versions). If a study was interrupted or killed, the same command
    goes on where it stopped.
    """
    from tskd_tune.cli import studying

    studying.study(name, quick=quick, settings=settings or [], output=output, as_json=as_json)
