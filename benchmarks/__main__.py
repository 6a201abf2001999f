"""The command line of the benchmarks. Each command imports what it measures, so that no suite needs Ray or W&B."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer
from rich.console import Console

from benchmarks.arm import Arm

if TYPE_CHECKING:
    import torch

    from benchmarks.rows import Report

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Device: TypeAlias = Annotated[str, typer.Option("--device", help="cpu, with one thread, or cuda")]
Output: TypeAlias = Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")]
Quick: TypeAlias = Annotated[bool, typer.Option("--quick", help="fewer and smaller steps: in less than a minute")]
Measure: TypeAlias = "Callable[[torch.device, bool], Report]"


@app.callback()
def benchmarks() -> None:
    """Measure what things cost on this machine, as ratios within one run: machines are noisy, ratios less so."""


@app.command(name="step")
def cost_of_steps(*, device: Device = "cpu", output: Output = None, quick: Quick = False) -> None:
    """A general step and a KD step, beside those of a loop in the style of the field."""
    _suite("step", lambda on, fast: _steps("step", on, fast), device, output, quick)


@app.command(name="review")
def cost_of_reviews(*, device: Device = "cpu", output: Output = None, quick: Quick = False) -> None:
    """A review step, in general steps of the same precision, and beside that of the field's loop."""
    _suite("review", lambda on, fast: _steps("review", on, fast), device, output, quick)


@app.command(name="cycle")
def cost_of_cycles(*, device: Device = "cpu", output: Output = None, quick: Quick = False) -> None:
    """15 general steps and one review of ResNet-20 under ResNet-56, beside those of the field's loop."""
    _suite("cycle", lambda on, fast: _steps("cycle", on, fast), device, output, quick)


@app.command(name="loader")
def cost_of_loading(*, device: Device = "cpu", output: Output = None, quick: Quick = False) -> None:
    """Augmented images per second, beside a DataLoader that augments PIL images one by one."""
    from benchmarks import loader

    _suite("loader", lambda on, fast: loader.run(on, quick=fast), device, output, quick)


@app.command(name="together")
def cost_together(*, device: Device = "cpu", output: Output = None, quick: Quick = False) -> None:
    """Several trainings in one process that take their steps in turns, beside one alone."""
    from benchmarks import together

    _suite("together", lambda on, fast: together.run(on, quick=fast), device, output, quick)


@app.command(name="layouts")
def cost_of_layouts(*, device: Device = "cpu", output: Output = None, quick: Quick = False) -> None:
    """A step of several networks with channels last, beside channels first."""
    from benchmarks import layouts

    _suite("layouts", lambda on, fast: layouts.run(on, quick=fast), device, output, quick)


@app.command(name="profile")
def hot_spots_of_steps(*, device: Device = "cpu", output: Output = None, quick: Quick = False) -> None:
    """Which operations, or kernels on a GPU, a general step and a review spend their time in."""
    from benchmarks import hot_spots

    _suite("profile", lambda on, fast: hot_spots.run(on, quick=fast), device, output, quick)


@app.command(name="tables")
def cost_of_tables(*, device: Device = "cpu", output: Output = None, quick: Quick = False) -> None:
    """The paper's tables 5 to 7 with three seeds, extrapolated from the time of each kind of step."""
    from benchmarks import tables

    _suite("tables", lambda on, fast: tables.run(on, quick=fast), device, output, quick)


@app.command(name="platform")
def cost_of_the_platform(*, output: Output = None, quick: Quick = False) -> None:
    """What a sweep costs beside its trainings: trials that sleep, through the whole of Ray Tune and the records."""
    from benchmarks import platform

    _suite("platform", lambda on, fast: platform.run(on, quick=fast), "cpu", output, quick)


@app.command(name="tracking")
def cost_of_tracking(*, output: Output = None, quick: Quick = False) -> None:
    """What W&B costs a sweep whose server answers, is away, is silent, or vanishes."""
    from benchmarks import tracking

    _suite("tracking", lambda on, fast: tracking.run(quick=fast), "cpu", output, quick)


@app.command(name="scale")
def cost_of_many(*, output: Output = None, quick: Quick = False) -> None:
    """A sweep of 1,000 trials on simulated GPUs, and runs of up to 10,000 rows: time, memory and bytes of each."""
    from benchmarks import scale

    _suite("scale", lambda on, fast: scale.run(quick=fast), "cpu", output, quick)


