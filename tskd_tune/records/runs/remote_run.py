"""A run on an object storage, and the folder of this machine that stands for it.

The storage is the truth. Whoever opens the run brings the records into a folder of this machine, where everything reads
them as in a run's own folder. Checkpoints, students and W&B's files stay on the storage until they are asked for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from tskd_tune import documents
from tskd_tune.errors import InputError, RunError
from tskd_tune.files import write_whole
from tskd_tune.paths import Address, in_shell
from tskd_tune.plain import Json
from tskd_tune.records.entries.sittings import is_held
from tskd_tune.records.entries.state import State, state_of
from tskd_tune.records.runs.groups import group_sentence, replicates_of
from tskd_tune.records.storing import log
from tskd_tune.records.storing.lines import json_line
from tskd_tune.records.storing.mirrored import DOCUMENT, MirroredStore
from tskd_tune.records.storing.uploader import Uploader, leftover
from tskd_tune.storage.copies import Copy, RunAt
from tskd_tune.storage.failures import StorageError
from tskd_tune.storage.lease import Lease, held
from tskd_tune.storage.objects import Objects

STATE: Final = "state.json"
# Files that other libraries write into the run's folder, and a readable copy of the rows.
FOLLOWED: Final = ("study.journal",)
READABLE: Final = ("rows.jsonl",)
TENSORBOARD: Final = "tensorboard"  # the folder of the callback of this name
JOIN_FROM: Final = 20
TRIES: Final = 5
LAST_SECONDS: Final = 60.0
"""Seconds for which a process that ends with an error still tries to upload."""


class RemoteRun:
    """A run on an object storage."""

    def __init__(self, objects: Objects, state: State) -> None:
        """Take a run whose state is known; its folder on this machine is made."""
        self.objects = objects
        self.at = RunAt(objects.address, state.id or state.created)
        self.copy = Copy.of(self.at)
        self.store = MirroredStore(self.copy.run, objects)

    @property
    def address(self) -> Address:
        """The run's address."""
        return self.objects.address

    @classmethod
    def create(cls, address: Address, state: State, document: Mapping[str, Json]) -> RemoteRun:
        """Make a run at a free address.

        Raises:
            InputError: there is a run.
            StorageError: the storage refuses or fails.
        """
        objects = Objects(address)
        line = json_line(state.plain())
        if not objects.create(STATE, line.encode()):
            raise taken(address)
        text = documents.dump(dict(document))
        first = [log.Change(DOCUMENT, "write", text), log.Change(STATE, "write", line)]
        objects.write(f"{log.FOLDER}/{log.part_name(0, 0)}", "".join(change.line() for change in first).encode())
        objects.write(DOCUMENT, text.encode())
        run = cls(objects, state)
        run.pull()
        return run

    @classmethod
    def open(cls, address: Address) -> RemoteRun:
        """Open a run, with its records as they are now.

        Raises:
            InputError: there is no run at the address, or another version wrote it.
            StorageError: the storage refuses or fails.
        """
        objects = Objects(address)
        content = objects.read(STATE)
        if content is None:
            raise InputError(_missing(address))
        run = cls(objects, state_of(address, content.decode(errors="replace")))
        run.pull()
        return run

    def state(self) -> State:
        """Return the run's state as the records have it.

        Raises:
            InputError: it is damaged.
        """
        content = self.store.read(STATE) or self.objects.read(STATE) or b""
        return state_of(self.address, content.decode(errors="replace"))

    def pull(self) -> None:
        """Bring the records into the folder of this machine; one that is trained on this machine is up to date.

        Raises:
            RunError: the storage or the disk fails.
        """
        with self.copy.locked():
            if not is_held(self.copy.run / "run.lock"):
                self._pull()
                self._edited()

    @contextmanager
    def driven(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Hold the lease of the run, and upload what is written, until the end of the block.

        Args:
            tell: hears what is waited for.

        Raises:
            InputError: another driver works on the run, or the document was edited and is no YAML mapping any more.
            RunError: the storage or the disk fails, or another driver took the run over.
        """
        lease = Lease.take(self.objects)
        if not lease.conditional:
            tell(
                f"{self.address}: this storage does not refuse to replace an object, so two processes that begin to"
                " train the run in the same second do not notice each other; begin one"
            )
        uploader = Uploader(self.objects, self.copy, lease, tell, followed=FOLLOWED, at_end=READABLE)
        with self.copy.locked():
            for name in leftover(self.copy):
                self.objects.write(f"{log.FOLDER}/{name}", self.copy.log / "unsent" / name)
                (self.copy.log / "unsent" / name).replace(self.copy.log / name)
            self._pull()
            parts = self._parts()
            if len(parts) >= JOIN_FROM:
                uploader.join(parts)
            edited = self._edited()
            self._applied().unlink(missing_ok=True)  # what is written now is not noted there
        shutil.rmtree(self.copy.root / "tune", ignore_errors=True)
        self.store.uploader = uploader
        uploader.start()
        try:
            if edited is not None:
                documents.read(self.copy.run / DOCUMENT, self.objects.place(DOCUMENT))  # before the log has it
                self.store.write(DOCUMENT, edited)
            yield
        except BaseException:
            with suppress(RunError):  # the error of the block is raised; what is not uploaded stays on this machine
                self._end(uploader, lease, LAST_SECONDS)
            raise
        self._end(uploader, lease, uploader.patience.seconds)

    def _end(self, uploader: Uploader, lease: Lease, seconds: float) -> None:
        try:
            uploader.stop(seconds)
            for path in (self.copy.run / TENSORBOARD).rglob("*"):
                if path.is_file():
                    name = path.relative_to(self.copy.run).as_posix()
                    uploader.patience.repeat(partial(self.objects.write, name, path))
        finally:
            self.store.uploader = None
        lease.release()

    def is_driven(self) -> bool:
        """Tell whether a process trains the run now.

        Raises:
            StorageError: the storage refuses or fails.
        """
        if is_held(self.copy.run / "run.lock"):
            return True
        # By this machine's clock: to look at a run writes nothing, so the storage's clock is not known.
        return held(self.objects, datetime.now(UTC)).is_live

    def shows(self, name: str) -> bool:
        """Tell whether the storage has a readable copy of a file of the log, as long as the file itself.

        Raises:
            StorageError: the storage refuses or fails.
        """
        found, path = self.objects.names(name).get(name), self.copy.run / name
        return found is not None and path.exists() and path.stat().st_size == found.size

    def forget(self, folder: str) -> None:
        """Remove the checkpoints of a training that has ended, once what was written until now is on the storage."""
        if self.store.uploader is not None:
            self.store.uploader.forget(folder)

    def take(self, name: str) -> bytes | None:
        """Return the content of an object and remove it; None if there is none.

        Raises:
            StorageError: the storage refuses or fails.
        """
        content = self.objects.read(name)
        if content is not None:
            self.objects.delete(name)
        return content

    def bring(self, name: str) -> Path:
        """Return the path of a file after bringing its object to this machine, if there is one.

        Raises:
            RunError: the storage or the disk fails.
        """
        path = self.copy.run / name
        if not path.exists() or not is_held(self.copy.run / "run.lock"):
            self.objects.fetch(name, path)
        return path

    def bring_all(self, folder: str) -> None:
        """Bring all objects under a folder that this machine lacks, or has in another size.

        Raises:
            RunError: the storage or the disk fails.
        """
        for name, entry in self.objects.names(folder).items():
            path = self.copy.run / name
            if not path.exists() or path.stat().st_size != entry.size:
                self.objects.fetch(name, path)

    def remove(self) -> None:
        """Remove the run, here and on the storage."""
        with suppress(RunError):
            self.objects.remove_all()
        self.copy.remove()

    def _pull(self) -> None:
        wanted = self._fetched()
        unsent = {path.name.removesuffix(".open"): path for path in (self.copy.log / "unsent").iterdir()}
        for path in self.copy.log.iterdir():
            if path.is_file() and path.name not in wanted:
                path.unlink()  # a joined part replaces it
        files = {**{name: self.copy.log / name for name in wanted}, **unsent}
        order, played = sorted(files), self._played()
        if order == played:
            return
        fresh = order[: len(played)] != played or not played or bool(unsent)
        self._applied().unlink(missing_ok=True)
        contents = [(name, files[name].read_bytes()) for name in (order if fresh else order[len(played) :])]
        if fresh:
            for name in log.touched(contents):
                (self.copy.run / name).unlink(missing_ok=True)
        player = log.Player(self.copy.run)
        for name, content in contents:
            player.play(content, self.objects.place(f"{log.FOLDER}/{name}"))
        player.finish()
        if not unsent:
            write_whole(self._applied(), json.dumps(order))

    def _edited(self) -> bytes | None:
        """Take the document that a user edited on the storage; None where it is as the run has written it.

        The run writes its document to the storage before it writes it to the log, so a difference is an edit. A run of
        an earlier version, which keeps no protocol, wrote it only when a driver ended.
        """
        if self.state().protocol is None:
            return None
        found = self.objects.read(DOCUMENT)
        if found is None or found == self.store.read(DOCUMENT):
            return None
        self._applied().unlink(missing_ok=True)  # so the next one plays the log again, and looks again
        write_whole(self.copy.run / DOCUMENT, found)
        return found

    def _fetched(self) -> list[str]:
        """Bring the parts of the log that this machine lacks, and return the names of all that count."""
        for _ in range(TRIES):
            listed = {name.rpartition("/")[2] for name in self.objects.names(log.FOLDER)}
            done: set[str] = set()
            # Joined parts first, because they say which others need not be read.
            for name in sorted(listed, key=lambda name: (not name.endswith(log.JOINED), name)):
                if name in done:
                    continue
                content = self._part(name)
                if content is None:
                    break  # it was joined with others in this moment
                done |= set(log.replaced(content)) if name.endswith(log.JOINED) else set()
            else:
                return sorted(listed - done)
        raise RunError(f"{self.address}: the log of the run changes while it is read; try again")

    def _part(self, name: str) -> bytes | None:
        path = self.copy.log / name
        if not path.exists() and not self.objects.fetch(f"{log.FOLDER}/{name}", path):
            return None
        return path.read_bytes() if name.endswith(log.JOINED) else b""

    def _parts(self) -> list[str]:
        return sorted(path.name for path in self.copy.log.iterdir() if path.is_file())

    def _applied(self) -> Path:
        return self.copy.root / "applied.json"

    def _played(self) -> list[str]:
        try:
            found = json.loads(self._applied().read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return [str(name) for name in found] if isinstance(found, list) else []


def taken(address: Address) -> InputError:
    """Return the error for a name that is in use."""
    return InputError(
        f"{address} exists; resume the run with `tskd-tune resume {in_shell(address)}` or choose another --name"
    )


def _missing(address: Address) -> str:
    """Say that there is no run, and name those that are beside it."""
    with suppress(RunError):
        beside = Objects(address.parent).folders()
        if members := replicates_of(address):
            return group_sentence(address, members)
        if beside:
            return f"there is no run {str(address)!r}; {address.parent} holds: {', '.join(beside)}"
    return f"there is no run {str(address)!r}; {address.parent} holds no run"


def refuse_unusable(address: Address) -> None:
    """Refuse an address that has a run, and storage that cannot be written and read.

    Raises:
        InputError: there is a run, no package reaches such storage, or the storage refuses or fails.
    """
    try:
        known = Objects(address).read(STATE)
        if known is None:
            Objects(address.parent).probe()
    except StorageError as error:
        raise InputError(f"--storage {address.parent}: {error.problem}; {error.remedy}; nothing was started") from error
    if known is not None:
        raise taken(address)
