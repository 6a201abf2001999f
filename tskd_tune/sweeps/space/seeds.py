"""Seeds as a user writes them: a list of numbers, or numbers and ranges such as ``1-3,7``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, NonNegativeInt, StringConstraints

from tskd_tune.errors import InputError, shown

MOST_SEEDS = 10_000
LARGEST_SEED = 2**63 - 1


def seeds_in(text: str, where: str = "--seeds") -> list[int]:
    """Read numbers and ranges, both ends included: ``6-10`` or ``1,3,6-10``.

    Args:
        text: the text to read.
        where: the option or the key that messages name.

    Raises:
        InputError: the text has another form, a seed is too large, or there are too many seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        low, dash, high = (number.strip() for number in part.strip().partition("-"))
        numbers = [low, high] if dash else [low, low]
        if not all(number.isascii() and number.isdecimal() for number in numbers):
            raise InputError(f"{where}: must be numbers and ranges, such as 6-10 or 1,3,6-10, got {shown(text)}")
        if any(len(number) > 19 or int(number) > LARGEST_SEED for number in numbers):
            raise InputError(f"{where}: a seed is at most {LARGEST_SEED}, got {shown(part)}; give smaller seeds")
        first, last = map(int, numbers)
        if first > last:
            raise InputError(f"{where}: the range {part.strip()} descends; write {last}-{first}")
        if len(seeds) + last - first >= MOST_SEEDS:
            raise InputError(f"{where}: {shown(text)} has more than {MOST_SEEDS} seeds; give fewer")
        seeds += range(first, last + 1)
    return seeds


def _of_key(text: str) -> list[int]:
    try:
        return seeds_in(text, "seeds")
    except InputError as error:  # pydantic's error names the key
        raise ValueError(str(error).removeprefix("seeds: ")) from error


def _read(value: object) -> object:
    if isinstance(value, str):
        return _of_key(value)
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(
            f"must be a list, such as [{value}] for one seed or 1-{max(value, 2)} for a range, got {value}"
        )
    if isinstance(value, list) and any(isinstance(item, str) for item in value):
        return [seed for item in value for seed in (_of_key(item) if isinstance(item, str) else [item])]
    return value


_Range = Annotated[str, StringConstraints(pattern=r"^ *[0-9]+ *(- *[0-9]+ *)?(, *[0-9]+ *(- *[0-9]+ *)?)*$")]
Seeds = Annotated[
    list[Annotated[NonNegativeInt, Field(le=LARGEST_SEED)]],
    BeforeValidator(_read, json_schema_input_type=list[NonNegativeInt | _Range] | _Range),
]
"""A list of seeds, which may also be written as text: ``1-5``, or ``1-3,7``."""
