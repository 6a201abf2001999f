"""The command line of the benchmarks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from benchmarks import calibration, distillers
from tskd_tune.distillers import DISTILLERS
from tskd_tune.reports.judge.contrasts import MARGIN
from tskd_tune.reports.judge.records import LEAST_SEEDS

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def benchmarks() -> None:
    """Measure what things cost on this machine, as ratios within one run: machines are noisy, ratios less so."""


@app.command(name="distillers")
def cost_of_distillers(
    *,
    names: Annotated[list[str] | None, typer.Argument(help="distillers; all of them if none is named")] = None,
    teacher: Annotated[str, typer.Option(help="the teacher's network")] = "resnet56",
    student: Annotated[str, typer.Option(help="the student's network")] = "resnet20",
    samples: Annotated[int, typer.Option(help="training images, made up; CRD's memory banks are as long")] = 50_000,
    batch_size: Annotated[int, typer.Option(help="images in a batch")] = 64,
    steps: Annotated[int, typer.Option(help="steps of each distiller in a round")] = 5,
    rounds: Annotated[int, typer.Option(help="rounds, in each of which every distiller has its turn")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads")] = 1,
    output: Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")] = None,
) -> None:
    """Compare a step of every distiller with a step of plain training: seconds and peak memory."""
    setting = distillers.Setting(teacher, student, samples, batch_size, steps, threads)
    wanted = names or [entry.name for entry in DISTILLERS if entry.name not in ("none", "combined")]
    costs = distillers.measure(setting, wanted, rounds)
    Console().print(distillers.table(setting, costs))
    if output is not None:
        output.write_text(json.dumps([vars(cost) for cost in costs], indent=1) + "\n")


@app.command(name="calibration")
def rate_of_false_verdicts(
    *,
    tables: Annotated[int, typer.Option(min=1, help="comparisons, each with seeds of its own")] = 200,
    seeds: Annotated[int, typer.Option(min=LEAST_SEEDS, help="seeds under each of the two names")] = LEAST_SEEDS,
    arm: Annotated[calibration.Arm, typer.Option(help="what is trained under both names")] = calibration.Arm.TSKD,
    margin: Annotated[float, typer.Option(min=0.01, help="points that count as no difference")] = MARGIN,
    output: Annotated[Path | None, typer.Option("--json", help="also write figures and tables to this file")] = None,
) -> None:
    """Train one arm under two names with disjoint seeds, and count how often a report tells them apart."""
    experiment, started = calibration.document(arm), time.perf_counter()
    trained = calibration.trainings(experiment, calibration.deal(tables, seeds))
    rows = list(track(trained, "training", total=2 * tables * seeds, console=Console(stderr=True)))
    dealt = calibration.gathered(rows)
    found = calibration.figures(dealt, margin, time.perf_counter() - started)
    Console().print(calibration.table(arm, found))
    if output is not None:
        judged = [vars(calibration.judge(rows_of_one, margin)) for rows_of_one in dealt]
        plain = {"arm": arm, "experiment": experiment, **found.plain(), "judged": judged}
        output.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    app()
