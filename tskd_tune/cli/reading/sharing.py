"""The commands that send data to Weights & Biases: ``sync`` and ``report --wandb``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from tskd_tune.cli.terminal import complain, say, warn
from tskd_tune.errors import InputError, RunError
from tskd_tune.paths import StoragePlace, in_shell
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.wandb import offline
from tskd_tune.records.wandb.server import account, has_key, why_away
from tskd_tune.signals import Ended
from tskd_tune.words import count

# Seconds to wait for a server's first answer.
PATIENCE = 10.0
MOST_NAMED = 10


def sync(run: str, storage: StoragePlace, *, entity: str | None, project: str | None) -> None:
    """Upload the offline W&B runs of a run, without the W&B runs that W&B has marked as uploaded.

    Raises:
        InputError: there is no such run, or no key.
        RunError: the server does not answer, or did not accept every run.
    """
    folder = RunFolder.open(run, storage)
    if folder.remote is not None:
        folder.remote.bring_all("wandb")
    runs = offline.offline_runs(folder.path)
    left = [one for one in runs if not one.uploaded]
    if not runs:
        say(f"{folder.place}: there are no offline W&B runs to upload")
    elif not left:
        say(f"{folder.place}: all {_runs(len(runs))} were uploaded before")
    else:
        known = _server(folder)
        say(f"{folder.place}: {_runs(len(runs))}, {len(runs) - len(left)} of them uploaded before")
        try:
            found = offline.upload(left, entity=entity or known.entity, project=project or known.project)
        except KeyboardInterrupt:
            _mark(folder)
            complain(f"interrupted; uploaded runs are marked; continue with: tskd-tune sync {in_shell(folder.place)}")
            raise typer.Exit(Ended.code()) from None
        _mark(folder)
        _tell(folder, found)


def _mark(folder: RunFolder) -> None:
    """Bring W&B's marks of uploaded runs to the storage of the run."""
    if folder.remote is not None:
        for mark in (folder.path / "wandb").glob("*/*.wandb.synced"):
            folder.remote.objects.write(str(mark.relative_to(folder.path)), mark)


def publish(run: str, storage: StoragePlace, *, as_json: bool) -> None:
    """Save the report of a run on W&B and print the report's address; without a key, print the path of its spec.

    Raises:
        InputError: there is no such run.
        RunError: the run's records cannot be read, or the server does not answer or refuses.
    """
    from tskd_tune.reports.forms import wandb_report

    folder = RunFolder.open(run, storage)
    done = wandb_report.publish(folder)
    if done.url:
        typer.echo(f"W&B report: {done.url}", err=as_json)
        return
    typer.echo(
        f"W&B report: {done.why_not}, so only its spec was written: {done.place}\n"
        "to publish it, log in with `wandb login` or set WANDB_API_KEY, then run:\n"
        f"  tskd-tune sync {in_shell(folder.place)}\n"
        f"  tskd-tune report {in_shell(folder.place)} --wandb",
        err=as_json,
    )


def _server(folder: RunFolder) -> Any:
    """Return W&B's settings; there is a key, and the server has answered."""
    known = account()
    if not has_key(known):
        raise InputError(
            f"there is no key for {known.base_url}; log in with `wandb login` or set WANDB_API_KEY, "
            f"then run: tskd-tune sync {in_shell(folder.place)}"
        )
    away = why_away(known.base_url, PATIENCE)
    if away:
        raise RunError(
            f"{away}; nothing is lost; when the server is back, run: tskd-tune sync {in_shell(folder.place)}"
        )
    return known


def _tell(folder: RunFolder, found: offline.Upload) -> None:
    for one in found.uploaded:
        say(f"  uploaded: {one.id}  {found.addresses.get(one.id, '')}".rstrip())
    warn(
        f"{one.path.name}: is still being written, or was cut off; W&B uploads the part that it can read; when the"
        f" training is over, run: tskd-tune sync {in_shell(folder.place)}"
        for one in found.unfinished
    )
    if found.failed:
        why = "the server stopped answering" if found.stalled else "; ".join(found.reasons) or "W&B gave no reason"
        raise RunError(
            f"{_runs(len(found.failed))} could not be uploaded ({why}): {_named(found.failed)}\n"
            f"nothing is lost, try again with: tskd-tune sync {in_shell(folder.place)}"
        )


def _named(runs: Sequence[offline.OfflineRun]) -> str:
    rest = len(runs) - MOST_NAMED
    return ", ".join(run.id for run in runs[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _runs(number: int) -> str:
    return count(number, "offline W&B run")