@app.command(name="bundle")
def bundle_for_a_gpu(
    folder: Annotated[Path, typer.Argument(help="the folder that is made")],
    python: Annotated[str, typer.Option(help="the version of Python on the GPU machine")] = "3.12",
) -> None:
    """Put all that a GPU machine without internet lacks into a folder, with a command that measures there."""
    from benchmarks import bundle

    bundle.main(folder, python)


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
    output: Output = None,
) -> None:
    """Compare a step of every distiller with a step of plain training: seconds and peak memory."""
    from benchmarks import distillers
    from tskd_tune.distillers import DISTILLERS

    setting = distillers.Setting(teacher, student, samples, batch_size, steps, threads)
    wanted = names or [entry.name for entry in DISTILLERS if entry.name not in ("none", "combined")]
    costs = distillers.measure(setting, wanted, rounds)
    Console().print(distillers.table(setting, costs))
    if output is not None:
        output.write_text(json.dumps([vars(cost) for cost in costs], indent=1) + "\n")


@app.command(name="detection")
def cost_of_detection(
    *,
    teacher: Annotated[str, typer.Option(help="the teacher's network")] = "faster_rcnn_resnet50_fpn",
    student: Annotated[str, typer.Option(help="the student's network")] = "faster_rcnn_resnet18_fpn",
    side: Annotated[int, typer.Option(help="longer side of the larger images, in pixels")] = 160,
    width: Annotated[int, typer.Option(help="channels of both pyramids; box heads are 4 times as wide")] = 64,
    rounds: Annotated[int, typer.Option(help="rounds, in each of which every method has its turn")] = 3,
    threads: Annotated[int, typer.Option(help="CPU threads")] = 1,
    device: Device = "cpu",
    output: Output = None,
) -> None:
    """Compare a step of every method on a detector with a step of plain training: seconds and peak memory."""
    from benchmarks import detection

    setting = detection.Setting(teacher, student, side, width, threads, device)
    costs = detection.measure(setting, rounds)
    Console().print(detection.table(setting, costs))
    if output is not None:
        output.write_text(json.dumps([vars(cost) for cost in costs], indent=1) + "\n")


@app.command(name="calibration")
def rate_of_false_verdicts(
    *,
    tables: Annotated[int, typer.Option(min=1, help="comparisons, each with seeds of its own")] = 200,
    seeds: Annotated[int | None, typer.Option(help="seeds under each of the two names; default: the fewest")] = None,
    arm: Annotated[Arm, typer.Option(help="what is trained under both names")] = Arm.TSKD,
    margin: Annotated[
        float | None, typer.Option(min=0.01, help="points that count as no difference; default: the reports'")
    ] = None,
    output: Output = None,
) -> None:
    """Train one arm under two names with disjoint seeds, and count how often a report tells them apart."""
    from benchmarks import calibration

    calibration.command(tables, seeds, arm, margin, output)


@app.command(name="judge")
def rates_of_verdicts(
    *,
    output: Output = None,
    figure: Annotated[
        Path | None, typer.Option(help="draw only the power of each rule, into this SVG file", show_default=False)
    ] = None,
    quick: Quick = False,
) -> None:
    """How often verdicts on simulated tables are wrong, and how often promised power is kept: without training."""
    from benchmarks import judge

    judge.command(quick=quick, output=output, figure=figure)


@app.command(name="teachers")
def rates_over_teachers(*, output: Output = None, quick: Quick = False) -> None:
    """How often verdicts over several teachers are wrong on simulated tables, and what they find: without training."""
    from benchmarks import teachers

    teachers.command(quick=quick, output=output)


def _steps(suite: Literal["step", "review", "cycle"], device: torch.device, quick: bool) -> Report:
    from benchmarks import steps

    return steps.run(suite, device, quick=quick)


def _suite(name: str, measure: Measure, device: str, output: Path | None, quick: bool) -> None:
    """Run a suite, show its figures and write them; exit with 1 if a figure is refused or doubtful."""
    import torch

    from benchmarks.cutting import CutOffError, listening
    from benchmarks.environment import Environment, device_of
    from benchmarks.rows import table

    chosen, started = device_of(device), time.perf_counter()
    if chosen.type == "cpu":
        torch.set_num_threads(1)
    environment = Environment.of(chosen)
    try:
        with listening():
            report = measure(chosen, quick)
    except CutOffError:
        raise SystemExit(f"{name}: cut off before there were figures; give it more time, or --quick") from None
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"{name}{' (quick: no figure to cite)' if quick else ''}: {environment}", highlight=False)
    if report.rows:
        console.print(table(report))
    for row in report.rows:
        for goal in row.goals:
            console.print(f"{row.name}: {goal}", highlight=False)
    for line in (*report.counts, *report.checks, *report.notes):
        console.print(str(line), highlight=False)
    console.print(f"took {time.perf_counter() - started:.0f} s", highlight=False)
    if output is not None:
        report.write(output, environment)
    if not report.holds:
        warning = "the reference is not the sum of its parts, so its ratios mean little; run again on a quiet machine"
        Console(stderr=True).print(warning, style="red")
    for line in report.refused:
        Console(stderr=True).print(f"has no figure: {line}", style="red", highlight=False, markup=False)
    if not report.holds or report.refused:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
