"""Record the bits of short runs on the CPU, and compare the records of two commits.

``python -m benchmarks.bits record FILE.json`` trains. ``python -m benchmarks.bits compare OLD.json NEW.json`` prints a
sentence per difference and exits with 1 if there is any. Make both records on one machine with the same packages.

The script uses only the command line of ``tskd_tune``, so a copy of this file also runs on an older commit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch

ROOT = Path(__file__).resolve().parents[1]
LONGEST_SECONDS, POLL_SECONDS = 3600.0, 0.02
Json = Mapping[str, Any]


class Training(TypedDict):
    """The record of one training: the digest of the final weights, the numbers of the row, and the epochs."""

    weights: str | None
    row: dict[str, Any]
    history: list[dict[str, Any]]


Trainings = dict[str, Training]


class Scenario(NamedTuple):
    """One run; with ``killed_after``, it is killed after this many epochs, resumed, and must equal ``same_as``."""

    command: str
    file: str
    settings: tuple[str, ...]
    killed_after: int | None = None
    same_as: str | None = None


# The reviews are in epochs 2, 5, 8, 11, 14 and 17.
EXPERIMENT: Json = {
    "task": {"name": "digits", "train": 300, "validation": 300, "batch_size": 32},
    "teacher": {"name": "resnet20", "training": {"epochs": 12, "lr": 0.05}},
    "student": {"name": "resnet8"},
    "review": {"k": 2, "delta": 1, "lambda": {"auto": 0.1}},
    "training": {"epochs": 18, "threads": 1},
}
# One trial at a time, so that a searcher gets the results in a fixed order.
SHORT = ("experiment.teacher.training.epochs=12", "resources.concurrent=1")
DIGITS = (*SHORT, "experiment.training.epochs=8", "seeds=[1, 2]")
RIVALS = (*SHORT, "experiment.training.epochs=6", "seeds=[1]")
# The search minimizes the loss instead of the seconds, which differ from run to run. `--set` merges mappings, so the
# file's objectives are removed first. The first point of the search is the paper's and reviews in epochs 15 and 35.
SEARCH_SIZE = ("experiment.training.epochs=36", "experiment.task.train=100", "experiment.task.validation=100")
OBJECTIVES = ("search.objectives=null", "search.objectives={val_top1: max, val_loss: min}")
SEARCH = (*SHORT, *SEARCH_SIZE, "seeds=[1, 2]", "search.trials=6", *OBJECTIVES)
SCENARIOS = {
    "digits": Scenario("sweep", "digits", DIGITS),
    "digits_search": Scenario("sweep", "digits_search", SEARCH),
    "rivals_digits": Scenario("sweep", "rivals_digits", RIVALS),
    "paper": Scenario("train", "experiment.yaml", ("preset=paper",)),
    "official": Scenario("train", "experiment.yaml", ("preset=official",)),
    "paper_literal": Scenario("train", "experiment.yaml", ("preset=paper_literal",)),
    "killed_train": Scenario("train", "experiment.yaml", ("preset=official",), 8, "official"),
    "killed_sweep": Scenario("sweep", "digits", DIGITS, 45, "digits"),
}


def run(scenario: Scenario, place: Path) -> Trainings:
    """Run a scenario in a new folder, kill and resume the run if the scenario says so, and read the run's files."""
    place.mkdir()
    (place / "experiment.yaml").write_text(json.dumps(EXPERIMENT))  # JSON is YAML
    settings = [word for setting in scenario.settings for word in ("--set", setting)]
    begin = [scenario.command, scenario.file, "--name", "run", "--no-wandb", *settings]
    drive(begin, place, scenario.killed_after)
    if scenario.killed_after is not None:
        drive(["resume", "run", "--no-wandb"], place)
    teachers = sorted(weights(path) for path in (place / "cache").rglob("*.pth"))
    taught = {f"teacher {at}": Training(weights=digest, row={}, history=[]) for at, digest in enumerate(teachers)}
    return trainings(place / "runs" / "run") | taught


def drive(words: Sequence[str], place: Path, killed_after: int | None = None) -> None:
    """Run a command to its end, or kill its process group.

    The command has one thread, no GPU, no W&B, its own Ray and its own cache.
    """
    others = ("RAY_", "TSKD_TUNE_", "WANDB_", "MKL_", "OPENBLAS_")
    # The path is short because Ray puts sockets there.
    own = {"TMPDIR": str(place.parent), "TSKD_TUNE_CACHE": str(place / "cache"), "PYTHONPATH": str(ROOT)}
    own |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "offline"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    command, log = [sys.executable, "-m", "tskd_tune", *words], place / f"{words[0]}.log"
    with log.open("wb") as out:
        driver = subprocess.Popen(command, cwd=place, env=kept | own, stdout=out, stderr=out, start_new_session=True)
    until = time.monotonic() + LONGEST_SECONDS
    try:
        while driver.poll() is None and not trained(place, killed_after) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        ended = driver.poll()
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
    if ended != (0 if killed_after is None else None):
        tail = log.read_text(errors="replace")[-3000:]
        raise SystemExit(f"`tskd_tune {' '.join(words)}` ended too early or too late (exit code {ended}):\n{tail}")


