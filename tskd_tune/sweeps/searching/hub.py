"""Loads samplers and pruners of OptunaHub: from its registry on GitHub, or from a folder with a copy of a registry."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final, cast

from tskd_tune.errors import InputError, did_you_mean, reason
from tskd_tune.outside import refuse_code

KEYS: Final = ("hub", "ref", "registry", "name")
"""The keys of a mapping that say which class is loaded; all other keys are options of the class."""

LATEST: Final = "main"
# The registry's folder of packages, in a copy of the whole registry.
PACKAGES: Final = "package"
_PACKAGE = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)+")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def load(given: Mapping[str, object], parent: type[object], where: str) -> Callable[..., object]:
    """Return the class that a package of OptunaHub offers.

    Args:
        given: the keys ``hub`` (the package), ``ref`` (the version: a branch, a tag or a commit), ``registry`` (a
            folder) and ``name`` (the class, if the package offers several).
        parent: the base class.
        where: the key of the sweep's file.

    Raises:
        InputError: there is no such package or class, or the package cannot be fetched.
        ImportError: another package is not installed.
        Exception: any error that the package raises during the import.
    """
    package, ref = str(given["hub"]), str(given.get("ref", LATEST))
    if not _PACKAGE.fullmatch(package):
        raise InputError(f"{where}.hub: '{package[:100]}' names no package; write it as samplers/auto_sampler")
    if not _REF.fullmatch(ref):
        raise InputError(f"{where}.ref: '{ref[:100]}' names no version; give a branch, a tag or a commit")
    if "ref" in given and "registry" in given:
        raise InputError(f"{where}.ref: a folder has one version; leave ref or registry out")
    registry = given.get("registry")
    module = _fetched(package, ref, where) if registry is None else _local(package, str(registry), where)
    return _offered(module, given.get("name"), parent, where)


def _local(package: str, registry: str, where: str) -> ModuleType:
    import optunahub

    refuse_code(package)
    root = next((root for root in (Path(registry, PACKAGES), Path(registry)) if (root / package).is_dir()), None)
    if root is None or not (root / package / "__init__.py").is_file():
        raise InputError(
            f"{where}.registry: {registry} has no package '{package}'; a package is a folder with an __init__.py, as in"
            " optunahub-registry"
        )
    return optunahub.load_local_module(package, registry_root=str(root))


def _fetched(package: str, ref: str, where: str) -> ModuleType:
    import optunahub
    from git.exc import GitError
    from github import GithubException
    from requests import RequestException

    refuse_code(package)
    try:
        with _never_asking():
            return optunahub.load_module(package, ref=ref)
    except (GitError, GithubException, RequestException, OSError) as error:
        raise InputError(
            f"{where}.hub: the package '{package}', version '{ref}', cannot be fetched ({reason(error)}); connect to"
            f" the network for the first use, correct the name or the version, or give the folder of a copy of"
            f" optunahub-registry as {where}.registry"
        ) from error


@contextmanager
def _never_asking() -> Iterator[None]:
    """Let git fail where it would ask for a name and a password."""
    before = os.environ.get("GIT_TERMINAL_PROMPT")
    os.environ["GIT_TERMINAL_PROMPT"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["GIT_TERMINAL_PROMPT"]
        else:
            os.environ["GIT_TERMINAL_PROMPT"] = before


def _offered(module: ModuleType, name: object, parent: type[object], where: str) -> Callable[..., object]:
    listed = getattr(module, "__all__", None)
    names = [one for one, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    found = {one: getattr(module, one, None) for one in (names if listed is None else listed)}
    fitting = {one: value for one, value in found.items() if inspect.isclass(value) and issubclass(value, parent)}
    kind = parent.__name__.removeprefix("Base").lower()
    if name is not None and name not in fitting:
        raise InputError(f"{where}.name: the package offers no {kind} '{name}'{did_you_mean(name, fitting)}")
    if name is None and len(fitting) != 1:
        offers = f"several ({', '.join(fitting)}); name one as {where}.name" if fitting else "none"
        raise InputError(f"{where}.hub: a package must offer one {kind}, and this one offers {offers}")
    return cast("Callable[..., object]", fitting[str(name)] if name is not None else next(iter(fitting.values())))
