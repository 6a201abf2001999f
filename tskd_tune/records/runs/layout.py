"""Where a run keeps the files of its trials and of its trainings.

Each training has a folder, named by identity and seed: ``trainings/<identity>-seed<seed>/``. Each trial has
``trials/<id>/``, with a description of its trainings and Ray Tune's checkpoints. Trials that began under format 1 keep
the files of their trainings in the trial's folder.
"""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from tskd_tune.errors import sentences
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.storing.lines import parsed_line
from tskd_tune.records.storing.store import Store

TRIALS: Final = "trials"
TRAININGS: Final = "trainings"
HISTORY: Final = "history.jsonl"
# In the folder of a trial: describes what the trial trains.
BEGUN: Final = "trial.json"


class Layout:
    """Names the files of a run in its store."""

    def __init__(self, store: Store) -> None:
        """Name the files in ``store``."""
        self._store = store
        self._begun: dict[str, Begun] = {}

    def trials(self) -> list[str]:
        """Return the ids of the trials that wrote files, sorted."""
        return [name.removesuffix("/") for name in self._store.names(TRIALS) if name.endswith("/")]

    def trial(self, run: str, name: str) -> str:
        """Return the name of a file of a trial."""
        return f"{TRIALS}/{run}/{name}"

    def begun(self, run: str) -> tuple[Begun | None, str]:
        """Return what a trial trains, and a warning if the file is damaged (empty otherwise)."""
        name = self.trial(run, BEGUN)
        content = self._store.read(name)
        if content is None:
            return None, ""
        try:
            found = Begun.model_validate(parsed_line(content.decode(errors="replace")))
        except ValidationError as error:
            place = self._store.place(name)
            return (
                None,
                f"{place}: is damaged ({sentences(error)[0]}) and is ignored; `tskd-tune resume` writes the file again",
            )
        self._begun[run] = found
        return found, ""

    def history(self, run: str, seed: int) -> str:
        """Return the name of the history of a training."""
        return self._of(run, seed, HISTORY, HISTORY)

    def histories(self, run: str) -> list[str]:
        """Return the names of all histories of a trial, including the history of format 1 in the trial's folder."""
        begun = self._known(run)
        seeds = begun.seeds if begun else []
        return list(dict.fromkeys([self.trial(run, HISTORY), *(self.history(run, seed) for seed in seeds)]))

    def student(self, run: str, seed: int) -> str:
        """Return the name of the final student of a training."""
        return self._of(run, seed, "student.pth", f"student-seed{seed}.pth")

    def error(self, run: str, seed: int) -> str:
        """Return the name of the whole error of a training that broke."""
        return self._of(run, seed, "error.txt", f"error-seed{seed}.txt")

    def checkpoint(self, run: str, seed: int) -> str:
        """Return the name of the newest checkpoint of a training without Ray."""
        return self._of(run, seed, "checkpoint.pt", "checkpoint.pt")

    def _of(self, run: str, seed: int, name: str, in_trial: str) -> str:
        begun = self._known(run)
        if begun is None or not begun.identity:
            return self.trial(run, in_trial)
        return f"{TRAININGS}/{begun.identity}-seed{seed}/{name}"

    def _known(self, run: str) -> Begun | None:
        return self._begun.get(run) or self.begun(run)[0]
