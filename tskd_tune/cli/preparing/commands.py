"""The commands that prepare a run. Each command imports its modules only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tskd_tune.cli.app import PREPARE, Form, Json, Settings, app
from tskd_tune.cli.terminal import in_words

KINDS = (
    "Kind of component: distillers, networks, tasks, teacher_methods, transforms, extractors, observers, optimizers,"
    " rate_schedules, searchers, schedulers, callbacks or studies; default: list all kinds with their components."
)
SPACE = "the name of a search space of the package (see `tskd-tune init`)."


@app.command("init", rich_help_panel=PREPARE, epilog="Example: tskd-tune init\n\nExample: tskd-tune init digits")
@in_words
def _init(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Name of a search space; default: list all search spaces.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy a search space of the package into this folder, or list all search spaces with their questions."""
    from tskd_tune.cli.preparing import starting

    starting.init(name, as_json=as_json)


@app.command(
    "check",
    rich_help_panel=PREPARE,
    epilog="Example: tskd-tune check digits\n\nExample: tskd-tune check my_sweep.yaml --data",
)
@in_words
def _check(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help=f"YAML file of a sweep, of an experiment or of a cluster, or {SPACE}",
            show_default=False,
        ),
    ],
    settings: Settings = None,
    data: Annotated[bool, typer.Option("--data", help="Also read all images: name damaged ones and doubles.")] = False,
    as_json: Json = False,
) -> None:
    """Check a sweep or an experiment without training it, and estimate runs, hours and disk."""
    from tskd_tune.cli.preparing import checking

    checking.check(file, settings or [], data=data, as_json=as_json)


@app.command(
    "plan",
    rich_help_panel=PREPARE,
    epilog="Example: tskd-tune plan --epochs 240 --k 3 --delta 5\n\nExample: tskd-tune plan digits",
)
@in_words
def _plan(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help=f"YAML file of a sweep or of an experiment, or {SPACE}",
            show_default=False,
        ),
    ] = None,
    *,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Number of epochs of the training.", show_default=False)
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", help="Number of snapshots that a review compares.", show_default=False)
    ] = None,
    delta: Annotated[
        int | None, typer.Option("--delta", help="Epochs from one snapshot to the next.", show_default=False)
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Show which epochs memorize and which review, with warnings about a weak plan."""
    from tskd_tune.cli.preparing import planning

    planning.plan(file, epochs=epochs, k=k, delta=delta, settings=settings or [], as_json=as_json)


@app.command(
    "list",
    rich_help_panel=PREPARE,
    epilog="Example: tskd-tune list distillers\n\nExample: tskd-tune list distillers crd",
)
@in_words
def _list(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help=KINDS, show_default=False)] = None,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Name of a component whose options are explained.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the components that a YAML file can name, or the options of one component: meanings, values, defaults."""
    from tskd_tune.cli.preparing import listing

    listing.list_components(kind, name, as_json=as_json)


@app.command("schema", rich_help_panel=PREPARE, epilog="Example: tskd-tune schema sweep > sweep.schema.json")
@in_words
def _schema(
    form: Annotated[
        Form, typer.Argument(metavar="[FORM]", help="Kind of YAML file: experiment or sweep.")
    ] = Form.EXPERIMENT,
) -> None:
    """Print the JSON Schema of a YAML file, so an editor can complete and check the file."""
    from tskd_tune.cli.preparing.schemas import json_schema
    from tskd_tune.cli.terminal import put_json

    put_json(json_schema(form.value))
