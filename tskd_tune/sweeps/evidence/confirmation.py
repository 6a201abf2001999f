"""Confirms the best points of a search with fresh seeds on the whole training set; the test set is evaluated once.

The best of many trials looks better than it is on the validation set and the seeds that selected it. So the winners are
trained again on the training and the validation set together, with a teacher that is trained on both sets too. Two more
arms are trained: the same student without teacher and review, and the paper's setting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import fmean
from typing import Any

from tskd_tune.documents import merge
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of
from tskd_tune.experiment.identity import identity
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.stored import sweep_of
from tskd_tune.sweeps.searching.known import digest_of
from tskd_tune.words import count

BASELINE, PAPER = "baseline", "paper"
# Value of a task's option ``valid_part`` that holds out a whole folder of images -> the value that trains on them.
MERGED_PARTS = {"validation": "training"}

PASSED_ON = ("margin", "rule", "sequential", "allow")
"""What a search declares of comparisons, for its confirmation."""


def confirmation(
    folder: RunFolder, seeds: Sequence[int], *, top: int = 1, against: str = BASELINE, controls: Any = None
) -> Sweep:
    """Return the grid that confirms the best points of a search.

    Args:
        folder: the search's run.
        seeds: seeds that the search did not use.
        top: the number of points to confirm.
        against: the arm that others are compared with: ``baseline``, or an arm of the search, which is trained too.
        controls: control arms of the best point that reviews, given as the key ``controls`` of a sweep; None for none.

    Raises:
        InputError: the run is not a sweep that measured a validation metric, the search used one of the seeds, the
            search has fewer points, or ``against`` is not an arm.
    """
    sweep = _searched(folder)
    _refuse_used(seeds, sweep.all_seeds())
    ranked = _ranked(folder.rows(), sweep)
    if len(ranked) < top:
        raise InputError(
            f"--top: asks for {count(top, 'point')}, but only {len(ranked)} of {folder.name} have finished; lower --top"
        )
    winners = {_label(row, ranked[:top]): _whole(row.experiment) for row in ranked[:top]}
    paper = _paper(ranked[0])
    beside = {BASELINE: _plain(ranked[0]), **({} if paper is None else {PAPER: paper})}
    arms = _distinct({**winners, **beside})
    if against != BASELINE and against not in arms:
        named = {row.arm: row for row in reversed(ranked)}
        if against not in named:
            raise InputError(f"--against: {folder.name} has no arm '{against}'{did_you_mean(against, [*arms, *named])}")
        arm = _whole(named[against].experiment)
        against = next((name for name, other in arms.items() if _digest(other) == _digest(arm)), against)
        arms[against] = arm
    plain = sweep.plain()
    return Sweep.read(
        {
            "experiment": {"choice": arms},
            "seeds": list(seeds),
            "search": {"name": "grid"},
            "resources": sweep.resources.plain(),
            "compare": {"baseline": against, **{key: plain["compare"][key] for key in PASSED_ON}},
            "max_failures": sweep.max_failures,
            "wandb": sweep.wandb.plain(),
            "controls": controls,
        }
    )


def _searched(folder: RunFolder) -> Sweep:
    if folder.state.kind != "sweep":
        raise InputError(f"{folder.place}: is a single training, which has no winners; give the run of a search")
    return sweep_of(folder)


def _refuse_used(seeds: Sequence[int], used: Sequence[int]) -> None:
    again = [seed for seed in seeds if seed in used]
    if again:
        one = len(again) == 1
        raise InputError(
            f"--seeds: the search chose its winners with the {'seed' if one else 'seeds'} {', '.join(map(str, again))},"
            f" so {'it is' if one else 'they are'} not fresh; the search used {', '.join(map(str, used))}; give other"
            " seeds"
        )
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds: must be different numbers, got {', '.join(map(str, seeds)) or 'none'}")


def _ranked(rows: Sequence[Row], sweep: Sweep) -> list[Row]:
    """Return one row for each distinct point whose seeds are all done, the point with the best mean metric first."""
    metric, sign = sweep.metric, -1 if sweep.mode == "max" else 1
    points: dict[str, list[Row]] = {}
    for row in rows:
        # Rows of format 1 have no identity, and this version may be unable to read their experiment.
        point = row.identity or digest_of(row.experiment) or json.dumps(dict(row.experiment), sort_keys=True)
        points.setdefault(point, []).append(row)
    means = {}
    for point, group in points.items():
        values = [row.metrics.get(metric) for row in group if row.status == "done"]
        known = [value for value in values if value is not None]
        if {row.seed for row in group if row.status == "done"} >= set(sweep.all_seeds()) and len(known) == len(values):
            means[point] = sign * fmean(known)
    if rows and all(row.status == "failed" and not row.broke for row in rows):
        raise InputError(
            f"no training of the search can be confirmed: all {len(rows)} failed, and would fail again (the first:"
            f" {rows[0].reason}); search again in another space"
        )
    if not means:
        raise InputError(
            f"no point has finished all seeds with the metric '{metric}', which decides the winners; finish the run"
            " with `tskd-tune resume`, or search with a validation set (task.validation)"
        )
    return [points[point][0] for point in sorted(means, key=lambda each: (means[each], points[each][0].run))]


def _whole(experiment: Mapping[str, object]) -> dict[str, object]:
    """Return an experiment without seed that trains on its validation set too and evaluates the test set at the end."""
    whole = {key: value for key, value in experiment.items() if key != "seed"}
    # The resources of the new sweep set the number of threads.
    task = experiment["task"]
    assert isinstance(task, Mapping)
    changed = {"task": _merged(task), "evaluation": {"test": "last"}, "training": {"threads": None}}
    found = merge(whole, changed)
    left = task_of(Experiment.read(found)).facts().samples[1]
    if left:
        raise InputError(
            f"task: {left} images of '{task['name']}' stay held out for validation and cannot be merged back"
        )
    return found


def _merged(task: Mapping[str, object]) -> dict[str, object]:
    """Return a task that trains on its validation images too.

    If ``train`` is a number of images, the number of validation images is added.
    """
    merged: dict[str, object] = {"validation": 0} if "validation" in task else {}
    train, validation, part = (task.get(name) for name in ("train", "validation", "valid_part"))
    if isinstance(train, int) and isinstance(validation, int | float):
        merged["train"] = train + validation
    if isinstance(part, str) and part in MERGED_PARTS:
        merged["valid_part"] = MERGED_PARTS[part]
    return {**task, **merged}


def _plain(row: Row) -> dict[str, object]:
    """Return the winner's student alone, with its own recipe: no distiller, no review."""
    return merge(_whole(row.experiment), {"review": None, "distiller": {"name": "none"}})


def _paper(row: Row) -> dict[str, object] | None:
    """Return the paper's setting on the winner's task and networks; None if the paper's first review comes too late."""
    kept = ("task", "teacher", "student", "training")
    found = {"preset": "paper", **{key: value for key, value in row.experiment.items() if key in kept}}
    with suppress(InputError):
        return _whole(Experiment.read(found).plain())
    return None


def _label(row: Row, winners: Sequence[Row]) -> str:
    """Return the label of a winner's point, followed by the trial's id if another arm has the same label."""
    shared = [other.arm for other in winners].count(row.arm) > 1 or row.arm in (BASELINE, PAPER)
    return f"{row.arm} ({row.run})" if shared else row.arm


def _distinct(arms: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """Keep the first of several arms that are the same experiment; the baseline keeps its own name."""
    names: dict[str, str] = {}
    for name, arm in arms.items():
        if name == BASELINE:
            names[_digest(arm)] = name
        else:
            names.setdefault(_digest(arm), name)
    return {name: arms[name] for name in arms if names[_digest(arms[name])] == name}


def _digest(arm: Mapping[str, object]) -> str:
    return identity(Experiment.read(arm))
