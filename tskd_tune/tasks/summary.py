"""What a task found in its data: classes, sets, sizes, and files that were left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tskd_tune.tasks.words import counted, first_few, shown

FIRST_CLASSES = 5
MOST_EXAMPLES = 3
MOST_REASONS = 8
PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class LeftOut:
    """Files or folders that are not used.

    Attributes:
        why: the reason, such as ``hidden``.
        count: how many there are; what lies in a folder that is left out is not counted.
        examples: the first few.
    """

    why: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Sizes:
    """Width and height of the images in their files, in pixels, ordered by area; of `looked_at` files."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    looked_at: int

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]]) -> Sizes | None:
        """Return the smallest, median and largest of some sizes; None of none."""
        if not sizes:
            return None
        ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        return cls(ordered[0], ordered[len(ordered) // 2], ordered[-1], len(ordered))

    def __str__(self) -> str:
        """Return the sizes in words, ``20 x 20`` or ``20 x 20 to 640 x 480, median 320 x 240``."""
        small, middle, large = (f"{width} x {height}" for width, height in (self.smallest, self.median, self.largest))
        return small if small == large else f"{small} to {large}, median {middle}"


@dataclass(frozen=True)
class BoxCounts:
    """The boxes of the training, the validation and the test set.

    Attributes:
        objects: boxes of one object each that can be learned.
        crowds: boxes of many objects, which no training learns and the evaluator ignores.
        without: images without any box.
    """

    objects: tuple[int, ...]
    crowds: tuple[int, ...]
    without: tuple[int, ...]

    def plain(self) -> dict[str, Any]:
        """Return the numbers as plain data, by part."""
        columns = zip(PARTS, self.objects, self.crowds, self.without, strict=True)
        return {
            part: {"objects": objects, "crowds": crowds, "images_without": without}
            for part, objects, crowds, without in columns
        }

    def lines(self) -> list[str]:
        """Return the numbers as lines of text."""
        rows = {
            "boxes": self.objects,
            "crowds, which are not learned and which AP ignores": self.crowds,
            "images without a box": self.without,
        }
        return [
            f"  {what}: {', '.join(f'{count} {part}' for part, count in zip(PARTS, counts, strict=True))}"
            for what, counts in rows.items()
            if any(counts)
        ]


@dataclass(frozen=True)
class DataSummary:
    """What a task found in its data.

    Attributes:
        source: the data set, or the folder.
        classes: the name of each class; empty where samples belong to no classes.
        counts: the images of each class in all three parts, or its boxes where images have boxes; None where that is
            not known before the data is read.
        samples: training, validation and test images.
        origins: where each of the three parts comes from.
        size: width and height that every image is brought to, in pixels; None where they vary or are no images.
        sizes: the sizes of the files' images; None where they are not in files.
        left_out: what is not used, by reason.
        boxes: the boxes of each part; None where images have none.
    """

    source: str
    classes: tuple[str, ...]
    counts: tuple[int, ...] | None
    samples: tuple[int, int, int]
    origins: tuple[str, str, str]
    size: tuple[int, int] | None
    sizes: Sizes | None = None
    left_out: tuple[LeftOut, ...] = ()
    boxes: BoxCounts | None = None

    def plain(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        counts = self.counts or [None] * len(self.classes)
        what = "images" if self.boxes is None else "boxes"
        return {
            "source": shown(self.source),
            "classes": [{"name": shown(n), what: c} for n, c in zip(self.classes, counts, strict=True)],
            "parts": {
                part: {"images": images, "from": shown(origin)}
                for part, images, origin in zip(PARTS, self.samples, self.origins, strict=True)
            },
            "size": None if self.size is None else list(self.size),
            "original_sizes": None if self.sizes is None else _plain_sizes(self.sizes),
            "left_out": [
                {"why": left.why, "count": left.count, "examples": [*map(shown, left.examples)]}
                for left in self.left_out
            ],
            **({} if self.boxes is None else {"boxes": self.boxes.plain()}),
        }

    def lines(self) -> list[str]:
        """Return the summary as lines of text, the first of them a heading."""
        lines = [f"data: {shown(self.source)}"]
        lines += [f"  {counted(len(self.classes), 'class')}: {self._few_classes()}"] if self.classes else []
        parts = [
            f"{images} {part}{f' ({shown(origin)})' if images and origin else ''}"
            for part, images, origin in zip(PARTS, self.samples, self.origins, strict=True)
        ]
        lines.append(f"  {'images' if self._words_on_sizes() else 'samples'}: {', '.join(parts)}")
        lines += [f"  sizes: {self._words_on_sizes()}"] if self._words_on_sizes() else []
        lines += [] if self.boxes is None else self.boxes.lines()
        others = len(self.left_out) - MOST_REASONS
        lines += [f"  left out, {left.why}: {left.count} ({_examples(left)})" for left in self.left_out[:MOST_REASONS]]
        return [*lines, f"  left out, for other reasons: --json shows {others} more"] if others > 0 else lines

    def _few_classes(self) -> str:
        counts = self.counts
        if counts is None:
            return first_few(self.classes, FIRST_CLASSES)
        named = [f"{shown(name)} ({count})" for name, count in zip(self.classes, counts, strict=True)]
        if len(named) <= FIRST_CLASSES:
            return ", ".join(named)
        return f"{', '.join(named[:FIRST_CLASSES])} and {len(named) - FIRST_CLASSES} more, {_each(counts)}"

    def _words_on_sizes(self) -> str:
        used = "" if self.size is None else f"{self.size[0]} x {self.size[1]}"
        if self.sizes is None or str(self.sizes) == used:
            return used
        total = sum(self.samples)
        sampled = f" ({self.sizes.looked_at} of {total} files looked at)" if self.sizes.looked_at < total else ""
        return f"{self.sizes}{sampled}" + (f"; used as {used}" if used else "")


@dataclass
class Leftovers:
    """Collects what is left out while folders are listed."""

    found: dict[str, set[str]] = field(default_factory=dict)

    def add(self, why: str, name: str) -> None:
        """Note a file or folder, and why."""
        self.found.setdefault(why, set()).add(name)

    def all(self) -> tuple[LeftOut, ...]:
        """Return what was found, by reason, in the order of names."""
        return tuple(left_out(why, names) for why, names in sorted(self.found.items()))


def left_out(why: str, names: Iterable[str]) -> LeftOut:
    """Return the record of files that were left out for one reason, with the first names as examples."""
    ordered = sorted(names)
    return LeftOut(why, len(ordered), tuple(ordered[:MOST_EXAMPLES]))


def _examples(left: LeftOut) -> str:
    more = [f"{left.count - len(left.examples)} more"] if left.count > len(left.examples) else []
    return ", ".join([*map(shown, left.examples), *more])


def _each(counts: Sequence[int]) -> str:
    fewest, most = min(counts), max(counts)
    return f"{fewest} each" if fewest == most else f"{fewest} to {most} each"


def _plain_sizes(sizes: Sizes) -> dict[str, Any]:
    return {
        "smallest": list(sizes.smallest),
        "median": list(sizes.median),
        "largest": list(sizes.largest),
        "looked_at": sizes.looked_at,
    }