def trained(place: Path, epochs: int | None) -> bool:
    """Tell whether the run has trained a number of epochs. The run may delete folders while this lists them."""
    with suppress(FileNotFoundError):
        return epochs is not None and len(history_of(place / "runs" / "run")) >= epochs
    return False


def trainings(folder: Path) -> Trainings:
    """Return the trainings of a run, named by arm, point and seed. Of several rows of a training, the last counts."""
    files = [*sorted(folder.glob("rows*.jsonl")), *sorted(folder.glob("rows*/**/*.jsonl"))]
    keys, history, found = ("identity", "run", "arm", "seed"), history_of(folder), Trainings()
    for row in {tuple(map(row.get, keys)): row for path in files for row in lines(path)}.values():
        name = f"{row['arm']} {json.dumps(row['point'], sort_keys=True)}, seed {row['seed']}"
        while name in found:
            name += " again"
        epochs, digest = epochs_of(row, history), student_of(folder, row)
        if len(epochs) != row["epochs"] or (digest is None and row["status"] == "done"):
            raise SystemExit(f"{folder}: {name}: has {len(epochs)} of {row['epochs']} epochs, student {digest}")
        found[name] = Training(weights=digest, row=numbers(row), history=epochs)
    return found


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read the JSON object of every line. A part of a line, which a killed process leaves, is skipped."""
    for line in path.read_text(errors="replace").splitlines():
        with suppress(json.JSONDecodeError):
            yield json.loads(line, parse_constant=str)  # two NaN differ, two words "NaN" are equal


def history_of(folder: Path) -> list[tuple[Path, Json]]:
    """Return every line of the histories in a run's folder, with the path of its file in this folder."""
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*.jsonl"))]
    return [(path, line) for path in files if "history" in path.as_posix() for line in lines(folder / path)]


def numbers(row: Json) -> dict[str, Any]:
    """Return the numbers of a row under names that fit both formats, without times, costs, versions and paths."""
    teacher, plan = row.get("teacher") or {}, row.get("plan") or {}
    accuracy = teacher.get("test_top1", (teacher.get("metrics") or {}).get("test_top1"))
    flat = {name: row.get(name) for name in ("status", "epochs", "epochs_planned", "lambda")} | dict(row["metrics"])
    flat |= {"teacher_parameters": teacher.get("parameters"), "teacher_test_top1": accuracy}
    flat |= {f"plan_{kind}": plan.get(kind, []) for kind in ("memorize", "review")}
    for part, metric, epoch, value, tested in bests(row):
        flat |= {f"best_{part}_{metric}": value, f"best_{part}_{metric}_epoch": epoch}
        flat |= {} if tested is None else {f"best_{part}_{metric}_test_{metric}": tested}
    return flat


def bests(row: Json) -> Iterator[tuple[str, str, int, float, float | None]]:
    """Yield the best epochs of a row: part, metric, epoch, value; for the validation set also the test value."""
    if best := row.get("best_validation"):
        yield "val", "top1", best["epoch"], best["val_top1"], best.get("test_top1")
    if best := row.get("best_test"):
        yield "test", "top1", best["epoch"], best["test_top1"], None
    for best in row.get("best") or []:
        part, metric = best["part"].removesuffix("idation"), re.sub("^(val|test)_", "", best["metric"])
        also = best.get("also") or {} if part == "val" else {}
        yield part, metric, best["epoch"], best["value"], also.get(f"test_{metric}", also.get(metric))


def epochs_of(row: Json, history: Sequence[tuple[Path, Json]]) -> list[dict[str, Any]]:
    """Return the epochs of a training without times. Of an epoch that was trained twice, the last line counts."""
    last: dict[int, Json] = {}
    for path, line in history:
        if line.get("seed", seed_of(path)) == row["seed"] and belongs(path, row):
            last[line["epoch"]] = line
    left_out = re.compile("(.*_)?(time|seconds)|run|identity|format|arm")
    return [{name: last[at][name] for name in last[at] if not left_out.fullmatch(name)} for at in sorted(last)]


def student_of(folder: Path, row: Json) -> str | None:
    """Return the digest of a training's final student, or None. Its copies in checkpoints lie in deeper folders."""
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*.pth"))]
    named = [path for path in files if "student" in path.as_posix() and seed_of(path) == row["seed"]]
    own = sorted((path for path in named if belongs(path, row)), key=lambda path: len(path.parts))
    return weights(folder / own[0]) if own else None


