"""Checks ``compare.allow``: a key that fits nothing in which arms can differ would allow nothing, without a word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tskd_tune.errors import did_you_mean
from tskd_tune.plain import Json
from tskd_tune.reports.findings.likeness import BESIDE, TEACHER


def unfit(allowed: Sequence[str], experiments: Iterable[Mapping[str, Json]]) -> list[str]:
    """Return a sentence for each key of ``compare.allow`` that fits nothing in which two arms can differ.

    Args:
        allowed: the keys, such as ``training.epochs``.
        experiments: the whole experiments of the arms, as plain data.
    """
    wanted = dict.fromkeys(allowed)
    if not wanted:
        return []
    known = {*TEACHER, *(key for experiment in experiments for name in BESIDE for key in _keys(experiment, name))}
    return [f"compare.allow: '{key}' {_misfit(key, known)}" for key in wanted if key not in known]


def _misfit(key: str, known: set[str]) -> str:
    if key.startswith("teacher."):
        return f"would allow nothing: how a teacher was made is compared by its weights{did_you_mean(key, TEACHER)}"
    above = key.rpartition(".")[0]
    while above and above not in known:
        above = above.rpartition(".")[0]
    below = [name for name in known if name.startswith(f"{above}.") and "." not in name[len(above) + 1 :]]
    return f"is a key of no arm, so it would allow nothing{did_you_mean(key, below or [above])}"


def _keys(experiment: Mapping[str, Json], name: str) -> Iterator[str]:
    """Yield the dotted keys of a part of an experiment, those of groups too."""
    yield name
    part = experiment.get(name)
    for key, inner in part.items() if isinstance(part, Mapping) else ():
        yield from (f"{name}.{below}" for below in _keys({key: inner}, key))
