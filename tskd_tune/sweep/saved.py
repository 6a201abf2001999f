"""What Ray Tune keeps of a searcher: its state, in a pickle with a digest, which a resume compares with Tune's list."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from ray.tune.search import Searcher

from tskd_tune.errors import RunError
from tskd_tune.sweep.known import Known
from tskd_tune.sweep.snapshot import newest

# The files in which Tune keeps what a searcher saves, and what stands first in them.
SAVED = Searcher.CKPT_FILE_TMPL.format("*")
MARK = b"tskd-tune searcher 1\n"
Config = dict[str, Any]


class SavedSearcher(Searcher, ABC):
    """A searcher whose state is the attributes that it lists, in one pickle."""

    saved: ClassVar[tuple[str, ...]] = ()

    def set_search_properties(self, metric: str | None, mode: str | None, config: Config, **spec: Any) -> bool:
        """Accept a metric and a mode that are this searcher's own."""
        return metric in (None, self.metric) and mode in (None, self.mode)

    def save(self, checkpoint_path: str) -> None:
        """Write the state to a file, with its digest before it."""
        content = pickle.dumps({name: getattr(self, name) for name in self.saved})
        Path(checkpoint_path).write_bytes(MARK + sha256(content).digest() + content)

    def restore(self, checkpoint_path: str) -> None:
        """Read the state from a file; what lies beside it of Tune's own says which trials there are.

        Raises:
            RunError: the file is not whole.
        """
        path = Path(checkpoint_path)
        for name, value in saved_state(path).items():
            setattr(self, name, value)
        trials = newest(path.parent)
        if trials is not None:
            self._agree_with({trial["trial_id"]: trial["config"] for trial in trials})
            # Tune trains again what it has not noted as ended, and after a resume what broke.
            self._try_again([trial["trial_id"] for trial in trials if trial.get("status") != "TERMINATED"])
        self._restored()

    @abstractmethod
    def take_up(self, known: Mapping[int, Known]) -> None:
        """Learn, before the first suggestion, what an earlier process has left of its trials, by their numbers."""

    @abstractmethod
    def _agree_with(self, trials: Mapping[str, Config]) -> None:
        """Make the state agree with the trials that Tune has."""

    def _try_again(self, trials: Sequence[str]) -> None:
        """Expect these trials to be trained on, or again."""

    def _restored(self) -> None:
        """Take up again what is not part of the state."""


def saved_state(path: Path) -> dict[str, Any]:
    """Return the state that a searcher saved; one of an earlier version has no digest.

    Raises:
        RunError: the file is gone, or not as it was written.
    """
    try:
        content = path.read_bytes()
        if content.startswith(MARK):
            start = len(MARK) + sha256().digest_size
            digest, content = content[len(MARK) : start], content[start:]
            if sha256(content).digest() != digest:
                raise pickle.UnpicklingError("its digest is another")
        state: dict[str, Any] = pickle.loads(content)
    except Exception as error:  # whatever a damaged pickle makes of itself
        raise RunError(
            f"{path}: the searcher's state is not whole ({error}); remove this file to go on from an older one"
        ) from error
    return state
