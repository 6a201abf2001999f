"""The application of the command line, and the arguments and flags that several commands share."""

from __future__ import annotations

import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tskd_tune.cli.terminal import WRONG, complain, say
from tskd_tune.version import __version__

EXAMPLES = """
**A first run, in minutes**

    tskd-tune sweep digits --name first

    tskd-tune report first

**A sweep of your own**

    tskd-tune init digits

    tskd-tune check digits.yaml --set 'seeds=1-5'

    tskd-tune sweep digits.yaml --set 'seeds=1-5'

**Which epochs memorize, which review?**

    tskd-tune plan --epochs 240 --k 3 --delta 5

RUN is the folder or the address of a run, or the name of a run under --storage. Exit codes: 0 done, 1 something failed
during the run, 2 the input is wrong, 130 interrupted by Ctrl-C, 143 ended by SIGTERM, 129 by SIGHUP.
"""

# The groups of commands in the help, in the order of a study.
PREPARE, TRAIN, LOOK, CLUSTERS, STUDY = (
    "Before a run",
    "Train",
    "Look at runs",
    "Clusters",
    "Claims of the method",
)


class Commands(TyperGroup):
    """Commands whose options are given once each, except for those that take several values."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, group by group."""
        order = {group: place for place, group in enumerate((PREPARE, TRAIN, LOOK, CLUSTERS, STUDY))}
        groups = {name: getattr(command, "rich_help_panel", "") for name, command in self.commands.items()}
        return sorted(super().list_commands(ctx), key=lambda name: order.get(groups[name], len(order)))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the words name, and refuse a repeated option: only its last value would count."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            own = command.context_class(command, parent=ctx, **command.context_settings)
            _, _, order = command.make_parser(own).parse_args(list(rest))
            for given in order:
                if order.count(given) > 1 and not given.multiple and not getattr(given, "is_flag", False):
                    complain(f"{given.opts[0]}: is given {order.count(given)} times, but takes one value; give it once")
                    raise typer.Exit(WRONG)
        return name, command, rest


app = typer.Typer(
    cls=Commands,
    help="Sweeps of Temporal Supervised Knowledge Distillation: does reviewing help, with which k, delta and lambda?",
    epilog=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Form(StrEnum):
    """The kinds of YAML files."""

    EXPERIMENT = "experiment"
    SWEEP = "sweep"


class Output(StrEnum):
    """The formats of a report on stdout."""

    MD = "md"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


class What(StrEnum):
    """The tables of a report that can be printed as CSV."""

    ARMS = "arms"
    VERDICTS = "verdicts"
    RUNS = "runs"
    SEARCH = "search"


File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="YAML file of a sweep, or the name of a search space of the package (see `tskd-tune init`).",
        show_default=False,
    ),
]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Folder or address of a run, or the name of a run under --storage.", show_default=False
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.KEY=VALUE",
        help="Set a key of the YAML file; may be given several times.",
        show_default=False,
    ),
]


def _given_place(given: str | Path) -> Path:
    """Return the value of ``--storage``; an empty one, as of an unset variable, would mean the current folder."""
    if not str(given):
        raise typer.BadParameter("the path is empty; give the folder that holds the runs, or . for the current folder")
    return Path(given)


Storage = Annotated[
    Path,
    typer.Option(
        "--storage",
        parser=_given_place,
        metavar="DIR",
        envvar="TSKD_TUNE_STORAGE",
        show_envvar=False,
        help="Folder that holds the runs, or its address on an object storage, such as s3://bucket/runs;"
        " default: $TSKD_TUNE_STORAGE or runs.",
        show_default=False,
    ),
]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name of the run; default: FILE-TIME.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]
NoWandb = Annotated[bool, typer.Option("--no-wandb", help="Do not write Weights & Biases runs.")]
Wandb = Annotated[
    bool | None,
    typer.Option(
        "--wandb/--no-wandb", help="Whether to write Weights & Biases runs; default: as RUN began.", show_default=False
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Ray cluster to join, in place of RAY_ADDRESS: HOST:PORT of its head, auto, or local for none.",
        show_default=False,
    ),
]
ControlNames = Annotated[
    str | None,
    typer.Option(
        "--controls", metavar="NAMES", help="Control arms to add, separated by commas, or all.", show_default=False
    ),
]
ToWandb = Annotated[bool, typer.Option("--wandb", help="Also save the report as a Weights & Biases Report.")]
RUNS = Path("runs")


def main() -> None:
    """Run the command line. Text that a terminal cannot show, such as a file name that is not UTF-8, is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        Path.cwd()
    except OSError as error:  # torch cannot be imported without a current folder, and ends the process
        complain(f"the current folder is gone or closed to this user ({error.strerror}); change to another folder")
        sys.exit(WRONG)
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
