"""The commands and their flags; what an experiment is stands in its YAML, and ``--set`` is the only way past it.

A command imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tskd_tune.cli.terminal import in_words, say
from tskd_tune.version import __version__

EXAMPLES = """
**Examples**

    tskd-tune plan --epochs 240 --k 3 --delta 5

    tskd-tune check digits

    tskd-tune sweep digits --name first

    tskd-tune sweep digits --set experiment.training.epochs=24 --set 'seeds=[1, 2]'

    tskd-tune report first

RUN is the path of a run's folder, or its name under --storage. Exit codes: 0 done, 1 something failed during the
run, 2 the input is wrong, 130 interrupted, 143 ended by SIGTERM.
"""

app = typer.Typer(
    help="Does reviewing help, which k, delta and lambda are worth their cost, and can the answer be trusted?",
    epilog=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Form(StrEnum):
    """The forms of YAML."""

    EXPERIMENT = "experiment"
    SWEEP = "sweep"


class Output(StrEnum):
    """The forms of a report on stdout."""

    MD = "md"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


class What(StrEnum):
    """The tables of a report that are CSV."""

    ARMS = "arms"
    VERDICTS = "verdicts"
    RUNS = "runs"


File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="YAML of a sweep or of an experiment, or the name of a search space of the package (`tskd-tune init`).",
        show_default=False,
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its name.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.KEY=VALUE", help="Set a value of the YAML; may be repeated.", show_default=False
    ),
]
Storage = Annotated[Path, typer.Option("--storage", metavar="DIR", help="The folder that holds the runs.")]
Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="The run's name; by default the file's and the time.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else.")]
NoWandb = Annotated[bool, typer.Option("--no-wandb", help="Keep no Weights & Biases runs.")]
ControlNames = Annotated[
    str | None, typer.Option("--controls", metavar="NAMES", help="Control arms to add, or all.", show_default=False)
]
ToWandb = Annotated[bool, typer.Option("--wandb", help="Save it as a Weights & Biases Report too.")]
RUNS = Path("runs")
KINDS = "distillers|networks|tasks|teacher_methods|transforms|extractors|observers|searchers|schedulers"


def main() -> None:
    """Run the command line; what a terminal cannot show, such as a file's name that is no UTF-8, is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()


def _show_version(asked: bool) -> None:
    if asked:
        say(f"tskd-tune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command("init", epilog="Example: tskd-tune init\n\nExample: tskd-tune init digits")
@in_words
def _init(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which one; without it, all are listed.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy a search space of the package into this folder, to change and run it; or list all with their questions."""
    from tskd_tune.cli import starting

    starting.init(name, as_json=as_json)


@app.command("check", epilog="Example: tskd-tune check digits")
@in_words
def _check(
    file: File,
    settings: Settings = None,
    data: Annotated[bool, typer.Option("--data", help="Read and decode all images of the task.")] = False,
    as_json: Json = False,
) -> None:
    """Check a sweep or an experiment without training it, and estimate runs, hours and disk."""
    from tskd_tune.cli import checking

    checking.check(file, settings or [], data=data, as_json=as_json)


@app.command("plan", epilog="Example: tskd-tune plan --epochs 240 --k 3 --delta 5")
@in_words
def _plan(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="YAML of a sweep or of an experiment, or the name of a search space of the package.",
            show_default=False,
        ),
    ] = None,
    *,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Epochs of training.", show_default=False)] = None,
    k: Annotated[int | None, typer.Option("--k", help="Memories that a review reads.", show_default=False)] = None,
    delta: Annotated[int | None, typer.Option("--delta", help="Epochs between memories.", show_default=False)] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Draw which epochs memorize and which review, and say where that makes a weak experiment."""
    from tskd_tune.cli import planning

    planning.plan(file, epochs=epochs, k=k, delta=delta, settings=settings or [], as_json=as_json)


@app.command("train", epilog="Example: tskd-tune train experiment.yaml --set seed=2")
@in_words
def _train(
    file: File, name: Name = None, storage: Storage = RUNS, settings: Settings = None, no_wandb: NoWandb = False
) -> None:
    """Train one experiment on this machine, without Ray."""
    from tskd_tune.cli import running

    running.train(file, name, storage, settings or [], track=not no_wandb)


@app.command("sweep", epilog="Example: tskd-tune sweep digits --name first")
@in_words
def _sweep(
    file: File, name: Name = None, storage: Storage = RUNS, settings: Settings = None, no_wandb: NoWandb = False
) -> None:
    """Run a sweep on this machine, or on the Ray cluster that RAY_ADDRESS names."""
    from tskd_tune.cli import running

    running.sweep(file, name, storage, settings or [], track=not no_wandb)


@app.command("resume", epilog="Example: tskd-tune resume runs/first")
@in_words
def _resume(run: Run, storage: Storage = RUNS, no_wandb: NoWandb = False) -> None:
    """Finish a run that was cut off, from its last checkpoints."""
    from tskd_tune.cli import running

    running.resume(run, storage, track=not no_wandb)


@app.command(
    "extend",
    epilog="Example: tskd-tune extend first --seeds 6-10\n\nExample: tskd-tune extend first --controls zeros,shuffled"
    "\n\nExample: tskd-tune extend first --points my_sweep_with_k9.yaml",
)
@in_words
def _extend(
    run: Run,
    *,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="SEEDS", help="As 6-10 or 1,3,6-10.", show_default=False)
    ] = None,
    controls: ControlNames = None,
    points: Annotated[
        Path | None,
        typer.Option("--points", metavar="FILE", help="A sweep whose new points are added.", show_default=False),
    ] = None,
    storage: Storage = RUNS,
    no_wandb: NoWandb = False,
) -> None:
    """Add seeds, control arms or points to a sweep that was run: only what is missing is trained, in the same folder.

    For points, edit a copy of the sweep's file and give it: what the run has is left alone, what is new is added.

    For sweeps over a grid. A search chose its points by its seeds, so its winners are confirmed on fresh ones instead.
    """
    from tskd_tune.cli import running

    running.extend(run, storage, seeds=seeds, controls=controls, points=points, track=not no_wandb)


