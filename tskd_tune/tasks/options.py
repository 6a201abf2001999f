"""Options that several tasks have: each type says what the option means, and its bounds."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.registry import NO_IDENTITY
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

FeedName: TypeAlias = Literal["resident", "streamed"]

FeedKind: TypeAlias = Annotated[
    FeedName,
    NO_IDENTITY,
    Field(
        description="`resident`: all images are decoded once, and kept on the device; `streamed`: worker processes"
        " decode the images of each batch anew, for data that do not fit into memory. Both give the same numbers"
    ),
]

Workers: TypeAlias = Annotated[
    NonNegativeInt | None,
    NO_IDENTITY,
    Field(
        description="number of processes that decode images for a training; 0 decodes in the training's own process;"
        " null: 4, or the number of CPUs where there are fewer; only where `feed` is `streamed`"
    ),
]

DecodingWorkers: TypeAlias = Annotated[
    NonNegativeInt | None,
    NO_IDENTITY,
    Field(
        description="number of processes that decode images for a training; 0 decodes in the training's own process;"
        " null: 4, or the number of CPUs where there are fewer"
    ),
]

Prefetch: TypeAlias = Annotated[
    PositiveInt | None,
    NO_IDENTITY,
    Field(
        description="number of batches that each of these processes prepares in advance; null: 2; only where `workers`"
        " is above 0"
    ),
]

Download: TypeAlias = Annotated[bool, NO_IDENTITY, Field(description="download the files where they are missing")]
