"""Seeds and arms for a sweep that was run before: what is missing is trained in the same folder, rows stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tskd_tune.errors import InputError
from tskd_tune.sweep.schema import Sweep


def extended(sweep: Sweep, seeds: Sequence[int], controls: Any = None) -> Sweep:
    """Return a sweep with more seeds, and perhaps control arms, after its own.

    Args:
        sweep: what was run, as its folder has it.
        seeds: further seeds, none of them the sweep's.
        controls: as the key of a sweep: true, or names; None for none.

    Raises:
        InputError: the sweep cannot be extended, or so that nothing new would be trained.
    """
    refuse(sweep)
    known = sweep.all_seeds()
    again = [seed for seed in seeds if seed in known]
    if again:
        raise InputError(
            f"--seeds: {', '.join(map(str, again))} {'is' if len(again) == 1 else 'are'} in the sweep already"
            f" (it has {', '.join(map(str, known))}); give others"
        )
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds: must be different numbers, got {', '.join(map(str, seeds))}")
    plain = sweep.plain()
    plain["experiment"] = {key: value for key, value in plain["experiment"].items() if key != "seed"}
    found = Sweep.read({**plain, "seeds": [*known, *seeds], "controls": controls}).resolved()
    if not seeds and found.arms == sweep.arms:
        raise InputError("extend: nothing new was asked for; give --seeds, or --controls that the sweep does not have")
    return found


def refuse(sweep: Sweep) -> None:
    """Refuse to extend what would not stay what it is.

    Raises:
        InputError: the sweep searches, judges its trials while they train, or declared its looks.
    """
    if sweep.search.name != "grid":
        raise InputError(
            f"the search '{sweep.search.name}' chose its points by means over its own seeds, so that others would not"
            " be its; train its winners on fresh seeds with `tskd-tune confirm`"
        )
    if sweep.is_judged:
        raise InputError(
            f"the scheduler '{sweep.scheduler.name}' stopped trials by means over the sweep's own seeds, so that others"
            " would not be its; start a new sweep with these seeds"
        )
    if sweep.compare.looks:
        raise InputError(
            f"the sweep declared looks at {', '.join(map(str, sweep.compare.looks))} seeds before it ran, and more"
            " seeds would be a look that was not paid for; start a new sweep with other seeds"
        )


def seeds_in(text: str) -> list[int]:
    """Read numbers and ranges, both ends included: ``6-10`` or ``1,3,6-10``.

    Raises:
        InputError: it is something else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        numbers = [low, high] if dash else [low, low]
        if not all(number.strip().isdecimal() for number in numbers) or int(numbers[0]) > int(numbers[1]):
            raise InputError(f"--seeds: must be numbers and ranges, as 6-10 or 1,3,6-10, got {text!r}")
        seeds += range(int(numbers[0]), int(numbers[1]) + 1)
    return seeds
