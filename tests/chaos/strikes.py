"""A distiller that ends its process at moments that chance would rarely hit. It lies beside the sweep's YAML file.

A moment is a file in the folder ``moments`` of the teacher cache. The first process that comes to the moment renames
the file and kills itself, so each moment strikes once. Every process of the sweep imports this module: the driver, the
worker that trains the teacher, and the workers of the trials.
"""

import functools
import os
import pathlib
import signal
import sys
import time

from tskd_tune.distillers.base import Distiller, Need
from tskd_tune.training import teachers

CACHE = pathlib.Path(os.environ.get("TSKD_TUNE_CACHE", ""))
MOMENTS = CACHE / "moments"
STEP_SECONDS, TEACHER_SECONDS = 0.05, 0.3
# The temporary file, or file of lines, that is being synced -> the moment.
SYNCED = {
    "checkpoint.pt": "checkpoint-write",
    "student.pth": "student-write",
    ".halfway": "teacher-checkpoint",
    "trial.json": "trial-write",
    "rows.jsonl": "row-write",
    "report.html": "report-write",
}
# These moments come several times; they strike at a later one.
AT = {"row-write": 5, "row-after": 7, "checkpoint-write": 9, "checkpoint-rename": 12, "trial-write": 6}
_met: dict[str, int] = {}


def meets(moment: str) -> bool:
    """Tell whether the process is to die now."""
    _met[moment] = _met.get(moment, 0) + 1
    if _met[moment] < AT.get(moment, 1):
        return False
    try:
        (MOMENTS / moment).rename(MOMENTS / f"{moment}.struck")
    except OSError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def note(what: str) -> None:
    """Append a line to the list of all epochs that were begun."""
    with (CACHE / "epochs.log").open("a") as file:
        file.write(f"{what}\n")


_fsync, _replace, _recorded = os.fsync, os.replace, teachers._Keeper.recorded


@functools.wraps(_fsync)
def fsync(handle):
    name = str(pathlib.Path(f"/proc/self/fd/{handle}").readlink())
    moment = next((moment for ending, moment in SYNCED.items() if ending in name), None)
    if moment is not None and meets(moment):
        os.ftruncate(handle, os.fstat(handle).st_size - 40)  # as if only a part had been written
        die()
    _fsync(handle)
    if moment == "row-write" and meets("row-after"):
        die()


@functools.wraps(_replace)
def replace(source, target, **options):
    _replace(source, target, **options)
    if str(target).endswith("checkpoint-older.pt") and meets("checkpoint-rename"):
        die()


def recorded(self, training, record):
    note("teacher")
    time.sleep(TEACHER_SECONDS)
    if record.epoch == 2 and meets("teacher-epoch"):
        die()
    _recorded(self, training, record)


def hook() -> None:
    os.fsync, os.replace, teachers._Keeper.recorded = fsync, replace, recorded
    teachers.SAVE_SECONDS = 0.0


def hook_wandb() -> None:
    run = getattr(sys.modules.get("wandb.sdk.wandb_run"), "Run", None)  # which another thread may be importing
    if run is None or hasattr(run, "struck"):
        return
    run.struck = True
    for name in ("log", "finish"):
        before = getattr(run, name)

        def struck(self, *given, name=name, before=before, **options):
            if meets(f"wandb-{name}"):
                die()
            return before(self, *given, **options)

        setattr(run, name, struck)


if MOMENTS.is_dir():
    hook()


class Faulty(Distiller):
    needs = frozenset({Need.LOGITS})

    def __init__(self, probe=None, *, scale: float = 1.0):
        super().__init__()
        self.scale, self.epoch, self.step = scale, 0, 0

    def begin_epoch(self, epoch, random):
        self.epoch, self.step = epoch, 0
        note(f"{epoch}")
        hook_wandb()

    def forward(self, student, teacher, batch):
        self.step += 1
        time.sleep(STEP_SECONDS)
        if self.step == 2 and meets(f"epoch-{self.epoch}"):
            die()
        return {"faulty": self.scale * (student.logits - teacher.logits).square().mean()}
