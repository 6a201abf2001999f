"""The place where a study works: jobs on Ray whose results are kept, and sweeps that are resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from tskd_tune.errors import RunError, reason
from tskd_tune.files import write_whole
from tskd_tune.records.entries.events import Event
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.version import __version__
from tskd_tune.words import count

if TYPE_CHECKING:
    from tskd_tune.sweeps.declared.schema import Sweep

Job = TypeVar("Job")
Result = TypeVar("Result")
Tell = Callable[[str], None]

JOBS, SWEEPS = "jobs", "sweeps"
# Sums depend on the number of threads, so a job has one, whatever the environment of the command says.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
# After this many jobs the progress is told.
TOLD_EVERY = 20


def _unheard(text: str) -> None:
    """Ignore what is told."""


class Place:
    """A folder in which a study works, and the Ray that it works with; leave it as a context manager.

    Attributes:
        folder: the folder of the study's files.
        tell: is called with a sentence on the progress.
    """

    def __init__(self, folder: Path, tell: Tell = _unheard) -> None:
        """Work in ``folder``, which is made. Ray starts when the first job needs it."""
        self.folder = folder.absolute()
        self.tell = tell
        self._stack = ExitStack()
        self._has_ray = False

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the Ray that was started."""
        self._stack.close()
        self._has_ray = False

    def map(self, name: str, function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
        """Compute ``function(job)`` for each job as a task of Ray with one core and one thread.

        Each result is kept as one file, written completely or not at all, so a study that was killed goes on. A result
        is always read from its file, so that it is the same in both cases.

        Args:
            name: the name of the folder of the results; letters, digits, ``-`` and ``_``.
            function: a function of a module, with an annotated result that Pydantic can read from JSON. Its result
                depends on the job alone.
            jobs: what the function is called with: plain data, or dataclasses of plain data.

        Returns:
            The results, in the order of the jobs.

        Raises:
            RunError: a job failed; the results of the others are kept.
        """
        folder = self.folder / JOBS / name
        folder.mkdir(parents=True, exist_ok=True)
        adapter: TypeAdapter[Result] = TypeAdapter(get_type_hints(function)["return"])
        paths = [folder / f"{_digest(function, job)}.json" for job in jobs]
        missing = {path: job for path, job in zip(paths, jobs, strict=True) if not path.exists()}
        done = len(set(paths)) - len(missing)
        if missing:
            self.tell(f"{name}: {len(missing)} jobs" + (f", {done} more are done" if done else ""))
            for count, (path, result) in enumerate(self._computed(name, function, missing), 1):
                plain = adapter.dump_python(result, mode="json")
                write_whole(path, json.dumps(plain, sort_keys=True))
                if count % TOLD_EVERY == 0:
                    self.tell(f"{name}: {count} of {len(missing)} jobs are done")
        return [_read(path, adapter) for path in paths]

    def sweep(self, space: str | Path, settings: Sequence[str] = ()) -> RunFolder:
        """Run a search space of the package, or a file, with ``settings`` as ``--set`` takes them.

        The run lies in ``sweeps/`` of the folder, under a name that depends on its content. A run that was cut off is
        resumed, a finished run is kept. A training that diverged is a result, so it has a row and no error.

        Raises:
            InputError: the space or a setting is wrong.
            RunError: a training broke; finished trainings are kept.
        """
        from tskd_tune.sweeps.declared.schema import Sweep

        given = Sweep.load(Path(space), settings)
        text = json.dumps(given.plain(), sort_keys=True)
        name = f"{Path(space).stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        storage = self.folder / SWEEPS
        if (storage / name).exists() and _is_whole(found := RunFolder.open(name, storage)):
            return found
        self.tell(f"{name}: {count(len(given.space().grid()), 'point')} x {count(len(given.all_seeds()), 'seed')}")
        self._begin_ray()
        try:
            return self._swept(given, name, storage)
        except RunError:
            if (storage / name).exists() and _is_whole(found := RunFolder.open(name, storage)):
                return found
            raise

    def _swept(self, given: Sweep, name: str, storage: Path) -> RunFolder:
        from tskd_tune.sweeps.run import resume, start

        if (storage / name).exists():
            return resume(RunFolder.open(name, storage), self._hear, track=False)
        storage.mkdir(parents=True, exist_ok=True)
        return start(given, name, storage, self._hear, track=False, origin=given.origin)

    def _hear(self, event: Event) -> None:
        if event.what in ("finished", "failed"):
            self.tell(f"{event.arm}, seed {event.seed}: {event.what}" + (f" ({event.reason})" if event.reason else ""))

    def _begin_ray(self) -> None:
        if not self._has_ray:
            from tskd_tune.sweeps.on_ray.ray_session import session

            self.folder.mkdir(parents=True, exist_ok=True)
            self._stack.enter_context(session(self.folder))
            self._has_ray = True

    def _computed(
        self, name: str, function: Callable[[Job], Result], jobs: dict[Path, Job]
    ) -> Iterator[tuple[Path, Result]]:
        """Yield path and result of each job as they come; the first error is raised after all others have come."""
        self._begin_ray()
        import ray

        task = ray.remote(num_cpus=1, max_retries=2, runtime_env={"env_vars": ONE_THREAD})(_single_threaded)
        shipped = ray.put(cast("Callable[[object], object]", function))
        waiting = {task.remote(shipped, job): path for path, job in jobs.items()}
        failed: list[tuple[Job, Exception]] = []
        while waiting:
            [ready], _ = ray.wait(list(waiting), num_returns=1)
            path = waiting.pop(ready)
            try:
                result = cast("Result", ray.get(ready))
            except Exception as error:  # a job may raise anything, and Ray adds errors of its own
                failed.append((jobs[path], error))
            else:
                yield path, result
        if failed:
            raise _failure(name, failed, self.folder)


def _single_threaded(function: Callable[[object], object], job: object) -> object:
    """Compute a job in a worker of Ray."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
    return function(job)


def _failure(name: str, failed: Sequence[tuple[object, Exception]], folder: Path) -> RunError:
    job, error = failed[0]
    cause = getattr(error, "cause", None) or error
    return RunError(
        f"{folder}: {len(failed)} jobs of {name} failed; the first is {str(job)[:200]}: {reason(cause)}; the results of"
        " the others are kept, and the same command goes on"
    )


def _digest(function: Callable[..., object], job: object) -> str:
    """Name a result by all that it depends on: the function, the job, and the version of this package."""
    plain = dataclasses.asdict(job) if dataclasses.is_dataclass(job) and not isinstance(job, type) else job
    whole = [__version__, function.__module__, function.__qualname__, to_jsonable_python(plain)]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path, adapter: TypeAdapter[Result]) -> Result:
    try:
        return adapter.validate_python(json.loads(path.read_bytes()), strict=False)
    except (OSError, ValueError, ValidationError) as error:
        raise RunError(f"{path}: is damaged ({reason(error)}); delete it and run the same command again") from error


def _is_whole(folder: RunFolder) -> bool:
    """Tell whether each expected training of a run has ended."""
    expected = folder.state.expected
    return expected is not None and sum(row.ended for row in folder.rows()) >= expected
