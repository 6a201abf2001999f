"""Looks, on a machine of the cluster, whether a sweep can train there: its storage, versions, code, data and disk."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from uuid import uuid4

from tskd_tune.errors import InputError, TskdTuneError, reason
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of
from tskd_tune.files import write_whole
from tskd_tune.outside import code_digest, short_name
from tskd_tune.paths import Address
from tskd_tune.plain import Document
from tskd_tune.storage.failures import StorageError
from tskd_tune.storage.objects import Objects
from tskd_tune.training.teachers import TeacherCache
from tskd_tune.version import __version__

PACKAGES: Final = ("torch", "ray")
LEAST_FREE: Final = 512 * 2**20
MIB: Final = 2**20


@dataclass(frozen=True)
class Needs:
    """What a machine must have, as the driver's machine has it.

    Attributes:
        storage: the folder of the run, or the folder above before the run begins; None in an object storage.
        address: the same of a run in an object storage; empty for one in a folder.
        marker: the name of a file or an object there, which the driver wrote; empty: none is looked for.
        versions: package -> version, and ``python``.
        code: the digest of this package's files.
        experiments: experiments that cover every task and every component of the sweep, as plain data.
        data: the fingerprint of the data of each experiment.
        components: the name of each component in a file of the user -> the digest of the file.
    """

    storage: str | None
    marker: str
    versions: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    experiments: Sequence[Document] = ()
    data: Sequence[str] = ()
    components: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


@dataclass(frozen=True)
class Looked:
    """The machines that were looked at, and what each later machine must have.

    Attributes:
        needs: what a machine must have.
        nodes: Ray's ids of the machines that have it.
    """

    needs: Needs
    nodes: frozenset[str]


def versions() -> dict[str, str]:
    """Return the versions that all machines must have in common; the build of torch (CPU, CUDA) may differ."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "tskd-tune": __version__}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package).partition("+")[0]
    return found


@cache
def package_digest() -> str:
    """Return a digest of all files of this package, which differs between two states of a checkout."""
    folder, found = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(f"{path.relative_to(folder)}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def problems(needs: Needs) -> list[str]:
    """Return what this machine lacks, one sentence for each, with what to do; an empty list if it can train."""
    found = list(_of_versions(needs))
    if found:  # other code may fail at anything else
        return found
    of_components = list(_of_components(needs))
    # An experiment with a component that is missing cannot be read, so its data are not looked at.
    of_data = [] if of_components else _of_data(needs)
    return [*_of_storage(needs), *of_components, *of_data, *_of_disk(needs)]


def _of_versions(needs: Needs) -> Iterator[str]:
    here = versions()
    other = [
        f"{name} {here.get(name, 'missing')} and not {given}"
        for name, given in needs.versions.items()
        if here.get(name) != given
    ]
    if other:
        yield f"has {', '.join(other)}; install the same versions as on the machine that starts the sweep"
    elif needs.code and needs.code != package_digest():
        yield (
            f"has other code of tskd-tune {__version__} in {Path(__file__).parents[1]}; copy the code of the machine"
            " that starts the sweep"
        )


def _of_storage(needs: Needs) -> Iterator[str]:
    if needs.address:
        yield from _of_address(Address(needs.address), needs.marker)
    if needs.storage is None:
        return
    folder = Path(needs.storage)
    if not (folder / needs.marker).is_file():
        yield (
            f"does not share the storage {folder}: a file that the sweep wrote there is not seen; mount one shared"
            " folder at the same path on all nodes, and give the folder with --storage"
        )
        return
    trial = folder / f".{needs.marker}-{socket.gethostname()}-{os.getpid()}"
    try:
        write_whole(trial, b"written")
    except TskdTuneError as error:
        yield f"cannot write to the storage {folder} ({_cause(error)}); let this user write there"
    finally:
        with suppress(OSError):
            trial.unlink()


def _of_address(address: Address, marker: str) -> Iterator[str]:
    try:
        objects = Objects(address)
        objects.probe()
        is_shared = not marker or objects.read(marker) is not None
    except StorageError as error:
        yield f"cannot use the storage {address} ({error.problem}); {error.remedy} there"
    except InputError as error:  # no package for storages of this kind
        yield f"cannot use the storage: {error}"
    else:
        if not is_shared:
            yield (
                f"does not share the storage {address}: what the sweep wrote there is not seen; give the"
                " address of a storage that all nodes reach with --storage"
            )


def _of_components(needs: Needs) -> Iterator[str]:
    for name, digest in needs.components.items():
        short = short_name(name)
        try:
            found = code_digest(name)
        except Exception as error:  # an import runs any code
            yield f"cannot import '{short}' ({_told(error)}); copy its file to {name.rpartition(':')[0]}.py there"
        else:
            if found != digest:
                yield (
                    f"has other code of '{short}' in {name.rpartition(':')[0]}.py; copy this file, and the files beside"
                    " it that it imports, there"
                )


def _of_data(needs: Needs) -> Iterator[str]:
    told = set[str]()
    for document, fingerprint in zip(needs.experiments, needs.data, strict=True):
        try:
            task = task_of(Experiment.read(document))
            task.facts()
            found = "" if task.fingerprint() == fingerprint else "its data differ from those of the starting machine"
        except Exception as error:  # a component of the user may raise anything
            found = _told(error)
        if found and found not in told:
            told.add(found)
            yield f"cannot read the data of the sweep ({found}); put the same data at the same path there"


def _of_disk(needs: Needs) -> Iterator[str]:
    places = [Path(tempfile.gettempdir())]
    try:
        trial = TeacherCache().folder / f"probe-{uuid4().hex}"
        write_whole(trial, b"written")
        trial.unlink()
        places.append(trial.parent)
    except TskdTuneError as error:
        yield f"cannot keep teachers ({_cause(error)}); let this user write there, or set TSKD_TUNE_CACHE"
    if needs.storage is not None:
        places.append(Path(needs.storage))
    for place in places:
        with suppress(OSError):
            free = shutil.disk_usage(place).free
            if free < LEAST_FREE:
                least = f"{LEAST_FREE / MIB:.0f} are needed"
                yield f"has {free / MIB:.0f} MiB free at {place}, but {least}; free space there"


def _told(error: Exception) -> str:
    """Return an error in one line: the sentence of one of ours, or the type and place of another."""
    return str(error).partition("\n")[0] if isinstance(error, TskdTuneError) else reason(error)


def _cause(error: TskdTuneError) -> str:
    return str(error).partition(";")[0]
