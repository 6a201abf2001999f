"""The command ``sweep --replicates N``: searches the same space N times, each time with other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from tskd_tune.cli.reading import comparing_searches
from tskd_tune.cli.terminal import complain, say, warn
from tskd_tune.cli.training import running
from tskd_tune.cli.training.finishing import finish_report
from tskd_tune.errors import InputError, RunError
from tskd_tune.paths import StoragePlace
from tskd_tune.plain import Document
from tskd_tune.records.entries.conclusion import conclusion
from tskd_tune.records.entries.names import refuse_name
from tskd_tune.records.entries.origin import Origin
from tskd_tune.records.entries.replicate import Replicate, first_declared
from tskd_tune.records.entries.state import FORMAT
from tskd_tune.records.protocols.protocol import declare_replicates, results_of
from tskd_tune.records.runs.finding import has_run
from tskd_tune.records.runs.groups import replicates_of
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.stored import as_begun, sweep_of
from tskd_tune.sweeps.evidence.replicates import refuse_replicates, replicate_of, sampler_seed


@dataclass(frozen=True)
class Planned:
    """A replicate: its place in the group, its sweep, and where its run is or will be."""

    replicate: Replicate
    sweep: Sweep
    place: StoragePlace


def replicated(
    file: Path, name: str | None, storage: StoragePlace, settings: Sequence[str], *, count: int, track: bool
) -> None:
    """Run replicates of a search one after the other, and show their curve; what has ended is not trained again.

    Args:
        file: the sweep's file.
        name: the name of the group; the runs are called NAME-1 to NAME-N. None: the file's name and the time.
        storage: the folder of the runs.
        settings: settings ``key.key=value``.
        count: the number of replicates.
        track: whether trainings are tracked by W&B.

    Raises:
        InputError: the sweep is wrong or no search, or a run of such a name is another one.
        RunError: a replicate failed.
    """
    group = running.name_of(file, name)
    given = Sweep.load(file, settings)
    refuse_replicates(given)
    planned = plan(given, group, storage.absolute(), count)
    _say_plan(planned, group)
    _declare(_begun(group, storage.absolute()), count)
    failed = [error for one in planned if (error := _trained(one, given.origin, track, count)) is not None]
    comparing_searches.show_group(group, storage, replicates_of(storage.absolute() / group))
    if failed:
        raise RunError("\n".join(map(str, failed)))


def plan(given: Sweep, group: str, storage: StoragePlace, count: int) -> list[Planned]:
    """Return the replicates of a search; those that began must be the same searches.

    Where an older version began the group, all have the defaults of then, so that they are one search.

    Raises:
        InputError: a run of such a name is another one.
    """
    if has_run(storage / group):
        RunFolder.open(storage / group)  # if the storage does not answer, this says so
        raise InputError(f"--name: {storage / group} is a run, so no group can have this name; give another --name")
    found = []
    given = as_begun(given, min((one.state.format for one in _begun(group, storage)), default=FORMAT))
    for number in range(1, count + 1):
        replicate = Replicate(group=group, number=number, declared=count)
        refuse_name(replicate.run)
        one = Planned(replicate, replicate_of(given, number), storage / replicate.run)
        if has_run(one.place):
            _refuse_other(one)
        elif replicates_of(one.place):
            raise InputError(
                f"--name: {one.place} is a group of replicates, so no run can have this name; give another"
            )
        found.append(one)
    return found


def _begun(group: str, storage: StoragePlace) -> list[RunFolder]:
    return [RunFolder.open(place) for place in replicates_of(storage / group)]


def _refuse_other(one: Planned) -> None:
    folder = RunFolder.open(one.place)
    if not one.replicate.is_same(folder.state.replicate):
        raise InputError(
            f"--name: {one.place} exists, and is no replicate of '{one.replicate.group}'; give another --name"
        )
    if _without_budget(sweep_of(folder)) != _without_budget(one.sweep.resolved()):
        raise InputError(
            f"{one.place}: was begun with another sweep file, other settings or other seeds, so the replicates would"
            " differ in more than their seeds; give the same file and settings, or another --name"
        )


def _without_budget(sweep: Sweep) -> Document:
    """Return a sweep as plain data without its budget, which `tskd-tune resume --hours` changes."""
    return {key: value for key, value in sweep.plain().items() if key != "budget"}


def _declare(begun: Sequence[RunFolder], count: int) -> None:
    """Declare another number of replicates while there are no results; afterwards say what that means."""
    first = first_declared([(folder.state.created, folder.state.replicate) for folder in begun])
    if first in (None, count):
        return
    if not any(results_of(folder) for folder in begun):
        for folder in begun:
            with folder.alone():
                declare_replicates(folder, count)
    elif count > first:
        warn([f"the group was begun with --replicates {first} and has results, so a verdict on more is exploratory"])
    else:
        warn([f"the group was begun with --replicates {first} and has results, so there is no verdict on fewer"])


def _say_plan(planned: Sequence[Planned], group: str) -> None:
    first, last = planned[0], planned[-1]
    say(
        f"{group}: {len(planned)} replicates of a search, {first.place.name} to {last.place.name}, one after the other;"
        f" sampler seeds {sampler_seed(first.sweep)} to {sampler_seed(last.sweep)}, training seeds"
        f" {', '.join(map(str, first.sweep.all_seeds()))} of the first to"
        f" {', '.join(map(str, last.sweep.all_seeds()))} of the last"
    )


def _trained(one: Planned, origin: Origin, track: bool, count: int) -> RunError | None:
    """Train what a replicate lacks; return the error of a replicate that ended although trainings failed."""
    storage, name = one.place.parent, one.place.name
    try:
        if not has_run(one.place):
            running.run_sweep(one.sweep, name, storage, replace(origin, replicate=one.replicate), track=track)
        elif _has_ended(one.place):
            finish_report(RunFolder.open(one.place))
            say(f"{one.place}: has ended, nothing is left to train")
        else:
            running.resume(str(one.place), storage, track=track)
    except RunError as error:
        if not has_run(one.place) or not _has_ended(one.place):
            raise RunError(f"{error}\n{_again(one, count)}") from error
        return error
    except typer.Exit:
        complain(_again(one, count))
        raise
    return None


def _has_ended(place: StoragePlace) -> bool:
    """Tell whether all trainings of a run have ended, or its budget or its target ended the run."""
    folder = RunFolder.open(place)
    expected = folder.state.expected
    ended = sum(row.ended for row in folder.rows())
    return conclusion(folder.store) is not None or (expected is not None and ended >= expected)


def _again(one: Planned, count: int) -> str:
    what = "end" if has_run(one.place) else "begin"
    return (
        f"replicate {one.replicate.number} of {count} did not {what}; the same command goes on with it, with --name"
        f" {one.replicate.group} and --replicates {count}"
    )
