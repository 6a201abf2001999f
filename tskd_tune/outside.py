"""Components of one's own by name: ``module:Class`` of an installed package, or of a file beside the YAML.

What no installed package holds is looked for in the folder of the file that names it, and from then on goes by its
whole name, ``/folder/module:Class``: workers, a resume and other commands stand in other folders. The folder is put at
the end of Python's search path, so that its files hide no installed package. Folders whose modules have the same names
are kept apart: those of one folder at a time are in Python's table of modules.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import threading
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.paths import Written, whole


class _NotThereError(ImportError):
    """What is wrong with a name, in words that say where it was looked for."""


def whole_name(name: str) -> str:
    """Return the name by which a component is found from everywhere; a registered name stays as it is.

    Args:
        name: ``module:Class`` or ``folder/module:Class``; a text of a file remembers the folder of that file, any other
            text is looked for from the current folder.

    Raises:
        ValueError: the folder is no path.
    """
    if ":" not in name:
        return str(name)
    module, _, attribute = name.rpartition(":")
    beside = whole(Written.of(module, getattr(name, "folder", Path())))
    has_folder = os.sep in module or module.startswith("~")
    if not has_folder and (not module or _is_installed(module, str(Path(beside).parent))):
        return str(name)
    return f"{beside}:{attribute}"


def short_name(name: str) -> str:
    """Return a component's name without its folder, for tables and messages."""
    return name.rpartition(os.sep)[2] if ":" in name else name


def load(name: str) -> Any:
    """Import what a whole name means.

    Raises:
        InputError: there is no such module, or it holds no such name.
        Exception: whatever the module raises while it is imported.
    """
    place, _, attribute = name.rpartition(":")
    try:
        if place.endswith(".py"):
            raise _NotThereError(f"a module is named without its ending; write {Path(place).stem}:{attribute}")
        found = _module(place)
        if not hasattr(found, attribute):
            own = [other for other, value in vars(found).items() if getattr(value, "__module__", "") == found.__name__]
            where = getattr(found, "__file__", None) or place
            raise _NotThereError(f"{where} has no '{attribute}'{did_you_mean(attribute, own)}")
    except _NotThereError as error:
        raise InputError(f"'{short_name(name)}' cannot be imported: {error}") from error
    return getattr(found, attribute)


def code_digest(name: str) -> str | None:
    """Return a digest of the file of a component beside a YAML; None of any other component."""
    place = name.rpartition(":")[0]
    if os.sep not in place:
        return None
    file = getattr(_module(place), "__file__", None)
    return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _module(place: str) -> ModuleType:
    folder, module = os.path.split(place)
    return _FOLDERS.load(folder, module) if folder else importlib.import_module(module)


def _is_installed(module: str, folder: str) -> bool:
    """Tell whether Python finds a module otherwise than in a folder, which may be on its search path by chance."""
    top = module.partition(".")[0]
    loaded = sys.modules.get(top)
    if loaded is not None and not _lies_in(loaded, folder) and not _FOLDERS.holds(loaded):
        return True
    apart = {os.path.realpath(folder), *map(os.path.realpath, _FOLDERS.entered)}
    path = [place for place in sys.path if os.path.realpath(place) not in apart]
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    return any(finder.find_spec(top, path if finder is PathFinder else None) for finder in finders)


def _lies_in(module: ModuleType, folder: str) -> bool:
    """Tell whether a top-level module is a file, or a package, right in a folder."""
    spec = getattr(module, "__spec__", None)
    if spec is None:
        return False
    places = list(spec.submodule_search_locations or ([spec.origin] if spec.origin else []))
    return os.path.realpath(folder) in [os.path.realpath(Path(place).parent) for place in places]


class _Folders:
    """The folder whose modules are in Python's table, and those of the folders that were there before."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._folder: str | None = None
        self._before: frozenset[str] = frozenset()
        self._kept: dict[str, dict[str, ModuleType]] = {}

    @property
    def entered(self) -> list[str]:
        """The folder that is on Python's search path now, if there is one."""
        return [] if self._folder is None else [self._folder]

    def holds(self, module: ModuleType) -> bool:
        """Tell whether a loaded top-level module is one of the present folder's."""
        return self._folder is not None and module.__name__ not in self._before and _lies_in(module, self._folder)

    def load(self, folder: str, module: str) -> ModuleType:
        """Import a module of a folder.

        Raises:
            ImportError: the folder has no such module, or an installed one hides it.
        """
        top = module.partition(".")[0]
        with self._lock:
            self._enter(folder)
            if module not in sys.modules:  # its file may be younger than Python's last look into the folder
                importlib.invalidate_caches()
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name != top:
                    raise
                raise _NotThereError(
                    f"{folder} has no {top}.py, and no package {top} is installed; put the file there,"
                    " beside the YAML that names it, or write folder/module:Class"
                ) from error
            if not _lies_in(sys.modules[top], folder):
                other = getattr(sys.modules[top], "__file__", None) or "a part of Python"
                raise _NotThereError(f"{folder}/{top}.py is hidden by {other}; give the file another name")
            return found

    def _enter(self, folder: str) -> None:
        if folder != self._folder:
            self._leave()
            self._before = frozenset(sys.modules)
            sys.modules.update(self._kept.pop(folder, {}))
            self._folder = folder
        if folder not in sys.path:
            sys.path.append(folder)

    def _leave(self) -> None:
        if self._folder is None:
            return
        own = {name for name in set(sys.modules) - self._before if _lies_in(sys.modules[_top(name)], self._folder)}
        self._kept[self._folder] = {name: sys.modules.pop(name) for name in own}
        if self._folder in sys.path:
            sys.path.remove(self._folder)
        self._folder = None


def _top(name: str) -> str:
    top = name.partition(".")[0]
    return top if top in sys.modules else name


_FOLDERS = _Folders()
