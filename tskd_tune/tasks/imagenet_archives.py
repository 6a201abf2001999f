"""ImageNet's archives and its file of class names, as torchvision's ``ImageNet`` handles them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from tskd_tune.errors import InputError, RunError
from tskd_tune.tasks.words import shown

ARCHIVES = {
    "train": "ILSVRC2012_img_train.tar",
    "val": "ILSVRC2012_img_val.tar",
    "devkit": "ILSVRC2012_devkit_t12.tar.gz",
}
META = "meta.bin"
"""torchvision's file of the names of the classes, and of the class of every image of ``val``."""


def unpack_archives(folder: Path) -> None:
    """Unpack the archives of what is missing, with torchvision; an interrupted unpacking begins anew.

    Raises:
        InputError: an archive is missing or damaged.
        RunError: the disk is full, or cannot be written.
    """
    from torchvision.datasets import imagenet as official

    if (folder / "train").is_dir() and (folder / "val").is_dir():
        return
    try:
        with FileLock(folder / ".unpacking.lock"):
            _into(folder, "train", official.parse_train_archive)
            if not (folder / "val").is_dir():
                if not (folder / META).is_file():
                    official.parse_devkit_archive(folder)
                _into(folder, "val", official.parse_val_archive)
    except RuntimeError as error:  # torchvision's word for an archive that is missing or has another checksum
        raise InputError(
            f"task.unpack: the archives in {shown(str(folder))} cannot be unpacked ({error}); get"
            f" {', '.join(ARCHIVES.values())} from https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
        ) from error
    except OSError as error:
        raise RunError(
            f"task.unpack: the archives in {shown(str(folder))} cannot be unpacked ({error}); free some space (train/"
            " and val/ take 150 GB), or unpack them elsewhere and give task.root"
        ) from error


def titles_of(folder: Path) -> dict[str, str]:
    """Return the first word for each class of torchvision's ``meta.bin``; empty if there is no such file.

    Raises:
        InputError: the file is damaged.
    """
    from torchvision.datasets.imagenet import load_meta_file

    if not (folder / META).is_file():
        return {}
    try:
        names: dict[str, str] = {wnid: words[0] for wnid, words in load_meta_file(folder)[0].items()}
    except Exception as error:  # whatever torch.load says to damaged bytes
        raise InputError(
            f"task.root: {shown(str(folder / META))} is not what torchvision writes ({error}); remove it"
        ) from error
    return names


def _into(folder: Path, part: str, parse: Callable[..., None]) -> None:
    """Unpack the archive of a part beside its place, and move it there when it is whole."""
    if (folder / part).is_dir():
        return
    beside = folder / f"{part}.unpacking"
    shutil.rmtree(beside, ignore_errors=True)
    parse(folder, folder=beside.name)
    beside.rename(folder / part)
