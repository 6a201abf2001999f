"""Says what a sweep waits for while nothing can start: every 30 s a sentence, on a terminal and in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

import ray
from ray import tune

from tskd_tune.records.entries.events import Event, Listener
from tskd_tune.sweeps.machines.late_nodes import Placed
from tskd_tune.sweeps.machines.nodes import Amounts, Kind, Node, alive, fits, in_words, planned
from tskd_tune.sweeps.machines.resources import text

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

SECONDS: Final = 30.0
LOOK_SECONDS: Final = 5.0
PENDING, RUNNING, PAUSED = "PENDING", "RUNNING", "PAUSED"


@dataclass
class Patience:
    """Tells a listener every 30 s what is waited for, until something starts.

    Attributes:
        who: what waits: ``trial``, or the name of a teacher.
        wanted: what it takes.
        listener: is told.
        clock: counts seconds.
    """

    who: str
    wanted: Amounts
    listener: Listener
    clock: Callable[[], float] = time.monotonic
    _since: float | None = None
    _told: int = 0

    def wait(self) -> None:
        """Note that nothing has started, and tell the listener if it is time."""
        now = self.clock()
        self._since = now if self._since is None else self._since
        if now - self._since >= SECONDS * (self._told + 1):
            self._told = int((now - self._since) / SECONDS)
            free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
            waited = f"{self.who} has waited for {now - self._since:.0f} s"
            self.listener(Event("machines", "", reason=sentence(waited, self.wanted, alive(), free, planned())))

    def go(self) -> None:
        """Note that something has started."""
        self._since, self._told = None, 0


def sentence(waited: str, wanted: Amounts, nodes: list[Node], free: Amounts, more: list[Kind]) -> str:
    """Say what is waited for, what the cluster has, and whether an autoscaler adds a machine."""
    left = text({name: free.get(name.upper(), 0) for name in wanted})
    kinds = [kind for kind in more if fits(wanted, [kind.amounts])]
    if kinds:
        then = f"the autoscaler may add up to {sum(kind.most for kind in kinds)} machines that fit"
    elif fits(wanted, [node.amounts for node in nodes]):
        then = "its process is starting, or other work uses them; no autoscaler adds a machine"
    else:
        then = "no machine is large enough, and no autoscaler adds one: add a machine, or lower resources"
    return f"{waited} for {text(wanted)}: the cluster has {in_words(nodes)}, with {left} free in all; {then}"


@dataclass
class _Live:
    patience: Patience
    listener: Listener
    nodes: dict[str, Node] | None = None
    looked: float = field(default_factory=time.monotonic)


class Waiting(tune.Callback):
    """Looks, while trials run, whether none can start, and which machines join and leave.

    Ray Tune pickles its callbacks, so this callback holds no state; `told` says whom it tells.
    """

    _live: ClassVar[_Live | None] = None

    @classmethod
    @contextmanager
    def told(cls, wanted: Amounts, listener: Listener) -> Iterator[None]:
        """Tell ``listener`` until the end of the block; a trial takes ``wanted``."""
        cls._live = _Live(Patience("the next trial", wanted, listener), listener)
        try:
            yield
        finally:
            cls._live = None

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        """Look at the states of the trials, which Ray Tune gives several times per second."""
        live, states = self._live, {trial.status for trial in trials}
        if live is None:
            return
        if PENDING in states and not states & {RUNNING, PAUSED}:
            live.patience.wait()
        else:
            live.patience.go()
        if time.monotonic() - live.looked > LOOK_SECONDS:
            live.looked = time.monotonic()
            self._tell_of_changes(live)

    @staticmethod
    def _tell_of_changes(live: _Live) -> None:
        now = {node.id: node for node in alive()}
        Placed.machines.look(now.values())
        before, live.nodes = live.nodes, now
        if before is None or before.keys() == now.keys():
            return
        changes = [f"{node} has joined" for id_, node in now.items() if id_ not in before]
        changes += [f"{node} is gone" for id_, node in before.items() if id_ not in now]
        live.listener(Event("machines", "", reason=f"{', '.join(changes)}: {in_words([*now.values()])}"))
