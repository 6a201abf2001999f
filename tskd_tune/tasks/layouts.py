"""The layout of a folder of images: class folders, or one folder per set with class folders inside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tskd_tune.errors import InputError
from tskd_tune.tasks.listing import Lister
from tskd_tune.tasks.words import counted, first_few, shown

NAMES = {
    "training": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the folder of a part may be called, in any case."""

GIVE = "give a folder of class folders of images"


def layout_of(folder: Path, lister: Lister) -> dict[str, Path]:
    """Return the folder of each part; a single folder of class folders is only ``training``.

    Raises:
        InputError: there is no folder, or several readings are possible.
    """
    if folder.is_file():
        raise InputError(f"task.root: {shown(str(folder))} is a file; {GIVE}")
    if not folder.is_dir():
        raise InputError(f"task.root: there is no folder {shown(str(folder))}; {GIVE}")
    names = lister.folders(str(folder))
    parts = _parts(folder, names)
    if not parts:
        _refuse_likely_parts(folder, names, lister)
        return {"training": folder}
    others = [name for name in names if name not in parts.values() and lister.holds_images(str(folder / name))]
    if others and all(_is_class(folder / name, lister) for name in parts.values()):
        return {"training": folder}  # such as bus/, car/ and train/
    if others:
        raise InputError(
            f"task.root: {shown(str(folder))} holds {_folders(parts.values())} for sets, and beside that images in"
            f" {_folders(others)}; move one or the other elsewhere, or rename what is a set to train/, val/ or test/"
        )
    for name in names:
        if name not in parts.values():
            lister.left.add("no images, beside the sets", name)
    return _whole(folder, parts, lister)


def _parts(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the name of each part's folder, where there is one."""
    found: dict[str, str] = {}
    for part, known in NAMES.items():
        called = [name for name in names if name.lower() in known]
        if len(called) > 1:
            raise InputError(
                f"task.root: {shown(str(folder))} holds {_folders(called)}, which all name the {part} set; keep one of"
                " them"
            )
        if called:
            found[part] = called[0]
    return found


def _refuse_likely_parts(folder: Path, names: Sequence[str], lister: Lister) -> None:
    """Refuse folders such as ``train_set/`` and ``Test Images/`` that hold class folders: they would become classes."""
    words = {word for known in NAMES.values() for word in known}
    likely = [name for name in names if words & set(re.findall("[a-z]+", name.lower()))]
    likely = [name for name in likely if not lister.images(str(folder / name)) and lister.folders(str(folder / name))]
    if len(likely) > 1:
        raise InputError(
            f"task.root: {shown(str(folder))} holds {_folders(likely)}, which are named like sets and hold folders of"
            " their own; rename them to train/, val/ and test/, or give the folder of one of them"
        )


def _is_class(folder: Path, lister: Lister) -> bool:
    """Tell whether a folder holds images and no folders: a class that is called like a part."""
    return not lister.folders(str(folder)) and bool(lister.images(str(folder)))


def _whole(folder: Path, parts: Mapping[str, str], lister: Lister) -> dict[str, Path]:
    """Return the folder of each set; the folders must hold class folders, and there must be a training set."""
    paths = {part: folder / name for part, name in parts.items()}
    for path in paths.values():
        if not lister.folders(str(path)):
            images = counted(len(lister.images(str(path))), "image")
            raise InputError(
                f"task.root: {shown(str(path))} holds {images} and no class folders, so that the classes of its images"
                " are unknown; move it elsewhere, or sort its images into class folders"
            )
    if "training" not in paths:
        raise InputError(
            f"task.root: {shown(str(folder))} has {_folders(parts.values())} but no train/; add it, or give a folder of"
            " class folders"
        )
    train, test, validation = paths["training"], paths.get("test"), paths.get("validation")
    if test is None and validation is None:
        raise InputError(
            f"task.root: {shown(str(folder))} has {train.name}/ but neither test/ nor val/; add one, or give"
            f" {shown(str(train))} to split it"
        )
    if test is None:
        assert validation is not None
        return {"training": train, "test": validation}
    return {"training": train, "test": test} | ({} if validation is None else {"validation": validation})


def class_names(folder: Path, layout: Mapping[str, Path], lister: Lister) -> list[str]:
    """Return the class folders, which must be the same in each part; empty ones are left out.

    Raises:
        InputError: a part lacks a class, or there are fewer than two.
    """
    found = {part: _classes(where, lister) for part, where in layout.items()}
    names = found["training"]
    for part, others in found.items():
        different = sorted(set(names) ^ set(others))
        if different:
            first = different[0]
            empty = [str(where / first) for where in layout.values() if (where / first).is_dir()]
            hint = f"; {shown(empty[-1])} is there and empty" if len(empty) > 1 else ""
            raise InputError(
                f"task.root: {shown(str(layout['training']))} and {shown(str(layout[part]))} hold different classes"
                f" ('{shown(first)}' is only in one, {len(different)} in all{hint}); make them the same"
            )
    if len(names) < 2:
        raise InputError(
            f"task.root: {shown(str(folder))} has {counted(len(names), 'class folder')}, at least 2 are needed;"
            f" {_advice(layout, names, lister)}"
        )
    return names


def _classes(folder: Path, lister: Lister) -> list[str]:
    names = []
    for name in lister.folders(str(folder)):
        if lister.holds_files(str(folder / name)):
            names.append(name)
        else:
            lister.left.add("empty class folder", lister.relative(str(folder / name)))
    lister.note_loose(str(folder))
    return names


def _advice(layout: Mapping[str, Path], names: Sequence[str], lister: Lister) -> str:
    """Return what to do if there is no second class; a folder around the data set is recognized."""
    for name in names:
        inner = layout["training"] / name
        within = lister.folders(str(inner))
        if len(within) > 1:
            what = f"{shown(name)}/ holds {_folders(within)}"
            if len(layout) == 1:
                return f"{what}: give {shown(str(inner))}"
            return f"{what}: move them up into {layout['training'].name}/, and in the other sets too"
    loose = len(lister.images(str(layout["training"])))
    return f"{counted(loose, 'image')} in no class folder; {GIVE}" if loose else GIVE


def _folders(names: Iterable[str]) -> str:
    return first_few([f"{name}/" for name in names])
