"""A command imports only what it needs, so that a look at a run answers at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tskd_tune.records.entries.design import Design, write_design
from tskd_tune.records.storing.store import LocalStore

# The slow ones to import, among what the package is built on.
HEAVY = {"torch", "torchvision", "pandas", "statsmodels", "plotly", "scipy", "ray", "optuna", "wandb"}
CODE = f"""
import json, sys
from tskd_tune.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(json.dumps(sorted({HEAVY} & set(sys.modules))), file=sys.stderr)
"""


def imported(command: list[str], folder: Path) -> set[str]:
    """Return what of the heavy packages a command has imported at its end."""
    whole = [sys.executable, "-c", CODE, *command]
    # W&B in this process, which another test used, may have set variables that are checked with W&B's own rules.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    ended = subprocess.run(whole, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert ended.returncode == 0, ended.stderr
    found: list[str] = json.loads(ended.stderr.splitlines()[-1])
    return set(found)


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["init"],
        ["init", "digits"],
        ["cluster", "init", "--provider", "slurm"],
        ["plan", "--epochs", "240", "--k", "3", "--delta", "5"],
        ["plan", "--epochs", "240", "--k", "3", "--delta", "5", "--json"],
    ],
    ids=" ".join,
)
def test_a_light_command_imports_nothing_heavy(command: list[str], tmp_path: Path) -> None:
    assert imported(command, tmp_path) == set()


@pytest.mark.parametrize(
    "command", [["list"], ["list", "distillers"], ["check", "digits"], ["plan", "digits"]], ids=" ".join
)
def test_what_reads_options_imports_torch_and_nothing_else_that_is_heavy(command: list[str], tmp_path: Path) -> None:
    found = imported(command, tmp_path)
    assert "torch" in found
    assert found <= {"torch", "torchvision"}


@pytest.mark.parametrize(
    "command",
    [["status", "now"], ["status", "now", "--json"], ["runs"], ["runs", "--json"]],
    ids=" ".join,
)
def test_a_look_at_a_run_imports_scipy_for_its_interval_and_nothing_else_heavy(
    command: list[str], tmp_path: Path
) -> None:
    """The interval of the best arm is a t interval, whose quantile is scipy's; its import takes 0.3 s."""
    run = tmp_path / "runs" / "now"
    shutil.copytree(Path(__file__).parent / "records" / "format_1" / "run", run)
    write_design(LocalStore(run), Design(seeds=2, epochs=3, metric="val_top1"))
    assert imported(command, tmp_path) == {"scipy"}


@pytest.mark.parametrize("command", [["report"], ["report", "--json"], ["report", "--format", "csv"]], ids=" ".join)
def test_a_report_imports_no_torch(command: list[str], tmp_path: Path) -> None:
    run = tmp_path / "old"
    shutil.copytree(Path(__file__).parent / "records" / "format_1" / "run", run)
    assert imported([*command, str(run)], tmp_path) <= {"pandas", "statsmodels", "plotly", "scipy"}
