"""Adds seeds, controls and points to a sweep that was run before. Only the new trainings are run; rows are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tskd_tune.errors import InputError
from tskd_tune.experiment.identity import identity
from tskd_tune.paths import in_shell
from tskd_tune.records.runs.counted import counted
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.stored import as_begun, sweep_of


@dataclass(frozen=True)
class Addition:
    """What is added to a sweep.

    Attributes:
        seeds: further seeds, which the sweep does not have.
        controls: control arms, written as the key ``controls`` of a sweep: true, or names; None for none.
        points: another sweep; its new points are added, and its other keys are ignored.
    """

    seeds: Sequence[int] = ()
    controls: Any = None
    points: Sweep | None = None


class NothingNewError(InputError):
    """What is to be added to a sweep is there already."""


def extended_run(folder: RunFolder, addition: Addition) -> Sweep:
    """Return the sweep of a run with more seeds or arms; if they are there and were not trained, say how to go on.

    Raises:
        InputError: as `extended`.
    """
    if addition.points is not None:
        addition = replace(addition, points=as_begun(addition.points, folder.state.format))
    try:
        return extended(sweep_of(folder), addition)
    except NothingNewError as error:
        expected, ended = folder.state.expected or 0, sum(row.ended for row in counted(folder, folder.rows()))
        if ended >= expected:
            raise
        raise InputError(
            f"{error}\n{folder.place}: {expected - ended} of {expected} trainings have not ended, such as those of an"
            f" extension that was cut off; train them with: tskd-tune resume {in_shell(folder.place)}"
        ) from error


def extended(sweep: Sweep, addition: Addition) -> Sweep:
    """Return a sweep with more seeds or arms after its own.

    Args:
        sweep: the sweep, as stored in the folder of its run.
        addition: what is added.

    Raises:
        InputError: the sweep cannot be extended, a seed is not new, or nothing new would be trained.
    """
    refuse(sweep)
    known, seeds = sweep.all_seeds(), list(addition.seeds)
    again = [seed for seed in seeds if seed in known]
    if again:
        raise NothingNewError(
            f"--seeds: {', '.join(map(str, again))} {'is' if len(again) == 1 else 'are'} in the sweep already (it has"
            f" {', '.join(map(str, known))}); give other seeds"
        )
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds: must be different numbers, got {', '.join(map(str, seeds))}")
    plain = sweep.plain()
    plain["experiment"] = {key: value for key, value in plain["experiment"].items() if key != "seed"}
    arms = {**sweep.arms, **(_further(sweep, addition.points) if addition.points else {})}
    # A run of an earlier version declared one fixed test.
    rule = sweep.compare.sequential or "fixed"
    compare = {**plain["compare"], "sequential": rule, "added": [*sweep.compare.added, *([seeds] if seeds else [])]}
    changed = {"seeds": [*known, *seeds], "arms": arms, "controls": addition.controls, "compare": compare}
    found = Sweep.read({**plain, **changed}).resolved()
    if not seeds and found.arms == sweep.arms:
        raise NothingNewError(
            "extend: there is nothing to add; give --seeds, --controls or --points that the sweep does not have yet"
        )
    return found


def _further(sweep: Sweep, other: Sweep) -> dict[str, dict[str, object]]:
    """Return the points of another sweep that are new, as whole experiments by their labels."""
    if not other.is_exact:
        raise InputError(f"--points: a grid's points can be added, but the search there is '{other.search.name}'")
    if problems := check(other):
        raise InputError("\n".join(f"--points: {problem}" for problem in problems))
    trained = {identity(sweep.experiment_at(point)): point.label for point in sweep.space().grid()}
    found: dict[str, dict[str, object]] = {}
    for point in other.space().grid():
        # `sweep` trains the new points, so its resources set the number of threads.
        if identity(sweep.experiment_at(point)) in trained:
            continue
        if point.label in trained.values():
            raise InputError(
                f"--points: '{point.label}' is also the label of another experiment in the run; give the new point a"
                " label of its own"
            )
        found[point.label] = point.experiment
    return found


def refuse(sweep: Sweep) -> None:
    """Refuse a sweep whose results would not be valid any more after an extension.

    Raises:
        InputError: the sweep is a search, its scheduler stops trials, or it declared interim analyses.
    """
    if not sweep.is_exact:
        raise InputError(
            f"the search '{sweep.search.name}' chose its points by means over its own seeds, so a search cannot be"
            " extended; train its winners on fresh seeds with `tskd-tune confirm`"
        )
    if sweep.is_judged:
        raise InputError(
            f"the scheduler '{sweep.scheduler.name}' stopped trials by means over the sweep's own seeds, so the sweep"
            " cannot be extended; start a new sweep with these seeds"
        )
    if sweep.compare.interim:
        raise InputError(
            f"the sweep declared interim analyses at {', '.join(map(str, sweep.compare.interim))} seeds before it ran,"
            " and its p values are corrected for these analyses only; start a new sweep with other seeds"
        )
