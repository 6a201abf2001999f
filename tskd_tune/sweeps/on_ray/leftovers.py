"""Ends what a killed driver of a run left on this machine: workers live on for a minute, with their GPU memory.

A driver that is killed (signal 9, out of memory) cannot end its Ray. The folder of that Ray says which run and which
process it belonged to, so the next driver of the same run finds the processes that still use the folder.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from tskd_tune.paths import StoragePlace
from tskd_tune.records.entries.events import Event, Listener
from tskd_tune.words import count

OWNER: Final = "tskd-tune.json"
PREFIX: Final = "ray-"
SECONDS: Final = 10.0


def own(folder: Path, run: StoragePlace) -> None:
    """Write into the folder of a Ray that this process and this run own it."""
    me = psutil.Process()
    facts = {"run": str(run), "pid": me.pid, "began": me.create_time()}
    (folder / OWNER).write_text(json.dumps(facts), encoding="utf-8")


def end(run: StoragePlace, bases: Iterable[str], listener: Listener) -> None:
    """End the processes of killed drivers of a run on this machine, remove their folders, and tell a listener.

    Args:
        run: the run, which no other process trains now.
        bases: the folders in which Ray's folders are made.
        listener: is told how many processes were ended.
    """
    for folder in _left(run, bases):
        processes = list(_using(folder))
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
        if processes:
            what = count(len(processes), "process", "processes")
            reason = f"an earlier driver of this run was killed; ended {what} of it that still held memory"
            listener(Event("machines", "", reason=reason))


def _left(run: StoragePlace, bases: Iterable[str]) -> Iterator[Path]:
    """Yield the folders of the Rays of a run whose driver has ended."""
    for base in dict.fromkeys(bases):
        for file in Path(base).glob(f"{PREFIX}*/{OWNER}"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                facts = json.loads(file.read_text(encoding="utf-8"))
                is_mine = file.stat().st_uid == os.getuid()
                if is_mine and facts["run"] == str(run) and not _lives(int(facts["pid"]), float(facts["began"])):
                    yield file.parent


def _lives(pid: int, began: float) -> bool:
    with suppress(psutil.Error):
        return bool(abs(psutil.Process(pid).create_time() - began) < 1.0)
    return False


def _using(folder: Path) -> Iterator[psutil.Process]:
    """Yield this user's processes that were started with the folder, or have a file of it open."""
    within = f"{folder}{os.sep}"
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.uids().real != os.getuid():
                continue
            if any(within in word for word in process.cmdline()) or _has_open(process.pid, within):
                yield process


def _has_open(pid: int, within: str) -> bool:
    """Tell whether a process has a file of a folder open; a process that changed its name has no command line."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if str(link.readlink()).startswith(within):
                return True
    return False
