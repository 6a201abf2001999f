"""Imports a user's own components by name: ``module:Class`` of an installed package, or of a file beside the YAML.

A module that is not installed is searched in the folder of the YAML file. The component then has the absolute name
``/folder/module:Class``, because workers, a resume and other commands run in other folders. The folder is added at the
end of Python's search path, so its files hide no installed package. Different folders may have modules of the same
name: Python's table of modules contains the modules of only one such folder at a time.

In a job that `tskd-tune submit` sent (`JOB_VARIABLE` is set), the modules lie in a folder of PYTHONPATH that each job
has anew, so they count as installed: another job that has the same modules can go on with the run.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.paths import Written, whole

JOB_VARIABLE = "TSKD_TUNE_JOB"


# The names of code that were met, while only data may be read; None: code may be imported.
_MET: ContextVar[list[str] | None] = ContextVar("met", default=None)


class CodeError(InputError):
    """A file names code, and only data may be read."""


@contextmanager
def only_data() -> Iterator[None]:
    """Import no code that a file names until the end of the block: the file may be a stranger's.

    Raises:
        CodeError: the block failed because a file names code.
    """
    met: list[str] = []
    before = _MET.set(met)
    try:
        yield
    except InputError as error:
        if met:
            raise CodeError(f"names code ('{met[0]}'), which a command that only reads does not import") from error
        raise
    finally:
        _MET.reset(before)


def refuse_code(name: str) -> None:
    """Refuse a name of code where only data may be read.

    Raises:
        InputError: with the name.
    """
    met = _MET.get()
    if met is not None:
        met.append(name)
        raise InputError(f"'{name}' is code, and only data is read here")


class _NotThereError(ImportError):
    """A module was not found; the message says where the module was searched."""


def whole_name(name: str) -> str:
    """Return a component's absolute name, which is valid in any folder; a registered name is returned unchanged.

    Args:
        name: ``module:Class`` or ``folder/module:Class``. A text from a file is relative to that file's folder, all
            other texts to the current folder.

    Raises:
        ValueError: the folder is not a path.
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
    """Import the object of an absolute name.

    Raises:
        InputError: there is no such module, or the module has no such name.
        Exception: any error that the module raises during the import.
    """
    refuse_code(name)
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
    """Return a digest of the code of a component in a user's own file; None for any other component."""
    place = name.rpartition(":")[0]
    if os.sep not in place:
        return None
    refuse_code(name)
    file = getattr(_module(place), "__file__", None)
    return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _module(place: str) -> ModuleType:
    folder, module = os.path.split(place)
    return _FOLDERS.load(folder, module) if folder else importlib.import_module(module)


def _is_installed(module: str, folder: str) -> bool:
    """Tell whether Python finds a module outside ``folder``; the folder may already be on Python's search path."""
    top = module.partition(".")[0]
    loaded = sys.modules.get(top)
    if loaded is not None and not _lies_in(loaded, folder) and not _FOLDERS.holds(loaded):
        return True
    apart = {os.path.realpath(folder), *map(os.path.realpath, _FOLDERS.entered)}
    if os.environ.get(JOB_VARIABLE):
        apart -= {os.path.realpath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place}
    path = [place for place in sys.path if os.path.realpath(place) not in apart]
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    return any(finder.find_spec(top, path if finder is PathFinder else None) for finder in finders)


def _lies_in(module: ModuleType, folder: str) -> bool:
    """Tell whether a top-level module is a file or a package directly in a folder."""
    spec = getattr(module, "__spec__", None)
    if spec is None:
        return False
    places = list(spec.submodule_search_locations or ([spec.origin] if spec.origin else []))
    return os.path.realpath(folder) in [os.path.realpath(Path(place).parent) for place in places]


class _Folders:
    """The folder whose modules are in Python's table of modules, and the saved modules of earlier folders."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._folder: str | None = None
        self._appended = False
        self._before: frozenset[str] = frozenset()
        self._kept: dict[str, dict[str, ModuleType]] = {}

    @property
    def entered(self) -> list[str]:
        """The user's folder that is on Python's search path now, if any."""
        return [] if self._folder is None else [self._folder]

    def holds(self, module: ModuleType) -> bool:
        """Tell whether a loaded top-level module belongs to the current folder."""
        return self._folder is not None and module.__name__ not in self._before and _lies_in(module, self._folder)

    def load(self, folder: str, module: str) -> ModuleType:
        """Import a module of a folder.

        Raises:
            ImportError: the folder has no such module, or an installed module hides it.
        """
        top = module.partition(".")[0]
        with self._lock:
            self._enter(folder)
            if module not in sys.modules:  # the file may be newer than Python's cache of the folder
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
        behind: list[str] = []
        if folder != self._folder:
            behind = self._leave()
            self._before = frozenset(sys.modules)
            sys.modules.update(self._kept.pop(folder, {}))
            self._folder = folder
        if folder not in sys.path:
            sys.path.append(folder)
            self._appended = True
        sys.path += behind

    def _leave(self) -> list[str]:
        """Take the folder off Python's search path; return it if it was there before, as that of a user's script is."""
        if self._folder is None:
            return []
        own = {name for name in set(sys.modules) - self._before if _lies_in(sys.modules[_top(name)], self._folder)}
        self._kept[self._folder] = {name: sys.modules.pop(name) for name in own}
        behind = [] if self._appended or self._folder not in sys.path else [self._folder]
        if self._folder in sys.path:
            sys.path.remove(self._folder)
        self._folder, self._appended = None, False
        return behind


def _top(name: str) -> str:
    top = name.partition(".")[0]
    return top if top in sys.modules else name


_FOLDERS = _Folders()
