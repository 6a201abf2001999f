"""Finds the files of a user's own code that a module reads: its own file, and those of its folder that it imports.

The imports are read off the text of the files, without importing them. A module that a file imports in another way,
such as by `importlib`, is not found.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path


def digest_of(file: Path, folder: Path, module: str) -> str:
    """Return a digest of the code of a module: of its own file alone, if it imports nothing of its folder.

    Args:
        file: the file of the module.
        folder: the folder in which Python finds the module.
        module: its name, such as ``package.module``.

    Raises:
        OSError: a file cannot be read.
    """
    own = file.read_bytes()
    beside = [found for found in sorted(_files(file, folder, module)) if found != file]
    parts = [(found.relative_to(folder).as_posix(), found.read_bytes()) for found in beside]
    told = [f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in parts if content.strip()]
    return hashlib.sha256(own + "".join(told).encode()).hexdigest()


def _files(file: Path, folder: Path, module: str) -> set[Path]:
    """Return the file of a module, and all files of the folder that it imports, and that these import."""
    found: dict[Path, str] = {}
    waiting = [(file, module), *_located(folder, module)]
    while waiting:
        path, name = waiting.pop()
        if path in found:
            continue
        found[path] = name
        for imported in _imports(path, name):
            waiting += _located(folder, imported)
    return set(found)


def _located(folder: Path, module: str) -> Iterator[tuple[Path, str]]:
    """Yield the files of a module and of the packages that hold it, with their names."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        place, name = folder.joinpath(*parts[:length]), ".".join(parts[:length])
        for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if path.is_file():
                yield path, name
                break


def _imports(path: Path, module: str) -> Iterator[str]:
    """Yield the absolute names of what a file may import; a name may also be that of a class or a function."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # an extension module, or a file whose import fails
        return
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:  # a relative import outside a package
                continue
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
