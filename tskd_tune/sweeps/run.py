"""Runs a sweep on Ray Tune, and resumes or extends an earlier run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any

from tskd_tune.callbacks import Heard, heard
from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.paths import Address, StoragePlace, in_shell
from tskd_tune.records.entries.conclusion import conclude, conclusion
from tskd_tune.records.entries.design import write_design
from tskd_tune.records.entries.events import Event, Listener, keep_leaks, read_data
from tskd_tune.records.entries.origin import Origin
from tskd_tune.records.entries.teacher_names import under
from tskd_tune.records.entries.teaching import noted
from tskd_tune.records.protocols.confirmations import enter, search_of, searched
from tskd_tune.records.protocols.protocol import keep, kept
from tskd_tune.records.runs.counted import counted
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.wandb.rules import refuse as refuse_names
from tskd_tune.records.wandb.server import Connection, Place, run_key
from tskd_tune.reports.page.report import write_report
from tskd_tune.sweeps.budgets import limits_of, refuse_used_up, with_hours
from tskd_tune.sweeps.declared.checking import refuse
from tskd_tune.sweeps.declared.design import design_in
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.stored import sweep_of
from tskd_tune.sweeps.declared.teacher_keys import distinct
from tskd_tune.sweeps.evidence.extension import Addition, extended_run
from tskd_tune.sweeps.evidence.protocol import refuse_seeds_of_the_search, terms_of
from tskd_tune.sweeps.machines.machine import refuse_here
from tskd_tune.sweeps.machines.node_probe import Looked
from tskd_tune.sweeps.machines.resources import needed, refuse_unfit
from tskd_tune.sweeps.on_ray.leftovers import end as end_leftovers
from tskd_tune.sweeps.on_ray.ray_address import named_cluster
from tskd_tune.sweeps.on_ray.ray_metrics import metered
from tskd_tune.sweeps.on_ray.ray_session import bases, session
from tskd_tune.sweeps.preflight import look_at_nodes
from tskd_tune.sweeps.recorder import Recorder
from tskd_tune.sweeps.stages import expected_rows, missing, train
from tskd_tune.sweeps.teachers import prepare
from tskd_tune.sweeps.trials.shipped import Shipped
from tskd_tune.sweeps.tuning import Tuning

REPORT_SECONDS = 2.0
"""Seconds of training between the reports of a trial, if its epochs are shorter and no scheduler decides there."""


def start(
    sweep: Sweep,
    name: str,
    storage: StoragePlace,
    listener: Listener,
    *,
    track: bool = True,
    confirms: RunFolder | None = None,
    origin: Origin | None = None,
) -> RunFolder:
    """Check a sweep, run all of it and write its report.

    Args:
        sweep: the sweep to run.
        name: the run's name, new in ``storage``.
        storage: the folder or the address of all runs.
        listener: is called with each event.
        track: whether trials are tracked by W&B.
        confirms: the run of the search whose winners this run trains.
        origin: the file of the sweep and its question, for the report.

    Raises:
        InputError: the sweep has a mistake or the name is taken; nothing was started.
        RunError: something failed; finished trainings are kept, and the run can be resumed.
        KeyboardInterrupt: the sweep was interrupted, and can be resumed.
    """
    named_cluster()  # fails at once if no cluster answers
    refuse(sweep)
    refuse_here(sweep)
    refuse_names(_place(sweep), track=track)
    sweep = sweep.resolved()
    path = RunFolder.free(storage.absolute(), name)  # before the data are read, which may take hours
    _read_data(sweep, listener)
    facts: Any = {"confirms": confirms.name if confirms else None, "origin": origin, "tracked": track}
    folder: RunFolder | None = None
    try:
        with ExitStack() as until_reported:
            with session(path):  # first, so that no folder is left if Ray does not start
                refuse_unfit(sweep, listener)
                looked = look_at_nodes(sweep, path, needed(sweep), listener)
                folder = RunFolder.create(
                    path.parent, name, "sweep", sweep.plain(), expected=expected_rows(sweep), **facts
                )
                until_reported.enter_context(folder.alone(_waits(listener)))
                _freeze(sweep, folder, confirms)
                listener = until_reported.enter_context(_heard(sweep, folder, listener))
                whole = _trained(sweep, folder, listener, track=track, looked=looked)
            return _reported(folder, listener, whole=whole)
    except InputError:
        if folder is not None:
            folder.discard()  # found before anything was trained; the name is free again
            if confirms is not None and not folder.path.exists():
                with suppress(InputError):  # what cannot be written was not written before either
                    enter(confirms, folder, sweep.all_seeds(), discarded=True)
        raise


def _freeze(sweep: Sweep, folder: RunFolder, confirms: RunFolder | None) -> None:
    """Write the protocol before anything is trained, and a confirmation into the ledger of its search."""
    if confirms is None:
        keep(folder, "start", terms_of(sweep))
        return
    enter(confirms, folder, sweep.all_seeds())
    keep(folder, "start", terms_of(sweep), searched(confirms, sweep_of(confirms).all_seeds()))


def _freeze_again(sweep: Sweep, folder: RunFolder) -> None:
    """Write the protocol where it differs; of a run that was killed before it was frozen, all that its start writes."""
    if kept(folder) is None and not folder.trials() and not folder.rows():
        _freeze(sweep, folder, search_of(folder, None))
    else:
        keep(folder, "resume", terms_of(sweep))


def resume(
    folder: RunFolder, listener: Listener, *, track: bool | None = None, hours: float | None = None
) -> RunFolder:
    """Finish a run that was cut off; trials that broke are trained again, and finished trials are kept.

    Args:
        folder: the run.
        listener: is called with each event.
        track: whether trials are tracked by W&B; None: as the run began.
        hours: how long the run may go on: its budget becomes the hours used so far plus these; None: as its file says.

    Raises:
        InputError: the run is not a sweep, another process trains it, or its budget is used up.
        RunError: as `start`.
    """
    folder = _sweep_folder(folder)
    track = folder.state.tracked if track is None else track
    with folder.alone(_waits(listener)):
        sweep = sweep_of(folder, None if hours is None else with_hours(folder, hours))
        refuse_names(_place(sweep), track=track)
        refuse_used_up(sweep, folder)
        if hours is not None:
            folder.replace_document(sweep.plain())
        _read_data(sweep, listener)
        _freeze_again(sweep, folder)
        return _run(sweep, folder, listener, track=track)


def extend(folder: RunFolder, addition: Addition, listener: Listener, *, track: bool | None = None) -> RunFolder:
    """Add seeds or arms to a run of a grid, and train them; if this is cut off, `resume` goes on.

    Args:
        folder: the run.
        addition: what is added.
        listener: is called with each event.
        track: whether trials are tracked by W&B; None: as the run began.

    Raises:
        InputError: the run is not a sweep that can be extended, another process trains it, or nothing new was given.
        RunError: as `start`.
    """
    folder = _sweep_folder(folder)
    track = folder.state.tracked if track is None else track
    with folder.alone(_waits(listener)):
        before = sweep_of(folder)
        sweep = extended_run(folder, addition)
        refuse_seeds_of_the_search(folder, addition.seeds)
        refuse(sweep)
        refuse_names(_place(sweep), track=track)
        _read_data(sweep, listener)
        # A crash between these two writes leaves a wrong number of expected rows, which `resume` corrects.
        folder.expect(expected_rows(sweep))
        keep(folder, "resume", terms_of(before))
        folder.replace_document(sweep.plain())
        keep(folder, "extension", terms_of(sweep))
        return _run(sweep, folder, listener, track=track)


def _waits(listener: Listener) -> Callable[[str], None]:
    """Return what tells the user that the run waits for its storage."""
    return lambda text: listener(Event("note", "", reason=text))


def _read_data(sweep: Sweep, listener: Listener) -> None:
    read_data(_experiments(sweep), listener)


def _experiments(sweep: Sweep) -> Iterator[Experiment]:
    return (sweep.experiment_at(point) for point in sweep.space().corners())


def _sweep_folder(folder: RunFolder) -> RunFolder:
    if folder.state.kind != "sweep":
        raise InputError(f"{folder.place}: is not a sweep but a single training; continue it with `tskd-tune resume`")
    # Ray reads a relative path as an address without a scheme.
    return RunFolder(folder.path.absolute(), folder.state, folder.remote)


def _run(sweep: Sweep, folder: RunFolder, listener: Listener, *, track: bool) -> RunFolder:
    end_leftovers(folder.place, bases(), listener)
    with ExitStack() as until_reported:
        with session(folder.place):
            refuse_unfit(sweep, listener)
            looked = look_at_nodes(sweep, folder.place, needed(sweep), listener)
            listener = until_reported.enter_context(_heard(sweep, folder, listener))
            whole = _trained(sweep, folder, listener, track=track, looked=looked)
        return _reported(folder, listener, whole=whole)


def _heard(sweep: Sweep, folder: RunFolder, listener: Listener) -> AbstractContextManager[Listener]:
    return heard(sweep.callbacks, _told(folder), listener)


def _told(folder: RunFolder) -> Heard:
    return Heard(folder.name, folder.path, folder.place if isinstance(folder.place, Address) else None)


def _trained(sweep: Sweep, folder: RunFolder, listener: Listener, *, track: bool, looked: Looked | None) -> bool:
    """Train the missing trainings. Return False if a signal cut the run off, and otherwise True."""
    listener = metered(noted(folder.store, listener), folder.name, sweep.metric, sweep.mode)
    write_design(folder.store, design_in(folder, sweep))
    keep_leaks(folder.store, _experiments(sweep))
    conclude(folder.store, None)
    limits = limits_of(sweep, folder, needed(sweep).get("gpu") or 0.0)
    with Recorder.recording(folder, listener):
        shipped = Shipped(
            sweep=folder.name,
            folder=folder.path if track else None,
            metric=sweep.metric,
            mode=sweep.mode,
            teachers=prepare(_teachers(sweep, folder), needed(sweep), listener),
            place=_place(sweep),
            key=run_key(folder.path, folder.name),
            connection=_connection() if track else None,
            run=folder.at,
            by_identity=folder.state.by_identity,
            report_seconds=REPORT_SECONDS,
            looked=looked,
            workers=sweep.resources.worker_count,
            gpu_share=needed(sweep).get("gpu") or 1.0,
        )
        whole = train(Tuning(sweep, folder, shipped, listener, limits), listener)
    if whole and (found := limits.conclusion(folder)) is not None:
        conclude(folder.store, found)
        listener(Event("note", "", reason=found.sentence))
    return whole


def _reported(folder: RunFolder, listener: Listener, *, whole: bool) -> RunFolder:
    write_report(folder)
    listener(Event("report", "", reason=folder.store.place("report.html")))
    if not whole and _lacks_rows(folder):
        raise KeyboardInterrupt
    _raise_what_is_missing(folder)
    return folder


def _place(sweep: Sweep) -> Place:
    return Place(**sweep.wandb.plain())


def _connection() -> Connection:
    """Probe W&B's server once for all trials, and warn if they stay offline although a server was asked for."""
    found = Connection.probe()
    if found.warning:
        warnings.warn(f"W&B: {found.warning}", stacklevel=2)
    return found


