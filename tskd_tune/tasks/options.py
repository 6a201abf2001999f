"""Options that several tasks have: each type says what the option means, and its bounds."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.tasks.splits import Fraction

BatchSize: TypeAlias = Annotated[PositiveInt, Field(description="images in a training batch")]

HeldOut: TypeAlias = Annotated[
    NonNegativeInt,
    Field(
        description="number of training images held out as the validation set, the same number of each class as far as"
        " possible"
    ),
]

SplitSeed: TypeAlias = Annotated[
    NonNegativeInt,
    Field(description="seed that decides which images are held out for validation; it does not change the test set"),
]

UsedFraction: TypeAlias = Annotated[
    Fraction | None,
    Field(
        description="share of each class's remaining training images that is used, the same images for every seed; a"
        " smaller share is a part of a larger one; null: all"
    ),
]

Padding: TypeAlias = Annotated[
    NonNegativeInt,
    Field(
        description="zero pixels added to each side of a training image before a random crop of its size; 0: no random"
        " crop"
    ),
]

Flip: TypeAlias = Annotated[bool, Field(description="mirror a random half of the training images, anew in every epoch")]
