"""Runs a grid on a file system that is too small, then makes the file system larger and resumes. Prints what happened.

It needs a mount namespace of its own: ``unshare --mount python -m chaos.full FOLDER``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from chaos.storm import rows, same, students
from sweeps.stand_in import installed
from typer.testing import CliRunner

from tskd_tune.cli import app

TINY = {
    "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 16, "validation": 8, "test": 8},
    "student": {"name": "resnet8"},
    "training": {"epochs": 2, "lr": {"grid": [0.02, 0.05]}, "device": "cpu", "checkpoint": {"seconds": 0}},
    "distiller": {"name": "none"},
    "review": None,
}
GRID = {"experiment": TINY, "seeds": [1, 2], "search": {"name": "grid"}}
SMALL, LARGE = "size=2m", "size=100m"


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def call(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--no-wandb"])
    return done.exit_code, done.output


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    small, file = folder / "small", folder / "grid.yaml"
    small.mkdir()
    mount(small, SMALL)
    file.write_text(yaml.safe_dump(GRID))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TSKD_TUNE_CACHE", str(folder / "cache"))
        installed(patch)
        call("sweep", str(file), "--name", "calm", "--storage", str(folder))
        full = call("sweep", str(file), "--name", "full", "--storage", str(small))
        kept = (small / "full" / "rows.jsonl").read_text() if (small / "full" / "rows.jsonl").exists() else ""
        still = call("resume", str(small / "full"))
        mount(small, f"remount,{LARGE}")
        resumed = call("resume", str(small / "full"))
    calm, after = folder / "calm", small / "full"
    equal = same(students(calm), students(after)) and len(students(after)) == 4
    found = {"full": full, "still": still, "resumed": resumed, "rows": rows(calm) == rows(after), "students": equal}
    print(json.dumps({**found, "kept": (after / "rows.jsonl").read_text().startswith(kept)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
