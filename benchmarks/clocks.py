"""Times contenders in turns: A B A B, so that a disturbance of the machine meets all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.rows import Spent

Phases = Mapping[str, Spent]
"""The time of one step of each kind, such as ``general`` and ``review``."""


class Contender(Protocol):
    """Something that can be timed again and again."""

    def prepare(self) -> None:
        """Do what is needed once: captures, compilation, warm caches."""

    def run(self) -> Phases:
        """Take some steps of each kind, and return the mean time of one."""


@dataclass(frozen=True)
class Timed:
    """The times of a contender.

    Attributes:
        prepare_seconds: seconds before the first timed run.
        runs: the times of each repeat.
    """

    prepare_seconds: float
    runs: Sequence[Phases]

    def median(self, phase: str) -> Spent:
        """Return the median over the repeats."""
        return Spent.median(self.each(phase))

    def each(self, phase: str) -> list[Spent]:
        """Return the time of each repeat."""
        return [run[phase] for run in self.runs]

    def pairs(self, phase: str, other: Timed) -> tuple[tuple[Spent, Spent], ...]:
        """Return our time and the other's of each repeat."""
        return tuple(zip(self.each(phase), other.each(phase), strict=True))


def interleaved(
    contenders: Mapping[str, Contender], repeats: int, refused: MutableMapping[str, str] | None = None
) -> dict[str, Timed]:
    """Prepare all contenders, then let each run once in each repeat.

    Args:
        contenders: what is timed, by name.
        repeats: how often.
        refused: takes the name of each contender that fails, with its error; the others go on. None: the error is
            raised.
    """
    live, prepared = dict(contenders), {}
    runs: dict[str, list[Phases]] = {name: [] for name in contenders}

    def lost(name: str, error: Exception) -> None:
        if refused is None:
            raise error
        refused[name] = f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        del live[name]

    for name, contender in contenders.items():
        try:
            prepared[name] = _prepared(contender)
        except Exception as error:
            lost(name, error)
    for _ in range(repeats):
        for name, contender in list(live.items()):
            try:
                runs[name].append(contender.run())
            except Exception as error:
                lost(name, error)
    return {name: Timed(prepared[name], runs[name]) for name in live}


def _prepared(contender: Contender) -> float:
    started = time.perf_counter()
    contender.prepare()
    return time.perf_counter() - started


def now() -> Spent:
    """Return both clocks: differences of two readings are seconds."""
    return Spent(time.perf_counter(), time.process_time())


def since(start: Spent) -> Spent:
    """Return the seconds since a reading of `now`."""
    return now() + start * -1
