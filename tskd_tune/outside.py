"""Imports a user's own components by name: ``module:Class`` of an installed package, or of a file beside the YAML.

A module that is not installed is searched in the folder of the YAML file. The component then has the absolute name
``/folder/module:Class``, because workers, a resume and other commands run in other folders. The folder is added at the
end of Python's search path, so its files hide no installed package. Different folders may have modules of the same
name: Python's table of modules contains the modules of only one such folder at a time.

In a job that `tskd-tune submit` sent (`JOB_VARIABLE` is set), the modules lie in a folder of PYTHONPATH that each job
has anew, so they count as installed: another job that has the same modules can go on with the run.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.paths import Written, whole
from tskd_tune.sources import digest_of

JOB_VARIABLE = "TSKD_TUNE_JOB"
MOST_NAMES = 20


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
        if place == "__main__":
            raise _NotThereError(
                "'__main__' is a script or a notebook, which no worker and no resume can import; write the class into a"
                f" file, such as my_parts.py, and name it my_parts:{attribute}"
            )
        if place.endswith(".py"):
            raise _NotThereError(f"a module is named without its ending; write {Path(place).stem}:{attribute}")
        found = _module(place)
        if not hasattr(found, attribute):
            raise _NotThereError(_lacking(found, place, attribute))
    except _NotThereError as error:
        raise InputError(f"'{short_name(name)}' cannot be imported: {error}") from error
    return getattr(found, attribute)


def code_digest(name: str) -> str | None:
    """Return a digest of the code of a component in a user's own file; None for any other component.

    It is that of the code that this process imported: of the file, and of the files of its folder that it imports.
    """
    place = name.rpartition(":")[0]
    if os.sep not in place:
        return None
    refuse_code(name)
    return _FOLDERS.digest(*os.path.split(place))


def own_code(documents: Iterable[object]) -> dict[str, str]:
    """Return the digest of the code of each component in a user's own file that plain data name, by absolute name."""
    names = dict.fromkeys(name for document in documents for name in own_names(document))
    return {name: digest for name in names if (digest := code_digest(name)) is not None}


def own_names(value: object) -> Iterator[str]:
    """Yield the names of components in files of the user: ``/folder/module:Class``."""
    if isinstance(value, Mapping):
        name = value.get("name")
        if isinstance(name, str) and name.startswith(os.sep) and ":" in name:
            yield name
        for inner in value.values():
            yield from own_names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from own_names(inner)


def renew() -> None:
    """Forget the modules of users' folders whose files were edited since, so that they are imported anew.

    In a notebook the same process trains again and again. It must train what the files say, not what they said.
    """
    _FOLDERS.renew()


def _lacking(module: ModuleType, place: str, attribute: str) -> str:
    """Say that a module lacks an attribute, and what the module has; of many names, only those that are like it."""
    own = [
        other
        for other, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not other.startswith("_")
    ]
    if len(own) > MOST_NAMES:
        own = difflib.get_close_matches(attribute, own)
    where = getattr(module, "__file__", None) or place
    said = f"{where} has no '{attribute}'{did_you_mean(attribute, own) if own else ''}"
    if os.sep in place:
        return said
    return f"{said}; an installed module hides a file of the same name: if you mean a file of your own, rename the file"


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
        self._digests: dict[tuple[str, str], tuple[Path, str]] = {}

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
            self._noted(folder, module, found)
            return found

    def digest(self, folder: str, module: str) -> str | None:
        """Return the digest of the code of a module as it was imported; None for a module without a file.

        Raises:
            ImportError: as `load`.
        """
        with self._lock:
            self.load(folder, module)
            return self._digests[folder, module][1] if (folder, module) in self._digests else None

    def renew(self) -> None:
        """Forget the modules of each folder in which a file was edited since its import."""
        with self._lock:
            edited = {folder for (folder, module), known in self._digests.items() if _edited(folder, module, *known)}
            if edited & set(self.entered):
                sys.path += self._leave()
            for folder in edited:
                self._kept.pop(folder, None)
                for key in [key for key in self._digests if key[0] == folder]:
                    del self._digests[key]

    def _noted(self, folder: str, module: str, found: ModuleType) -> None:
        """Keep the digest of a module when it is imported."""
        file = getattr(found, "__file__", None)
        if file is not None and (folder, module) not in self._digests:
            self._digests[folder, module] = Path(file), digest_of(Path(file), Path(folder), module)

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


def _edited(folder: str, module: str, file: Path, digest: str) -> bool:
    """Tell whether a module's files differ from those that were imported; so does a file that is gone."""
    return not file.is_file() or digest_of(file, Path(folder), module) != digest


_FOLDERS = _Folders()
