"""Machines that join the cluster while a sweep runs, or leave it, cost a trial none of its ``max_failures``.

A machine that joins looks at itself when its first trial begins. If the machine lacks something, the trial trains
nothing there. The driver says the sentence once, the trial goes on elsewhere, and no later trial is placed on that
machine. A trial whose machine is lost goes on elsewhere too.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import ray
from ray import cloudpickle, tune
from ray.tune.schedulers import TrialScheduler

from tskd_tune.errors import RunError
from tskd_tune.plain import Document
from tskd_tune.records.events import Event, Listener
from tskd_tune.sweeps.lost_nodes import MOST, gone, is_loss, says_lost_node
from tskd_tune.sweeps.node_probe import Looked, problems
from tskd_tune.sweeps.nodes import Amounts, alive, fits, planned
from tskd_tune.sweeps.resources import reserved

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

NODE_LABEL: Final = "ray.io/node-id"
"""The label that Ray gives each machine."""


class UnfitNodeError(RunError):
    """A machine cannot train the sweep.

    Attributes:
        node: Ray's id of the machine.
        sentence: what the machine lacks, and what to do.
    """

    def __init__(self, node: str, sentence: str) -> None:
        """Keep the facts that the driver tells."""
        super().__init__(node, sentence)
        self.node, self.sentence = node, sentence

    def __str__(self) -> str:
        """Return the sentence."""
        return self.sentence


def refuse_here(looked: Looked | None) -> None:
    """Refuse to train on this machine if it joined after the others were looked at, and lacks something.

    Raises:
        UnfitNodeError: with what the machine lacks.
    """
    if looked is None:
        return
    here: str = ray.get_runtime_context().get_node_id()
    if here not in looked.nodes and (sentence := _lacks(looked)):
        raise UnfitNodeError(here, sentence)


def _lacks(looked: Looked) -> str:
    """Return what this machine lacks; an empty text if it can train."""
    where = f"node {socket.gethostname()} ({ray.util.get_node_ip_address()})"  # type: ignore[no-untyped-call]
    return "\n".join(f"{where}: {one}" for one in problems(looked.needs))


class Placed:
    """Where the trials of the present sweep may be placed; Ray Tune asks for each trial.

    Ray Tune pickles what asks and what hears, so neither holds this state.
    """

    unfit: ClassVar[set[str]] = set()
    losses: ClassVar[Counter[str]] = Counter()
    wanted: ClassVar[Amounts] = {}
    workers: ClassVar[int] = 1
    listener: ClassVar[Listener | None] = None

    @classmethod
    def begin(cls, wanted: Amounts, listener: Listener, workers: int = 1) -> None:
        """Begin a sweep whose workers take ``wanted``; ``listener`` is told of machines that cannot train."""
        cls.unfit, cls.losses, cls.wanted, cls.listener, cls.workers = set(), Counter(), wanted, listener, workers


def placement(wanted: Amounts, workers: int = 1) -> tune.PlacementGroupFactory:
    """Return the request for what the workers of a trial take, on none of the machines that are unfit or lost."""
    bundles = reserved(wanted, workers)
    if not Placed.unfit:
        return tune.PlacementGroupFactory(bundles)
    others = f"!in({','.join(sorted(Placed.unfit))})"
    return tune.PlacementGroupFactory(bundles, bundle_label_selector=[{NODE_LABEL: others}] * workers)


def avoiding(scheduler: TrialScheduler, wanted: Amounts, listener: Listener, workers: int = 1) -> TrialScheduler:
    """Let a scheduler hear of machines that cannot train or are lost: trials go on elsewhere, and do not count it."""
    Placed.begin(wanted, listener, workers)
    heard = partial(_on_trial_error, scheduler.on_trial_error)
    scheduler.on_trial_error = heard  # type: ignore[method-assign]
    return scheduler


def _on_trial_error(then: Callable[[TuneController, Trial], object], controller: TuneController, trial: Trial) -> None:
    error = _error_of(trial)
    if isinstance(error, UnfitNodeError):
        _move(trial, error)
    elif error is not None and is_loss(error):
        _leave_lost(trial, error)
    then(controller, trial)


def _move(trial: Trial, error: UnfitNodeError) -> None:
    if error.node not in Placed.unfit:
        Placed.unfit.add(error.node)
        assert Placed.listener is not None
        Placed.listener(Event("machines", "", reason=f"{error.sentence}\nno trial is placed on this node again"))
    others = [node.amounts for node in alive() if node.id not in Placed.unfit]
    if not fits(Placed.wanted, [*others, *(kind.amounts for kind in planned())]):
        raise RunError(f"no other node can train this sweep: {error.sentence}; correct the node, then resume the run")
    trial.run_metadata.num_failures -= 1
    trial.update_resources(placement(Placed.wanted, Placed.workers))


def _leave_lost(trial: Trial, error: BaseException) -> None:
    """Count no failure if the trial was lost with its machine, and place nothing on that machine again."""
    there = [node for node in alive() if node.id not in Placed.unfit]
    lost = gone(there, (trial.last_result or {}).get("node_ip"))
    Placed.unfit.update(node.id for node in lost)
    if (lost or says_lost_node(str(error))) and Placed.losses[trial.trial_id] < MOST:
        Placed.losses[trial.trial_id] += 1
        trial.run_metadata.num_failures -= 1
        trial.update_resources(placement(Placed.wanted, Placed.workers))


def _error_of(trial: Trial) -> BaseException | None:
    file = trial.pickled_error_file
    if not file or not Path(file).exists():
        return None
    error: BaseException = cloudpickle.loads(Path(file).read_bytes())
    cause: BaseException | None = getattr(error, "cause", None)
    return cause or error


def resources(wanted: Amounts, workers: int = 1) -> Callable[[Document], tune.PlacementGroupFactory]:
    """Return what Ray Tune asks for the resources of each new trial."""
    return lambda config: placement(wanted, workers)
