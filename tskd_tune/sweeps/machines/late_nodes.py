"""Machines that join the cluster while a sweep runs, or leave it, cost a trial none of its ``max_failures``.

A machine that joins looks at itself when its first trial begins. If the machine lacks something, the trial trains
nothing there. The driver says the sentence once, the trial goes on elsewhere, and no later trial is placed on that
machine. A trial whose machine is lost goes on elsewhere too.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

import ray
from ray import tune

from tskd_tune.errors import RunError
from tskd_tune.plain import Document
from tskd_tune.records.entries.events import Event, Listener
from tskd_tune.sweeps.machines.lost_nodes import MOST, Machines, is_loss, is_silent, says_lost_node
from tskd_tune.sweeps.machines.node_probe import Looked, problems
from tskd_tune.sweeps.machines.nodes import Amounts, alive, fits, planned
from tskd_tune.sweeps.machines.resources import reserved
from tskd_tune.sweeps.messages.trial_errors import BrokenTrialError, UnfitNodeError

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

NODE_LABEL: Final = "ray.io/node-id"
"""The label that Ray gives each machine."""


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

    Ray Tune pickles what asks, so it does not hold this state.
    """

    unfit: ClassVar[set[str]] = set()
    machines: ClassVar[Machines] = Machines()
    losses: ClassVar[Counter[str]] = Counter()
    wanted: ClassVar[Amounts] = {}
    workers: ClassVar[int] = 1
    listener: ClassVar[Listener | None] = None

    @classmethod
    def begin(cls, wanted: Amounts, listener: Listener, workers: int = 1) -> None:
        """Begin a sweep whose workers take ``wanted``; ``listener`` is told of machines that cannot train."""
        cls.unfit, cls.machines, cls.losses = set(), Machines(), Counter()
        cls.wanted, cls.listener, cls.workers = wanted, listener, workers
        cls.machines.look(alive())


def placement(wanted: Amounts, workers: int = 1) -> tune.PlacementGroupFactory:
    """Return the request for what the workers of a trial take, on none of the machines that are unfit or lost."""
    bundles = reserved(wanted, workers)
    if not Placed.unfit:
        return tune.PlacementGroupFactory(bundles)
    others = f"!in({','.join(sorted(Placed.unfit))})"
    return tune.PlacementGroupFactory(bundles, bundle_label_selector=[{NODE_LABEL: others}] * workers)


def none_excused(trial: Trial, error: BaseException) -> None:
    """Excuse no failure: a Ray of the sweep's own has one machine, and ends with it."""


def excused(trial: Trial, error: BaseException) -> tune.PlacementGroupFactory | None:
    """Return where a trial begins again that failed only because of its machine; None: the failure is its own.

    Raises:
        RunError: no other machine can train the sweep.
    """
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, UnfitNodeError):
        _leave_unfit(cause)
    elif not (is_loss(cause) and _leave_lost(trial, cause)):
        return None
    return placement(Placed.wanted, Placed.workers)


def _leave_unfit(error: UnfitNodeError) -> None:
    """Place nothing on a machine again that lacks something, and say so once."""
    if error.node not in Placed.unfit:
        Placed.unfit.add(error.node)
        assert Placed.listener is not None
        Placed.listener(Event("machines", "", reason=f"{error.sentence}\nno trial is placed on this node again"))
    others = [node.amounts for node in alive() if node.id not in Placed.unfit]
    if not fits(Placed.wanted, [*others, *(kind.amounts for kind in planned())]):
        raise RunError(f"no other node can train this sweep: {error.sentence}; correct the node, then resume the run")


def _leave_lost(trial: Trial, error: BaseException) -> bool:
    """Place nothing on a machine again that was lost with the trial; return whether one was lost."""
    address = None if isinstance(error, BrokenTrialError) else (trial.last_result or {}).get("node_ip")
    lost = Placed.machines.lost(alive(), address)
    Placed.unfit.update(node.id for node in lost)
    gone = bool(lost) or says_lost_node(str(error)) or _is_silent_under(error)
    if not gone or Placed.losses[trial.trial_id] >= MOST:
        return False
    Placed.losses[trial.trial_id] += 1
    return True


def _is_silent_under(error: BaseException) -> bool:
    """Tell whether a machine with a lost worker of a trial does not answer the driver either; it may come back."""
    silent = error.silent if isinstance(error, BrokenTrialError) else ()
    return any(is_silent(node) for node in alive() if node.address in silent)


def resources(wanted: Amounts, workers: int = 1) -> Callable[[Document], tune.PlacementGroupFactory]:
    """Return what Ray Tune asks for the resources of each new trial."""
    return lambda config: placement(wanted, workers)
