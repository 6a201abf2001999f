"""Identical images in two sets of the data: the network would be tested on images of its training set.

Only files are read whose size in bytes occurs in two sets, and these are compared by their bytes. Images that are in
memory are compared by their pixels (`tskd_tune.tasks.image_source.same_pixels`).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from tskd_tune.tasks.decoding import ImageFile
from tskd_tune.tasks.threads import mapped
from tskd_tune.tasks.words import counted, shown

Name = Callable[[ImageFile], str]
BY_BYTES, BY_PIXELS = ", byte for byte, ", ", pixel for pixel, "


def is_leak(sentence: str) -> bool:
    """Tell whether a sentence on the data says that two sets share images."""
    return BY_BYTES in sentence or BY_PIXELS in sentence


def doubles(
    training: Sequence[ImageFile], validation: Sequence[ImageFile], test: Sequence[ImageFile], name: Name
) -> list[str]:
    """Return a sentence for every two parts that share files with the same bytes, with the first pair.

    Only files whose size in bytes occurs in two parts are read.

    Args:
        training: the files of the training part.
        validation: those of the validation part.
        test: those of the test part.
        name: how a file is named in a sentence.
    """
    parts = {"training": training, "validation": validation, "test": test}
    digests = _digests(list(parts.values()))
    sentences = []
    for (first, files), (second, others) in combinations(parts.items(), 2):
        seen = {digests[file.path]: file for file in reversed(files) if file.path in digests}
        pairs = [(seen[digests[f.path]], f) for f in others if digests.get(f.path) in seen]
        if pairs:
            one, other = (shown(name(file)) for file in pairs[0])
            classes = " with another class" if pairs[0][0].label != pairs[0][1].label else ""
            sentences.append(
                f"task.root: the {first} set holds {len(pairs)} of the {counted(len(others), f'{second} image')} too"
                f"{BY_BYTES}such as {other}, which is {one}{classes}; remove them from one set"
            )
    return sentences


def _digests(parts: Sequence[Sequence[ImageFile]]) -> dict[str, bytes]:
    """Return a digest of the content of every file whose size occurs in two parts, by its path."""
    sizes: dict[int, set[int]] = defaultdict(set)
    for number, files in enumerate(parts):
        for file in files:
            sizes[file.bytes].add(number)
    paths = [file.path for files in parts for file in files if len(sizes[file.bytes]) > 1]
    return dict(zip(paths, mapped(_digest, paths), strict=True))


def _digest(path: str) -> bytes:
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
    except OSError:  # gone or locked since it was decoded: no double of any
        return path.encode(errors="surrogateescape")
