"""Uploads the students, the report and the examples of a sweep to Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import PositiveFloat

from tskd_tune.callbacks.base import CALLBACKS, Callback, Heard
from tskd_tune.callbacks.wandb_images import images
from tskd_tune.errors import RunError
from tskd_tune.plain import Json
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.sessions.workplace import Workplace
from tskd_tune.records.wandb.server import Place, run_id, run_key
from tskd_tune.records.wandb.tracking import WandbTracker

if TYPE_CHECKING:
    from wandb import Run

NAME = "artifacts"


@CALLBACKS.register("wandb_artifacts", source="wandb.Artifact")
class WandbArtifacts(Callback):
    """Uploads each finished student, and the report's page at the end, as artifacts of one more W&B run of the sweep.

    A student's artifact is of the type ``model``, and its metadata have the identity, the arm, the seed and the metrics
    of the training. At the end the run also gets images: those of a detection with the boxes of the teacher and of each
    arm beside the truth, and those of a classification on which arms differ. Without a key or a server everything is
    kept on this machine until ``tskd-tune sync``.
    """

    def __init__(self, run: Heard, *, seconds: PositiveFloat = 60.0, examples: bool = True) -> None:
        """Wait for the first student.

        Args:
            run: the run whose events are heard.
            seconds: the longest time of the last upload; what is not sent then is kept for ``tskd-tune sync``.
            examples: whether images are sent; a run has them unless ``evaluation.examples`` asks for none.
        """
        self._run = run
        self._examples = examples
        self._seconds = seconds
        self._key = run_key(run.path, run.name)
        self._tracker: WandbTracker | None = None

    def hear(self, event: Event) -> None:
        """Begin the upload of a student or of the report."""
        if event.what == "finished" and event.row is not None and event.row.status == "done":
            row = event.row
            folder = self._folder()
            path = folder.bring(folder.student_path(row.run, row.seed))
            name = run_id(self._key, f"student-{row.identity or row.run}", row.seed)
            self._keep(name, "model", path, _metadata(row, self._run.name))
        elif event.what == "report":
            facts: dict[str, Json] = {"sweep": self._run.name}
            self._keep(
                run_id(self._key, "report", 0).removesuffix("-seed0"), "report", self._run.path / "report.html", facts
            )
            if self._examples:
                self._send_images()

    def close(self) -> None:
        """End the W&B run.

        Raises:
            RunError: something was not sent, and is kept with the run; or the storage refuses or fails.
        """
        if self._tracker is None:
            return
        self._tracker.finish({})
        Workplace.of(self._folder().at).upload_wandb(self._tracker.identity["id"])
        if self._tracker.warning is not None:
            raise RunError(self._tracker.warning)

    def _keep(self, name: str, kind: str, path: Path, facts: dict[str, Json]) -> None:
        def log(run: Run) -> None:
            import wandb

            artifact = wandb.Artifact(name, type=kind, metadata=facts)
            artifact.add_file(str(path))
            run.log_artifact(artifact)

        self._opened().use(log)

    def _send_images(self) -> None:
        folder = self._folder()

        def log(run: Run) -> None:
            found = images(folder)
            if found:
                run.log(found)

        self._opened().use(log)

    def _folder(self) -> RunFolder:
        return RunFolder.open(self._run.place)

    def _opened(self) -> WandbTracker:
        if self._tracker is None:
            place = Place.of(self._folder().document())
            self._tracker = WandbTracker(
                self._run.path,
                sweep=self._run.name,
                run=NAME,
                seed=0,
                arm=NAME,
                job_type=NAME,
                place=place,
                deadline=self._seconds,
                key=self._key,
            )
            self._tracker.identity["name"] = f"{self._run.name}: students and report"
            self._tracker.start({})
        return self._tracker


def _metadata(row: Row, sweep: str) -> dict[str, Json]:
    point: dict[str, Json] = dict(row.point)
    metrics: dict[str, Json] = dict(row.metrics)
    named: dict[str, Json] = {"identity": row.identity, "arm": row.arm, "seed": row.seed, "epochs": row.epochs}
    return {**named, "sweep": sweep, "point": point, "metrics": metrics}
