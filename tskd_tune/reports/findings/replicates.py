"""What keeps runs from being the replicates of one search: some are missing, or were searched in other ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tskd_tune.plain import Json
from tskd_tune.records.runs.run_folder import RunFolder

ASIDE = frozenset({"seeds", "budget", "resources", "callbacks", "wandb", "max_failures", "experiment.seed"})
"""Keys of a sweep that may differ: the seeds, and what changes no value of a trial that has ended."""


def missing(folders: Sequence[RunFolder]) -> list[str]:
    """Say which replicates of a group are not there, of those that were declared and of those before the last one.

    Args:
        folders: the replicates of one group.
    """
    found = [one.state.replicate for one in folders if one.state.replicate is not None]
    if not found:
        return []
    numbers, declared, group = {one.number for one in found}, max(one.declared or 0 for one in found), found[0].group
    gone = [number for number in range(1, max(*numbers, declared) + 1) if number not in numbers]
    if not gone:
        return []
    names = ", ".join(f"{group}-{number}" for number in gone)
    said = f"{group}: {names} {'is' if len(gone) == 1 else 'are'} missing"
    if not declared:
        return [f"{said}."]
    return [
        f"{said}, of {declared} replicates that were declared; the same `tskd-tune sweep` command with --name {group}"
        f" and --replicates {declared} trains what is missing."
    ]


def unlike(folders: Sequence[RunFolder]) -> list[str]:
    """Say which replicates of a group were searched in another way than the first, in more than their seeds.

    Raises:
        InputError: the file of a sweep cannot be read.
    """
    first, *others = [(one.place.name, _told(one)) for one in folders]
    said = []
    for name, told in others:
        keys = [*_differing(first[1], told)]
        if keys:
            said.append(
                f"{name} is no replicate of {first[0]}: their files sweep.yaml differ in {', '.join(keys)}, and not in"
                " their seeds alone; restore the file that was edited, or search again under another name."
            )
    return said


def _told(run: RunFolder) -> Mapping[str, Json]:
    """Return the document of a run; of its seeds, only how many there are."""
    document = run.document()
    search = document.get("search")
    search = {key: value for key, value in search.items() if key != "seed"} if isinstance(search, Mapping) else search
    seeds = document.get("seeds")
    return {**document, "search": search, "number of seeds": len(seeds) if isinstance(seeds, list) else 1}


def _differing(ours: Json, theirs: Json, path: str = "") -> Iterator[str]:
    """Yield the keys that differ. A key that only one side has is one of another version, and is left out."""
    if path in ASIDE or ours == theirs:
        return
    both = [key for key in ours if key in theirs] if isinstance(ours, Mapping) and isinstance(theirs, Mapping) else []
    for key in both:
        yield from _differing(ours[key], theirs[key], f"{path}.{key}" if path else str(key))  # type: ignore[index,call-overload]
    if not both:
        yield path