def belongs(path: Path, row: Json) -> bool:
    """Tell whether a path contains a row's trial as a folder (format 1), or the row's digest or the digest's start."""
    names = [str(row[key]) for key in ("identity", "run") if row.get(key) is not None]
    digests = re.findall("[0-9a-f]{8,}", path.as_posix())
    begun = any(name.startswith(digest) for name in names for digest in digests)
    return begun or any(name in (path.as_posix() if len(name) > 7 else path.parts) for name in names)


def seed_of(path: Path) -> int | None:
    """Return the last number in a path, as in ``0/student-seed1.pth`` or ``0a1b2c3d-1/student.pth``."""
    found = re.findall(r"(?:seed|[-_/.])(\d+)(?![0-9a-z])", path.as_posix())
    return int(found[-1]) if found else None


def weights(path: Path) -> str:
    """Return the digest of a checkpoint's state dict: the sorted names, and the dtypes, shapes and bytes."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    mappings = (value for value in [content, *content.values()] if isinstance(value, Mapping) and value)
    state = next(held for held in mappings if all(isinstance(value, torch.Tensor) for value in held.values()))
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def differences(old: Mapping[str, Trainings], new: Mapping[str, Trainings]) -> list[str]:
    """Return a sentence per difference between the scenarios of two records."""
    found = []
    all_names = {(scenario, name) for one in (old, new) for scenario, held in one.items() for name in held}
    for scenario, name in sorted(all_names):
        before, after = (one.get(scenario, {}).get(name) for one in (old, new))
        if before is None or after is None:
            found.append(f"{scenario}, {name}: only the {'new' if before is None else 'old'} record has this.")
        else:
            found += [f"{scenario}, {name}: {text}." for text in changes(before, after)]
    return found


def changes(old: Training, new: Training) -> Iterator[str]:
    """Yield the differences of a training: in the weights, in the row's numbers, and in the first different epoch."""
    if old["weights"] != new["weights"]:
        yield f"the weights differ (sha256 {old['weights']}, now {new['weights']})"
    yield from unequal(old["row"], new["row"])
    if len(old["history"]) != len(new["history"]):
        yield f"the history had {len(old['history'])} epochs and has {len(new['history'])}"
    pairs = zip(old["history"], new["history"], strict=False)
    if first := next((pair for pair in pairs if pair[0] != pair[1]), None):
        yield f"the history differs from epoch {first[0]['epoch']} on: {', '.join(unequal(*first))}"


def unequal(old: Json, new: Json) -> list[str]:
    """Return the names with different values, and both values."""
    pairs = {name: (old.get(name, "absent"), new.get(name, "absent")) for name in sorted(old.keys() | new.keys())}
    return [f"{name} was {before} and is {after}" for name, (before, after) in pairs.items() if before != after]


def record(file: Path, only: Sequence[str]) -> list[str]:
    """Run the scenarios and write the record; return the differences of killed and resumed runs from unkilled runs."""
    wanted = {name for one in only for name in (one, SCENARIOS[one].same_as)}
    found: dict[str, Trainings] = {}
    with tempfile.TemporaryDirectory(prefix="bits-") as work:
        for name, scenario in SCENARIOS.items():
            if name in wanted:
                began = time.monotonic()
                found[name] = run(scenario, Path(work) / name)
                sys.stderr.write(f"{name}: {len(found[name])} networks in {time.monotonic() - began:.0f} s\n")
    machine = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}
    file.write_text(json.dumps({"machine": machine, "scenarios": found}, indent=1, sort_keys=True) + "\n")
    unbroken = {name: found[same] for name in found if (same := SCENARIOS[name].same_as) is not None}
    return differences(unbroken, {name: found[name] for name in unbroken})


def compare(old: Path, new: Path) -> list[str]:
    """Return the differences of two records, and say so if there are none or if the machines differ."""
    before, after = (json.loads(path.read_text()) for path in (old, new))
    for text in unequal(before["machine"], after["machine"]):
        sys.stdout.write(f"Note: {text}. Another processor or another torch may give other bits.\n")
    found = differences(before["scenarios"], after["scenarios"])
    count = sum(map(len, after["scenarios"].values()))
    sys.stdout.write(f"{count} networks: {f'{len(found)} differences' if found else 'all are equal'}.\n")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bits", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record", help="train, and write a record")
    one.add_argument("files", type=Path, nargs=1, metavar="FILE.json")
    one.add_argument("--only", nargs="+", choices=[*SCENARIOS], default=[*SCENARIOS], metavar="NAME")
    two = commands.add_parser("compare", help="compare two records; exit code 1 if they differ")
    two.add_argument("files", type=Path, nargs=2, metavar=("OLD.json", "NEW.json"))
    given = parser.parse_args(arguments)
    found = record(given.files[0], given.only) if given.command == "record" else compare(*given.files)
    sys.stdout.writelines(f"{text}\n" for text in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
