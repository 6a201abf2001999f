"""A resume of a run whose trainings have all ended: the report is finished, and a file that was edited is noticed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from factories import a_row
from tskd_tune.cli import app
from tskd_tune.cli.training.finishing import is_finished, lacks_points
from tskd_tune.records.entries.sittings import stamp
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import json_line
from tskd_tune.reports.page.report import write_report
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.stages import missing


@pytest.fixture
def run(tiny_document: dict[str, Any], tmp_path: Path) -> RunFolder:
    """A grid of two arms with two seeds, all of which have ended, with its report."""
    arms = {"plain": {"review": None}, "kd": {"review": None, "distiller": "kd"}}
    plain = {"experiment": {**tiny_document, "choice": arms}, "seeds": [1, 2], "search": {"name": "grid"}}
    sweep = Sweep.read(plain).resolved()
    folder = RunFolder.create(tmp_path, "run", "sweep", sweep.plain(), expected=4)
    with folder.alone():
        for config in missing(sweep, folder, [1, 2]):
            facts = {"identity": config.identity, "experiment": config.experiment, "metrics": {"test_top1": 70.0}}
            folder.add_row(a_row(config.run, config.seeds[0], config.arm, **facts))
        write_report(folder)
    return folder


def resumed(folder: RunFolder) -> str:
    done = CliRunner().invoke(app, ["resume", str(folder.path), "--no-wandb"])
    assert done.exit_code == 0, done.output
    return done.stdout


def killed(page: Path) -> None:
    page.write_text("of the process before")
    begun = json_line({"begun": stamp(), "host": "here", "pid": 1})
    with (page.parent / "sittings.jsonl").open("a") as file:
        file.write(begun)


def older(page: Path) -> None:
    page.write_text("of the trainings before an extension")
    os.utime(page, ns=(0, 0))


@pytest.mark.parametrize("cut", [Path.unlink, older, killed])
def test_the_report_of_a_run_that_was_killed_after_its_last_training_is_written(
    run: RunFolder, cut: Callable[[Path], None]
) -> None:
    page = run.path / "report.html"
    whole = page.read_bytes()
    cut(page)
    assert "is finished, nothing is left to train: 4 of 4 runs finished" in resumed(run)
    assert page.read_bytes() == whole
    written = page.stat().st_mtime_ns
    resumed(run)
    assert page.stat().st_mtime_ns == written, "once"


def test_a_grid_whose_file_was_edited_is_not_finished(run: RunFolder) -> None:
    assert is_finished(run) and not lacks_points(run)
    document = run.document()
    run.replace_document({**document, "seeds": [1, 2, 3]})
    assert lacks_points(run) and not is_finished(run)
    run.replace_document({**document, "seeds": [2]})
    assert is_finished(run)
    (run.path / "sweep.yaml").write_text("- no mapping")
    assert is_finished(run), "its report says that the file is damaged"
