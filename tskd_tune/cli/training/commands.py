"""The commands that train. Each command imports its modules only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tskd_tune.cli.app import (
    CLUSTERS,
    RUNS,
    TRAIN,
    Address,
    ControlNames,
    File,
    Name,
    NoWandb,
    Run,
    Settings,
    Storage,
    Wandb,
    app,
)
from tskd_tune.cli.terminal import in_words

ExperimentFile = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="YAML file of one experiment, without values to search.", show_default=False),
]


@app.command(
    "sweep",
    rich_help_panel=TRAIN,
    epilog="Example: tskd-tune sweep digits --name first"
    "\n\nExample: tskd-tune sweep digits_search --name search --replicates 5",
)
@in_words
def _sweep(
    file: File,
    *,
    name: Name = None,
    replicates: Annotated[
        int | None,
        typer.Option(
            "--replicates",
            metavar="N",
            min=2,
            help="Run a search N times with different seeds, as runs NAME-1 to NAME-N; the same command goes on with"
            " what is left.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = RUNS,
    settings: Settings = None,
    no_wandb: NoWandb = False,
    address: Address = None,
) -> None:
    """Run a sweep on this machine, or on the Ray cluster that --address or RAY_ADDRESS names."""
    from tskd_tune.sweeps.on_ray.ray_address import addressed

    with addressed(address):
        if replicates is not None:
            from tskd_tune.cli.training import replicating

            replicating.replicated(file, name, storage, settings or [], count=replicates, track=not no_wandb)
        else:
            from tskd_tune.cli.training import running

            running.sweep(file, name, storage, settings or [], track=not no_wandb)


@app.command(
    "resume",
    rich_help_panel=TRAIN,
    epilog="Example: tskd-tune resume first\n\nExample: tskd-tune resume first --hours 2",
)
@in_words
def _resume(
    run: Run,
    *,
    hours: Annotated[
        float | None,
        typer.Option(
            "--hours",
            metavar="N",
            min=0.0,
            help="Let a sweep whose budget is used up go on for N hours: its budget becomes the hours used plus N.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = RUNS,
    wandb: Wandb = None,
    address: Address = None,
) -> None:
    """Finish a run that was interrupted, from its last checkpoints, or train again what broke in it."""
    from tskd_tune.cli.training import running
    from tskd_tune.sweeps.on_ray.ray_address import addressed

    with addressed(address):
        running.resume(run, storage, track=wandb, hours=hours)


@app.command(
    "extend",
    rich_help_panel=TRAIN,
    epilog="Example: tskd-tune extend first --seeds 6-10\n\nExample: tskd-tune extend first --controls zeros,shuffled"
    "\n\nExample: tskd-tune extend first --points my_sweep_with_k9.yaml",
)
@in_words
def _extend(
    run: Run,
    *,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="SEEDS", help="Seeds to add, such as 6-10 or 1,3,6-10.", show_default=False),
    ] = None,
    controls: ControlNames = None,
    points: Annotated[
        Path | None,
        typer.Option(
            "--points",
            metavar="FILE",
            help="YAML file of a sweep; what it has and the run lacks is added.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = RUNS,
    wandb: Wandb = None,
    address: Address = None,
) -> None:
    """Add seeds, control arms or configurations to a finished grid; only the missing runs are trained.

    To add configurations, edit a copy of the sweep's file and give the copy by --points. Finished runs are kept.

    A search cannot be extended: it chose its configurations with its own seeds. Use `tskd-tune confirm` with new seeds.
    """
    from tskd_tune.cli.training import running
    from tskd_tune.sweeps.on_ray.ray_address import addressed

    with addressed(address):
        running.extend(run, storage, seeds=seeds, controls=controls, points=points, track=wandb)


@app.command(
    "confirm",
    rich_help_panel=TRAIN,
    epilog="Example: tskd-tune confirm search --seeds 101-110 --controls at_review,shuffled --name confirmed",
)
@in_words
def _confirm(
    run: Run,
    *,
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds", metavar="SEEDS", help="Seeds that the search did not use, such as 101-105.", show_default=False
        ),
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="Number of the best configurations to train.")] = 1,
    against: Annotated[
        str, typer.Option("--against", metavar="ARM", help="Label of the arm that all others are compared with.")
    ] = "baseline",
    controls: ControlNames = None,
    name: Name = None,
    storage: Storage = RUNS,
    settings: Settings = None,
    wandb: Wandb = None,
    address: Address = None,
) -> None:
    """Train the winners of a search again: with new seeds, on all training images, tested once on the test set.

    The run has three kinds of arms: the best configurations by the validation metric, the same student without teacher
    and review (`baseline`), and the paper's setting (`paper`). The validation images are used for training.
    Controls show which part of the winner helps; controls given here count in the correction from the start.
    """
    from tskd_tune.cli.training import running
    from tskd_tune.sweeps.on_ray.ray_address import addressed

    with addressed(address):
        running.confirm(
            run,
            storage,
            settings or [],
            seeds=seeds,
            top=top,
            against=against,
            controls=controls,
            name=name,
            track=wandb,
        )


@app.command("train", rich_help_panel=TRAIN, epilog="Example: tskd-tune train experiment.yaml --set seed=2")
@in_words
def _train(
    file: ExperimentFile,
    name: Name = None,
    storage: Storage = RUNS,
    settings: Settings = None,
    no_wandb: NoWandb = False,
) -> None:
    """Train one experiment on this machine, without Ray."""
    from tskd_tune.cli.training import running

    running.train(file, name, storage, settings or [], track=not no_wandb)


@app.command(
    "submit",
    rich_help_panel=CLUSTERS,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: tskd-tune submit http://127.0.0.1:8265 sweep digits --storage s3://my-bucket/runs --name first"
    "\n\nExample: tskd-tune submit http://127.0.0.1:8265 resume s3://my-bucket/runs/first",
)
@in_words
def _submit(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Dashboard of the cluster, such as http://127.0.0.1:8265.")
    ],
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND...", help="sweep FILE, resume RUN, extend RUN or confirm RUN, with its options."
        ),
    ],
    *,
    more: Annotated[
        list[Path] | None,
        typer.Option(
            "--with", metavar="PATH", help="More files to send, such as your module; may be given several times."
        ),
    ] = None,
) -> None:
    """Send a sweep to a Ray cluster as a job, so that this machine may sleep.

    The YAML file, the files that it extends and your modules that it names are sent too. `ray dashboard cluster.yaml`
    opens a tunnel to the dashboard.
    """
    from tskd_tune.cli.training import submitting

    submitting.submit(address, command, more or [])