@app.command("confirm", epilog="Example: tskd-tune confirm search --seeds 101-110 --controls at_review,shuffled")
@in_words
def _confirm(
    run: Run,
    *,
    seeds: Annotated[str, typer.Option("--seeds", metavar="SEEDS", help="Fresh ones, as 101-105.", show_default=False)],
    top: Annotated[int, typer.Option("--top", min=1, help="How many of the best points.")] = 1,
    against: Annotated[str, typer.Option("--against", metavar="ARM", help="What all are compared with.")] = "baseline",
    controls: ControlNames = None,
    name: Name = None,
    storage: Storage = RUNS,
    settings: Settings = None,
    no_wandb: NoWandb = False,
) -> None:
    """Train the winners of a search anew, on fresh seeds and the whole training set; the test part is read once.

    The best point by the validation metric is trained beside the same student without teacher and review (the arm
    `baseline`) and beside the paper's setting (`paper`), with the validation part merged back, as a run of its own.
    Controls of the best point say what of it helps; named here they belong to the comparison from its beginning.
    """
    from tskd_tune.cli import running

    running.confirm(
        run,
        storage,
        settings or [],
        seeds=seeds,
        top=top,
        against=against,
        controls=controls,
        name=name,
        track=not no_wandb,
    )


@app.command("report", epilog="Example: tskd-tune report first --json")
@in_words
def _report(
    run: Run,
    *,
    storage: Storage = RUNS,
    as_json: Json = False,
    form: Annotated[
        Output | None,
        typer.Option("--format", help="Print it on stdout in this form, and write nothing.", show_default=False),
    ] = None,
    what: Annotated[
        What | None, typer.Option("--what", help="Which table is CSV; by default the arms.", show_default=False)
    ] = None,
    paper: Annotated[
        str | None,
        typer.Option(
            "--paper", metavar="TABLE", help="A table of the paper, table1 to table7, beside it.", show_default=False
        ),
    ] = None,
    to_wandb: ToWandb = False,
) -> None:
    """Show what a run has found, and write its report.html and report.md anew."""
    from tskd_tune.cli import looking

    looking.report(run, storage, looking.Wish.of(as_json, form, what, paper))
    if to_wandb:
        from tskd_tune.cli import sharing

        sharing.publish(run, storage, as_json=as_json)


@app.command("sync", epilog="Example: tskd-tune sync first --entity my-team")
@in_words
def _sync(
    run: Run,
    *,
    entity: Annotated[
        str | None, typer.Option("--entity", help="User or team; by default WANDB_ENTITY.", show_default=False)
    ] = None,
    project: Annotated[
        str | None,
        typer.Option("--project", help="By default WANDB_PROJECT, else the one recorded.", show_default=False),
    ] = None,
    storage: Storage = RUNS,
) -> None:
    """Upload the Weights & Biases runs that a run kept offline; those uploaded before are left out."""
    from tskd_tune.cli import sharing

    sharing.sync(run, storage, entity=entity, project=project)


@app.command("status", epilog="Example: tskd-tune status first --watch")
@in_words
def _status(
    run: Run,
    storage: Storage = RUNS,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again until the run has ended.")] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="The time between two looks of --watch.")
    ] = 2.0,
) -> None:
    """Show how far a run is, from its files alone, while it runs or afterwards: teachers, trials, best so far, time."""
    from tskd_tune.cli import status

    status.status(run, storage, as_json=as_json, watch=every if watch else None)


@app.command("runs", epilog="Example: tskd-tune runs --storage runs")
@in_words
def _runs(storage: Storage = RUNS, as_json: Json = False) -> None:
    """List the runs that a folder holds: what each asks, how far it is, and its best arm."""
    from tskd_tune.cli import inventory

    inventory.runs(storage, as_json=as_json)


@app.command("export", epilog="Example: tskd-tune export first kd student.pth --seed 2")
@in_words
def _export(
    run: Run,
    arm: Annotated[str, typer.Argument(metavar="ARM", help="The arm, or the trial's id.", show_default=False)],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.", show_default=False)],
    seed: Annotated[int | None, typer.Option("--seed", help="Which seed; by default the first that is done.")] = None,
    storage: Storage = RUNS,
) -> None:
    """Copy the final student of an arm, a checkpoint in the field's layout."""
    from tskd_tune.cli import looking

    looking.export(run, arm, file, seed, storage)


@app.command("list", epilog="Example: tskd-tune list distillers\n\nExample: tskd-tune list distillers crd")
@in_words
def _list(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help=KINDS, show_default=False)] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One component, to explain its options.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the components that a YAML can name, or explain one: its options, their meanings, values and defaults."""
    from tskd_tune.cli import listing

    listing.list_components(kind, name, as_json=as_json)


@app.command("schema", epilog="Example: tskd-tune schema sweep > sweep.schema.json")
@in_words
def _schema(form: Annotated[Form, typer.Argument(help="The form of YAML.")] = Form.EXPERIMENT) -> None:
    """Print the JSON Schema of a form of YAML, so that an editor completes and checks it."""
    from tskd_tune.cli.schemas import json_schema
    from tskd_tune.cli.terminal import put_json

    put_json(json_schema(form.value))
