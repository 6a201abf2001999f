"""The protocol of a sweep, as it is frozen before anything is trained: what is compared, and how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from tskd_tune.errors import InputError
from tskd_tune.experiment.assembly import task_of
from tskd_tune.experiment.identity import LENGTH, identity
from tskd_tune.metrics import Part, measured
from tskd_tune.plain import Document
from tskd_tune.records.protocols.confirmations import search_of
from tskd_tune.records.protocols.protocol import Terms, kept
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.declared import Declared
from tskd_tune.reports.findings.frozen import stated
from tskd_tune.reports.findings.pairs import Trained, pairs_of
from tskd_tune.reports.findings.records import Setting
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.stored import sweep_of


def terms_of(sweep: Sweep) -> Terms:
    """Return the protocol of a sweep.

    Raises:
        InputError: a point is not a valid experiment.
    """
    declared = Declared.read(sweep.plain(), "sweep.yaml")
    if not sweep.is_exact:
        return stated(declared, metric=sweep.metric, family=[], experiments={"": _digest(sweep.experiment)})
    found = [(point.label, sweep.experiment_at(point)) for point in sweep.space().grid()]
    plain = [(label, experiment.plain()) for label, experiment in found]
    arms = [
        Trained(label, Setting(one.get("task"), one.get("student")), one.get("review") is not None, ())
        for label, one in plain
    ]
    _, first = found[0]
    facts = task_of(first).facts()
    never = all(experiment.evaluation.test == "never" for _, experiment in found)
    part: Part = "validation" if never and facts.samples[1] else "test"
    family, _ = pairs_of(arms, declared.comparing) if len(arms) > 1 else ([], "")
    metric = measured(part, facts.metrics[0]) if facts.metrics else ""
    return stated(declared, metric=metric, family=family, experiments={label: identity(one) for label, one in found})


def _digest(space: Document) -> str:
    return hashlib.sha256(json.dumps(space, sort_keys=True, default=str).encode()).hexdigest()[:LENGTH]


def refuse_seeds_of_the_search(run: RunFolder, seeds: Sequence[int]) -> None:
    """Refuse to extend a confirmation by seeds that chose the winners of its search.

    Args:
        run: the run that is extended.
        seeds: the seeds that are added.

    Raises:
        InputError: the search used one of the seeds.
    """
    if not seeds or run.state.confirms is None:
        return
    own = kept(run)
    known = next((line.confirms for line in own.lines if line.confirms), None) if own else None
    if known is not None:
        used = known.seeds
    else:
        search = search_of(run, None)
        used = sweep_of(search).all_seeds() if search is not None else []
    again = [seed for seed in seeds if seed in used]
    if again:
        one = len(again) == 1
        raise InputError(
            f"--seeds: the search '{run.state.confirms}' chose its winners with {'seed' if one else 'seeds'}"
            f" {', '.join(map(str, again))}, so {'it is' if one else 'they are'} not fresh in the run that confirms it;"
            f" the search used {', '.join(map(str, used))}; give other seeds"
        )
