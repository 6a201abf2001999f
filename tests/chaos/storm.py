"""A sweep of 20 trainings that is killed at seeded moments and resumed, until it is whole; and what it left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile
from typing import Any

import torch
import yaml
from chaos.machines import SILENT_SECONDS, Machines

TSKD_TUNE = [sys.executable, "-c", "from tskd_tune.cli import main; main()"]
EPOCHS, TEACHER_EPOCHS, RUNS, SEARCHED = 10, 5, 20, 10
# Epochs 0, 4 and 8 memorize, 2 and 6 review, the others are general.
EXPERIMENT = {
    "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 24, "validation": 8, "test": 8},
    "teacher": {"name": "resnet14", "training": {"epochs": TEACHER_EPOCHS, "lr": 0.01}},
    "student": {"name": "resnet8"},
    "review": {"k": 1, "delta": 2, "extractor": {"name": "conv_lstm", "hidden": 2}},
    "training": {"epochs": EPOCHS, "lr": 0.05, "device": "cpu", "checkpoint": {"seconds": 0.3}},
    "distiller": {"name": "strikes:Faulty", "scale": {"grid": [0.1, 0.2, 0.5, 1.0, 2.0]}},
}
GRID = {
    "experiment": EXPERIMENT,
    "seeds": [1, 2, 3, 4],
    "search": {"name": "grid"},
    "resources": {"cpu": 1, "gpu": 1},
    "max_failures": 2,
}
SEARCH = {
    "experiment": {
        **EXPERIMENT,
        "distiller": {"name": "strikes:Faulty", "scale": {"loguniform": [0.1, 2.0]}},
    },
    "seeds": [1],
    "search": {"name": "optuna", "trials": SEARCHED, "startup_trials": 4, "metric": "val_loss", "mode": "min"},
    "scheduler": {"name": "asha"},
    "resources": {"cpu": 1, "gpu": 1},
    "max_failures": 2,
}
IN_TRIALS = (
    *(f"epoch-{epoch}" for epoch in range(EPOCHS)),
    *("checkpoint-write", "checkpoint-rename", "student-write", "wandb-log", "wandb-finish"),
)
WITH_TEACHER = ("teacher-epoch", "teacher-checkpoint")
IN_DRIVER = ("row-write", "row-after", "trial-write", "report-write")
FROM_OUTSIDE = ("worker", "node", "pause", "cut-off", "driver", "driver-sigterm", "head")
PATIENCE = 1800.0


@dataclass(frozen=True)
class Plan:
    """What a storm does.

    Attributes:
        moments: the moments at which a process kills itself.
        blows: how many epochs of the sweep have begun -> what is killed from outside.
    """

    moments: tuple[str, ...]
    blows: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, seed: int) -> Plan:
        """Draw a plan: every seed loses workers, a node and drivers, and a third of the seeds lose the head too."""
        chance = random.Random(seed)
        shuffled = random.Random(0).sample(IN_TRIALS, len(IN_TRIALS))  # so that a few seeds together meet every moment
        in_trials = [shuffled[(2 * seed + place) % len(shuffled)] for place in range(2)]
        moments = *in_trials, (*WITH_TEACHER, *IN_DRIVER)[seed % 6]
        kinds = ["worker", "node", ("pause", "cut-off")[seed % 2], ("driver", "driver-sigterm")[seed // 2 % 2]]
        kinds += ["head"] if seed % 3 == 0 else []
        return cls(moments, tuple(sorted((chance.randrange(5, EPOCHS * RUNS - 10), kind) for kind in kinds)))


@dataclass
class Told:
    """What became of a sweep.

    Attributes:
        folder: the run.
        commands: how many commands it took, the first one included.
        struck: what was killed, and how often.
        epochs: how many epochs of students were begun, and how many of the teacher.
        outputs: what the commands printed.
    """

    folder: Path
    commands: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    epochs: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    outputs: list[str] = field(default_factory=list)

    def repeated(self) -> int:
        """Return how many epochs of students were begun more than once."""
        return self.epochs[0] - EPOCHS * RUNS


class Sweep:
    """One sweep in a folder, with a teacher cache of its own."""

    def __init__(self, root: Path, name: str, machines: Machines, document: Mapping[str, Any] = GRID) -> None:
        self.machines = machines
        self.root, self.name = root, name
        self.cache = root / f"cache-{name}"
        (self.cache / "moments").mkdir(parents=True)
        copyfile(Path(__file__).with_name("strikes.py"), root / "strikes.py")
        (root / "sweep.yaml").write_text(yaml.safe_dump({**document}))
        self.told = Told(root / "runs" / name)

    def calm(self) -> Told:
        """Run it undisturbed."""
        return self.through(Plan((), ()))

    def through(self, plan: Plan, damage: Callable[[Path], object] = lambda run: None) -> Told:
        """Run and resume it while the plan strikes, until a command finds it complete; damage its files before each."""
        began = time.monotonic()
        for moment in plan.moments:
            (self.cache / "moments" / moment).touch()
        blows = list(plan.blows)
        while True:
            driver = self._command()
            out = threading.Thread(target=lambda one=driver: self.told.outputs.append(one.communicate()[0]))
            out.start()
            while driver.poll() is None:
                if blows and self._begun() >= blows[0][0]:
                    self._strike(blows.pop(0)[1], driver)
                if self.machines.has_head():
                    self.machines.replace_nodes()
                assert time.monotonic() - began < PATIENCE, self.told.outputs
                time.sleep(0.05)
            out.join()
            self._keep_output(driver.returncode)
            if driver.returncode == 0:
                break
            assert self.told.commands < 25, self.told.outputs
            self.machines.mend()
            damage(self.told.folder)
        self.told.struck.update(path.stem for path in (self.cache / "moments").glob("*.struck"))
        lines = (self.cache / "epochs.log").read_text().split()
        self.told.epochs = len(lines) - lines.count("teacher"), lines.count("teacher")
        self.told.seconds = time.monotonic() - began
        return self.told

    def _keep_output(self, code: int) -> None:
        text = f"{self.told.outputs[-1]}\nexit code {code}\n"
        (self.cache / f"command-{self.told.commands}.txt").write_text(text)

    def _command(self) -> subprocess.Popen[str]:
        first = not (self.told.folder / "state.json").exists()
        words = ["sweep", "sweep.yaml", "--name", self.name] if first else ["resume", self.name]
        self.told.commands += 1
        return subprocess.Popen(
            [*TSKD_TUNE, *words],
            cwd=self.root,
            env={
                **os.environ,
                "RAY_ADDRESS": self.machines.address,
                "TSKD_TUNE_CACHE": str(self.cache),
                "WANDB_MODE": "offline",
                "PYTHONPATH": os.pathsep.join([str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _begun(self) -> int:
        try:
            return (self.cache / "epochs.log").read_bytes().count(b"\n") - TEACHER_EPOCHS
        except OSError:
            return 0

    def _strike(self, kind: str, driver: subprocess.Popen[str]) -> None:
        """Do what a blow does; a worker or a node is chosen by what there is."""
        if kind in ("driver", "driver-sigterm"):
            driver.send_signal(signal.SIGKILL if kind == "driver" else signal.SIGTERM)
        elif kind == "head":
            self.machines.kill_head()
        elif kind == "node":
            os.kill(self.machines.raylet(self.machines.nodes[0]), signal.SIGKILL)
        elif not self._strike_worker(kind):
            return
        self.told.struck[kind] += 1

    def _strike_worker(self, kind: str) -> bool:
        workers = self.machines.workers()
        if not workers:
            return False
        if kind == "worker":
            workers[0].kill()
        elif kind == "pause":
            _paused([workers[0].pid], 3.0)
        else:  # a node that is cut off, declared dead, and comes back while its trial runs elsewhere
            node = self.machines.nodes[-1]
            _paused(
                [self.machines.raylet(node), *(process.pid for process in self.machines.trains_on(node))],
                SILENT_SECONDS,
            )
        return True


def _paused(pids: list[int], seconds: float) -> None:
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        time.sleep(seconds if number == signal.SIGSTOP else 0)


# What may differ between two runs of the same training: times, costs, and where it ran.
OF_THE_DAY = {
    "protocol",
    "started",
    "finished",
    "cost",
    "run",
    "host",
    "hosts",
    "warnings",
    "time",
    "seconds",
    "eval_seconds",
}


def rows(folder: Path, name: str = "arm") -> dict[tuple[str, int], dict[str, Any]]:
    """Return the last row of each training without what may differ; ``name`` and seed tell trainings apart."""
    found = {(row[name], row["seed"]): row for row in _lines(folder / "rows.jsonl")}
    return {key: _bare(row) for key, row in found.items()}


def ended(folder: Path, name: str = "arm") -> Counter[tuple[str, int]]:
    """Return how many rows say that a training was finished."""
    return Counter((row[name], row["seed"]) for row in _lines(folder / "rows.jsonl") if row["status"] != "failed")


def histories(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the last line of each epoch of each training."""
    found = {}
    for path in sorted(folder.glob("trainings/*/history.jsonl")):
        found |= {(path.parent.name, line["epoch"]): _bare(line) for line in _lines(path)}
    return found


def students(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the content of each student's file."""
    return {path.parent.name: torch.load(path, weights_only=True) for path in folder.glob("trainings/*/student.pth")}


def left_over(folder: Path) -> list[str]:
    """Return files that a complete run does not have."""
    return [
        str(path.relative_to(folder))
        for pattern in ("**/*.part", "**/checkpoint-older.pt", "trainings/*/error.txt")
        for path in folder.glob(pattern)
    ]


def same(first: Any, second: Any) -> bool:
    """Compare two files of students bit by bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return bool(first == second)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # cut off by a kill; the next line begins anew


def _bare(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in OF_THE_DAY}
