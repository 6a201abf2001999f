"""Which trainings share a process: a bundle holds trials whose trainings advance step by step in turns.

A bundle is only a schedule. Each of its trials keeps its number, its rows and the files of its trainings, and a resumed
run may bundle the trainings anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from tskd_tune.experiment.descent import Descent
from tskd_tune.plain import Document
from tskd_tune.sweeps.messages.results import TrialResult
from tskd_tune.sweeps.messages.trial_config import TrialConfig


def bundled(configs: Sequence[TrialConfig], together: int, places: int = 1) -> list[TrialConfig]:
    """Put trials into bundles, in their order: trials whose trainings compute in the same way, evenly.

    Args:
        configs: the trials, each with a number.
        together: the largest number of trainings in a bundle.
        places: how many bundles run at once; fewer bundles than this would leave a GPU or a core without work.
    """
    groups: dict[str, list[TrialConfig]] = {}
    for config in configs:
        groups.setdefault(computes(config), []).append(config)
    found: list[list[TrialConfig]] = []
    for group in groups.values():
        share = -(-places * len(group) // len(configs))
        found += _evenly(group, max(-(-len(group) // together), min(share, len(group))))
    order = {config.number: place for place, config in enumerate(configs)}
    return [_bundle(members) for members in sorted(found, key=lambda members: order[members[0].number])]


def computes(config: TrialConfig) -> str:
    """Return a text of the options that say where and how a trial computes; trials of a bundle have them in common.

    These are the options of ``training`` that a teacher's training does not have: the device, the precision, the
    threads and the like, which belong to the process.
    """
    training = config.experiment.get("training") or {}
    return json.dumps({name: value for name, value in training.items() if name not in Descent.model_fields})


def _evenly(configs: Sequence[TrialConfig], parts: int) -> list[list[TrialConfig]]:
    """Split a list into parts whose lengths differ by at most one, in order."""
    bounds = [round(part * len(configs) / parts) for part in range(parts + 1)]
    return [list(configs[low:high]) for low, high in pairwise(bounds)]


def _bundle(members: Sequence[TrialConfig]) -> TrialConfig:
    return replace(members[0], others=[member.plain() for member in members[1:]])


def reported(given: TrialConfig, found: Mapping[str, TrialResult], *, done: bool) -> Document:
    """Return the results of a bundle's trials as one result of Ray Tune; a trial alone reports its own.

    Args:
        given: the config of the bundle.
        found: the id of each trial that had not ended before -> its result.
        done: whether all have ended.
    """
    if not given.others:
        return found[given.run].plain()
    epoch = max((one.epoch for one in found.values()), default=-1)
    return {"epoch": epoch, "done": done, "bundle": [{"run": run, **one.plain()} for run, one in found.items()]}


def results_of(given: TrialConfig, result: Document) -> list[tuple[TrialConfig, TrialResult]]:
    """Return each trial of a bundle that reported, with what it reported."""
    if not given.others:
        return [(given, TrialResult.read(result))]
    configs = {member.run: member for member in given.members()}
    return [(configs[one["run"]], TrialResult.read(one)) for one in result.get("bundle", [])]
