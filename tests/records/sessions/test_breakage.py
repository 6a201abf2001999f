"""What is said of a training that broke, and whether another try makes sense."""

from __future__ import annotations

import errno

import pytest
import torch

from tskd_tune.errors import InputError
from tskd_tune.records.sessions.breakage import LONGEST_REASON, breakage, broken_row
from tskd_tune.records.storing.lines import HistoryLine


@pytest.mark.parametrize(
    ("error", "reason", "passing"),
    [
        (RuntimeError("boom"), "RuntimeError: boom", False),
        (RuntimeError("several\n\tlines"), "RuntimeError: several lines", False),
        (ValueError(), "ValueError", False),
        (SystemExit(3), "SystemExit: 3", False),
        (InputError("task: the folder is gone; give another"), "task: the folder is gone; give another", False),
        (ModuleNotFoundError("No module named 'x'"), "ModuleNotFoundError: No module named 'x'", False),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), "FileNotFoundError: [Errno 2] No such file: 'a'", False),
        (MemoryError(), "MemoryError: the process found no more memory", True),
        (torch.OutOfMemoryError("CUDA out of memory."), "OutOfMemoryError: CUDA out of memory.", True),
        (RuntimeError("CUDA error: an illegal access"), "RuntimeError: CUDA error: an illegal access", True),
        (OSError(errno.ESTALE, "Stale file handle"), "OSError: [Errno 116] Stale file handle", True),
    ],
)
def test_an_error_is_one_line_and_another_try_is_for_what_passes(error, reason, passing):
    found = breakage(error)
    assert (found.reason, found.passing) == (reason, passing)


def test_the_whole_error_is_kept_and_a_long_reason_is_cut():
    def deep() -> None:
        raise RuntimeError("x" * 5000)

    try:
        deep()
    except RuntimeError as error:
        found = breakage(error)
    assert len(found.reason) == LONGEST_REASON + 3 and found.reason.endswith("...")
    assert "in deep" in found.text and "x" * 5000 in found.text


def test_a_row_is_made_without_the_training(tiny):
    experiment = {key: value for key, value in tiny().plain().items() if key != "seed"}
    history = [
        {"seed": 4, "epoch": 0, "seconds": 2.0, "eval_seconds": 1.0, "val_top1": 30.0},
        {"seed": 4, "epoch": 1, "seconds": 2.5, "eval_seconds": None, "val_top1": 40.0},
    ]
    lines = [HistoryLine.read(line) for line in history]
    row = broken_row(experiment, 4, lines, "it broke", run="00007", arm="an arm", point={"k": 2})
    assert (row.run, row.arm, row.seed, row.status, row.reason) == ("00007", "an arm", 4, "failed", "it broke")
    assert row.broke and not row.ended
    assert (row.epochs, row.epochs_planned, row.metrics) == (2, 6, {"val_top1": 40.0})
    assert (row.cost.seconds, row.plan.review) == (5.5, [2, 5])
    assert row.experiment == {**experiment, "seed": 4}


def test_a_row_is_made_where_the_component_cannot_even_be_imported(tiny):
    experiment = {**tiny().plain(), "distiller": {"name": "nowhere_to_be_found:Lost"}}
    row = broken_row(experiment, 1, [], "ModuleNotFoundError", run="0", arm="lost", point={})
    assert (row.broke, row.epochs, row.epochs_planned, row.preset) == (True, 0, 6, "paper")
