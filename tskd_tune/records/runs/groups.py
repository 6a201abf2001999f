"""Finds the replicates of a search, which are runs NAME-1, NAME-2 and so on beside one another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tskd_tune.paths import Address, StoragePlace, in_shell
from tskd_tune.records.entries.state import State, state_of
from tskd_tune.records.storing.files import read_text
from tskd_tune.storage.objects import Objects

STATE = "state.json"


def replicates_of(group: StoragePlace) -> list[StoragePlace]:
    """Return the places of the replicates of a group, by number; empty where no run says that it is one.

    Args:
        group: the place that a run with the name of the group would have.

    Raises:
        InputError: the state of a run whose name could be that of a replicate is damaged.
        RunError: the state cannot be read, or the storage refuses or fails.
    """
    name = re.compile(rf"{re.escape(group.name)}-[1-9][0-9]*")
    names = [one for one in _names_beside(group) if name.fullmatch(one)]
    found: dict[int, StoragePlace] = {}
    for place in (group.parent / one for one in names):
        state = _state(place)
        # The copy of a run under another number is no further search.
        if state is not None and state.replicate is not None and state.replicate.run == place.name:
            found[state.replicate.number] = place
    return [found[number] for number in sorted(found)]


def group_sentence(group: StoragePlace, members: Sequence[StoragePlace]) -> str:
    """Say that a name is that of a group of replicates, and what to give instead."""
    count = "1 replicate" if len(members) == 1 else f"{len(members)} replicates"
    return (
        f"there is no run '{group}': it is a group of {count} of a search ({', '.join(one.name for one in members)});"
        f" give one of these runs; `tskd-tune report {in_shell(group)}` shows the group, and the command `tskd-tune"
        " sweep` that began it goes on with it"
    )


def _names_beside(group: StoragePlace) -> list[str]:
    if isinstance(group, Address):
        return Objects(group.parent).folders()
    return sorted(path.parent.name for path in group.parent.glob(f"*/{STATE}"))


def _state(place: StoragePlace) -> State | None:
    if isinstance(place, Path):
        return state_of(place, read_text(place / STATE))
    content = Objects(place).read(STATE)
    return None if content is None else state_of(place, content.decode(errors="replace"))