def _teachers(sweep: Sweep, folder: RunFolder) -> dict[str, Experiment]:
    """Return the teachers that trainings still need; if a teacher depends on a drawn number, its trial makes it.

    A grid that goes on needs only the teachers of what is missing: another one may be in no cache any more.
    """
    points = sweep.points() if sweep.is_exact else sweep.space().corners()
    found = distinct(sweep.experiment_at(point) for point in points)
    if sweep.is_judged:
        return found
    wanted = {config.teacher for config in missing(sweep, folder, sweep.all_seeds())}
    return {key: experiment for key, experiment in found.items() if key in wanted}


def _lacks_rows(folder: RunFolder) -> bool:
    expected = folder.state.expected
    return expected is None or sum(row.ended for row in counted(folder, folder.rows())) < expected


def _raise_what_is_missing(folder: RunFolder) -> None:
    """Raise an error if a run is not complete, after its report was written.

    Raises:
        RunError: trainings failed, or have no row.
    """
    rows = counted(folder, folder.rows())
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        broke = sum(row.broke for row in failed)
        again = (
            f" {broke} of them broke and can be trained again: tskd-tune resume {in_shell(folder.place)}"
            if broke
            else ""
        )
        told = [f"{row.arm}{under(row.point)}, seed {row.seed}: {row.reason}" for row in failed]
        head = f"{folder.place}: {len(failed)} failed; `tskd-tune report {in_shell(folder.place)}` shows them.{again}"
        raise RunError("\n".join([head, *told]))
    expected = folder.state.expected
    if expected is not None and len(rows) < expected and conclusion(folder.store) is None:
        raise RunError(
            f"{folder.place}: {expected - len(rows)} of {expected} trainings have no row; train them with: tskd-tune"
            f" resume {folder.place}"
        )
