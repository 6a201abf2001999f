"""The suite ``scale``: what many trials and many rows cost the driver, its memory, the disk and the report.

The trials train next to nothing (`benchmarks.naps`) and take a simulated GPU each, so that almost all of the time is
the platform's. The rows are copies of a real row with other seeds and other numbers, written by the run's own records.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import psutil
import torch

import tskd_tune
from benchmarks.clocks import now, since
from benchmarks.platform import Setting, each_epoch_alone, let_workers_import
from benchmarks.rows import Count, Report, Spent
from tskd_tune.plain import Document
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.page.report import write_report

TRIALS, EPOCHS, AT_ONCE = 1000, 3, 8
"""The simulated sweep: its trials, the epochs of each, and the simulated GPUs."""
LONG_TRIALS, LONG_EPOCHS = 16, 100
"""The sweep whose epochs are reported one by one."""
ROWS, ROW_EPOCHS, SEEDS = (100, 1_000, 10_000), 20, 100
"""The runs of rows alone: their sizes, the epochs of each history, and the seeds of an arm."""
MIB = 2**20


@dataclass(frozen=True)
class Reading:
    """The driver at the end of a trial: seconds of both clocks, and the bytes of its memory."""

    wall: float
    cpu: float
    memory: int


@dataclass
class Driver:
    """Reads the driver at the end of each trial."""

    readings: list[Reading] = field(default_factory=list)
    epochs: list[float] = field(default_factory=list)
    process: psutil.Process = field(default_factory=psutil.Process)

    def __call__(self, event: Event) -> None:
        """Read clocks and memory where a row was written, and the CPU's clock where an epoch was."""
        if event.what == "epoch":
            self.epochs.append(time.process_time())
        if event.what == "finished":
            self.readings.append(Reading(time.perf_counter(), time.process_time(), self.process.memory_info().rss))


@dataclass(frozen=True)
class Part:
    """A stretch of the sweep: seconds of both clocks and bytes of memory for each of its trials."""

    wall: float
    cpu: float
    memory: float

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Part:
        """Return the mean of a trial between the first and the last reading."""
        first, last, trials = readings[0], readings[-1], len(readings) - 1
        return cls(*((getattr(last, name) - getattr(first, name)) / trials for name in ("wall", "cpu", "memory")))


