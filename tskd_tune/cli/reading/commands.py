"""The commands that show the results of a run. Each command imports its modules only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tskd_tune.cli.app import LOOK, RUNS, Json, Output, Run, Storage, ToWandb, What, app
from tskd_tune.cli.terminal import in_words

Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="RUN",
        help="Compare a search with another search at equal numbers of trials; both are runs or groups of replicates.",
        show_default=False,
    ),
]
CompareSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="compare.KEY=VALUE",
        help="Show the verdicts with another key of compare, as exploratory ones, and write no file.",
        show_default=False,
    ),
]


@app.command(
    "report",
    rich_help_panel=LOOK,
    epilog="Example: tskd-tune report first\n\nExample: tskd-tune report first --format csv --what runs > runs.csv"
    "\n\nExample: tskd-tune report tskd_search --against kd_search",
)
@in_words
def _report(
    run: Run,
    *,
    storage: Storage = RUNS,
    as_json: Json = False,
    form: Annotated[
        Output | None,
        typer.Option(
            "--format", help="Print the report on stdout in this format, and write no file.", show_default=False
        ),
    ] = None,
    what: Annotated[
        What | None, typer.Option("--what", help="Table to print as CSV; default: arms.", show_default=False)
    ] = None,
    paper: Annotated[
        str | None,
        typer.Option(
            "--paper",
            metavar="TABLE",
            help="Show a table of the paper, table1 to table7, beside the results.",
            show_default=False,
        ),
    ] = None,
    cost: Annotated[
        bool,
        typer.Option("--cost", help="Show what each arm cost, too; with --format, the table of costs alone."),
    ] = False,
    against: Against = None,
    settings: CompareSettings = None,
    to_wandb: ToWandb = False,
) -> None:
    """Show what a run has found, and write report.html and report.md again.

    Of a group of replicates (`tskd-tune sweep --replicates`), show the best value by the number of trials.
    """
    from tskd_tune.cli.reading import looking

    wish = looking.Wish.of(
        as_json, form, what, paper, cost=cost, against=against, settings=settings or [], to_wandb=to_wandb
    )
    looking.report(run, storage, wish)
    if to_wandb:
        from tskd_tune.cli.reading import sharing

        sharing.publish(run, storage, as_json=as_json)


@app.command("status", rich_help_panel=LOOK, epilog="Example: tskd-tune status first --watch")
@in_words
def _status(
    run: Run,
    storage: Storage = RUNS,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until the run has ended.")] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="Seconds between two updates of --watch.")
    ] = 2.0,
) -> None:
    """Show the progress of a run, also of one that has ended: teachers, trials, best arm so far, time left."""
    from tskd_tune.cli.reading import status

    status.status(run, storage, as_json=as_json, watch=every if watch else None)


@app.command("runs", rich_help_panel=LOOK, epilog="Example: tskd-tune runs --storage runs")
@in_words
def _runs(storage: Storage = RUNS, as_json: Json = False) -> None:
    """List the runs in a folder, each with its question, state and best arm."""
    from tskd_tune.cli.reading import inventory

    inventory.runs(storage, as_json=as_json)


@app.command("export", rich_help_panel=LOOK, epilog="Example: tskd-tune export first kd student.pth --seed 2")
@in_words
def _export(
    run: Run,
    arm: Annotated[str, typer.Argument(metavar="ARM", help="Label of an arm, or id of a trial.", show_default=False)],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="New file for the checkpoint.", show_default=False)],
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the training; default: the first finished seed.")
    ] = None,
    storage: Storage = RUNS,
) -> None:
    """Copy the final student of an arm as a checkpoint that other repositories can load."""
    from tskd_tune.cli.reading import looking

    looking.export(run, arm, file, seed, storage)


@app.command("sync", rich_help_panel=LOOK, epilog="Example: tskd-tune sync first --entity my-team")
@in_words
def _sync(
    run: Run,
    *,
    entity: Annotated[
        str | None, typer.Option("--entity", help="W&B user or team; default: WANDB_ENTITY.", show_default=False)
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(
            "--project",
            help="W&B project; default: WANDB_PROJECT, otherwise the project recorded in the run.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = RUNS,
) -> None:
    """Upload the offline Weights & Biases runs of a run; runs that were uploaded before are left out."""
    from tskd_tune.cli.reading import sharing

    sharing.sync(run, storage, entity=entity, project=project)