def run(*, quick: bool) -> Report:
    """Measure a sweep of many trials, then runs of many rows."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        counts = _sweeps(60 if quick else TRIALS, folder)
        for rows in ROWS[:2] if quick else ROWS:
            counts += _rows(rows, folder)
    return Report((), counts=tuple(counts))


def _sweeps(trials: int, folder: Path) -> list[Count]:
    import ray

    from tskd_tune.sweeps.on_ray.ray_session import QUIETLY
    from tskd_tune.sweeps.on_ray.ray_settings import prepare

    let_workers_import()
    prepare()
    ray.init("local", num_cpus=AT_ONCE, num_gpus=AT_ONCE, **QUIETLY)
    try:
        short, found = _sweep(Setting(trials, EPOCHS, 0.0), folder / "short")
        with each_epoch_alone():
            long, _ = _sweep(Setting(LONG_TRIALS, LONG_EPOCHS, 0.0), folder / "long")
    finally:
        ray.shutdown()
    return [*_growth(trials, short.readings), _of_epochs(long.epochs), *_disk(found)]


def _sweep(setting: Setting, folder: Path) -> tuple[Driver, RunFolder]:
    document = setting.document()
    document["resources"] = {"cpu": 1, "gpu": 1, "concurrent": AT_ONCE}
    driver = Driver()
    return driver, tskd_tune.sweep(document, "trials", storage=folder, listener=driver, track=False)


def _of_epochs(readings: Sequence[float]) -> Count:
    """Return the driver's work for an epoch that is reported by itself; the first ones start the workers."""
    later = readings[len(readings) // 4 :]
    mean = (later[-1] - later[0]) / (len(later) - 1)
    what = f"a sweep of {LONG_TRIALS} trials of {LONG_EPOCHS} epochs, each reported by itself"
    return Count(what, "ms of the driver's CPU an epoch", 1000 * mean)


def _growth(trials: int, readings: Sequence[Reading]) -> list[Count]:
    """Compare the first tenth of the sweep with the last one; the very first trials start the workers."""
    tenth = max(10, trials // 10)
    parts = {"first": Part.of(readings[AT_ONCE : AT_ONCE + tenth]), "last": Part.of(readings[-tenth:])}
    whole = Part.of(readings[AT_ONCE:])
    what = f"a sweep of {trials} trials of {EPOCHS} epochs, {AT_ONCE} at once"
    return [
        *(Count(what, f"ms of the clock a trial, {name} tenth", 1000 * part.wall) for name, part in parts.items()),
        *(
            Count(what, f"ms of the driver's CPU a trial, {name} tenth", 1000 * part.cpu)
            for name, part in parts.items()
        ),
        Count(what, "MiB of the driver's memory a trial", whole.memory / MIB),
        Count(what, "MiB of the driver's memory at the end", readings[-1].memory / MIB),
    ]


def _disk(run: RunFolder) -> list[Count]:
    """Count the bytes of a run's files by what wrote them."""
    trials = len(run.rows())
    kinds: dict[str, int] = {}
    files = [path for path in run.path.rglob("*") if path.is_file()]
    for path in files:
        kind = _kind(path.relative_to(run.path))
        kinds[kind] = kinds.get(kind, 0) + path.stat().st_size
    what = f"the folder of a sweep of {trials} trials"
    shares = [Count(what, f"bytes a trial: {kind}", size / trials) for kind, size in sorted(kinds.items())]
    return [*shares, Count(what, "files a trial", len(files) / trials)]


def _kind(path: Path) -> str:
    if path.parts[0] == "trainings":
        return path.name
    if path.parts[0] == "trials":
        return path.name if path.name == "trial.json" else "Ray Tune's own files"
    return "report" if path.stem == "report" else path.name if path.name == "rows.jsonl" else "other"


def _rows(rows: int, folder: Path) -> list[Count]:
    """Write a run of many rows, then read it and report on it in a fresh process, whose memory is the report's own."""
    run = _written(rows, folder)
    what = f"a run of {rows} rows"
    last = [_timed(partial(run.add_row, row)) for row in run.rows()[-20:]]
    page, memory = _in_a_process(_report, run.path)
    opened, _ = _in_a_process(_open, run.path)
    return [
        Count(what, "ms to add a row", 1000 * median(last)),
        Count(what, "s of CPU to read the rows", opened.cpu),
        Count(what, "s of CPU to write the report", page.cpu),
        Count(what, "s of the clock to write the report", page.wall),
        Count(what, "MiB of memory for the report", memory / MIB),
        Count(what, "MiB of the page", (run.path / "report.html").stat().st_size / MIB),
    ]


def _written(rows: int, folder: Path) -> RunFolder:
    arms = max(2, rows // SEEDS)
    document = Setting(1, 1, 0.0).document()
    rates = [round(0.01 * (1 + arm), 4) for arm in range(arms)]
    row = tskd_tune.train(document["experiment"], f"pattern-{rows}", storage=folder, track=False).rows()[0]
    document["experiment"]["training"]["lr"] = {"choice": rates}
    document["seeds"] = list(range(rows // arms))
    sweep = tskd_tune.Sweep.read(document)
    run = RunFolder.create(folder, f"rows-{rows}", "sweep", sweep.plain(), expected=rows)
    generator = torch.Generator().manual_seed(0)
    for number in range(rows):
        arm, seed = number % arms, number // arms
        trial, point = f"{number:05d}", {"training.lr": rates[arm]}
        identity = f"{arm:012x}"
        names = {"run": trial, "arm": f"lr={rates[arm]}", "identity": identity, "point": point}
        begun = {**names, "seeds": [seed], "epochs": ROW_EPOCHS, "experiment": row.experiment}
        run.begin(Begun.model_validate(begun))
        top = 70 + 3 * torch.randn(ROW_EPOCHS, generator=generator, dtype=torch.float64)
        run.append_history(trial, [_line(seed, epoch, value) for epoch, value in enumerate(top.tolist())])
        metrics = {**row.metrics, "test_top1": float(top[-1])}
        run.add_row(row.model_copy(update={**names, "seed": seed, "metrics": metrics}))
    return run


def _line(seed: int, epoch: int, top: float) -> Document:
    numbers = {"loss": 1.0, "lr": 0.01, "seconds": 0.5, "eval_seconds": 0.1, "test_top1": top, "validation_top1": top}
    return {"seed": seed, "epoch": epoch, "phase": "general", **numbers}


def _timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _in_a_process(act: Callable[[Path], object], path: Path) -> tuple[Spent, int]:
    """Return the seconds and the peak memory in bytes of what a fresh process does with a run."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (act, path))


def _measured(act: Callable[[Path], object], path: Path) -> tuple[Spent, int]:
    start = now()
    act(path)
    # `resource.getrusage` would give the peak of the process that started this one, if that was higher.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return since(start), 1024 * int(status["VmHWM"].removesuffix("kB"))


def _open(path: Path) -> None:
    RunFolder.open(path).rows()


def _report(path: Path) -> None:
    write_report(RunFolder.open(path))
