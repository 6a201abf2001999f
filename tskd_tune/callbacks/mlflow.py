"""Keeps the trainings of a sweep as runs of MLflow."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from tskd_tune.callbacks.base import CALLBACKS, Callback, Heard
from tskd_tune.callbacks.figures import figures, training
from tskd_tune.plain import Json
from tskd_tune.records.entries.events import Event

if TYPE_CHECKING:  # MLflow is an extra, and its import takes seconds
    from mlflow import MlflowClient

TRACKING = "MLFLOW_TRACKING_URI"
TAG = "tskd_tune.training"
LONGEST = 500
"""Letters of a parameter that MLflow keeps."""


@CALLBACKS.register("mlflow", source="mlflow.MlflowClient")
class Mlflow(Callback):
    """Keeps one MLflow run per training, with the numbers of each epoch, and parameters from its row.

    A resumed training goes on in its run, and no epoch is kept twice. A password of the server comes from MLflow's own
    variables (``MLFLOW_TRACKING_USERNAME``, ``MLFLOW_TRACKING_PASSWORD``, ``MLFLOW_TRACKING_TOKEN``).
    """

    extra = "mlflow"

    def __init__(
        self,
        run: Heard,
        *,
        uri: Annotated[str, Field(min_length=1)] | None = None,
        experiment: Annotated[str, Field(min_length=1)] = "tskd-tune",
    ) -> None:
        """Choose the server.

        Args:
            run: the run whose events are heard.
            uri: the tracking server, such as ``http://host:5000`` or ``sqlite:////folder/mlflow.db``; null: that of the
                variable ``MLFLOW_TRACKING_URI``.
            experiment: the experiment of MLflow, which is made if there is none of this name.
        """
        self._run = run
        self._uri = uri
        self._experiment = experiment
        self._client: MlflowClient | None = None
        self._place = ""
        self._runs: dict[str, str] = {}
        self._last: dict[str, int] = {}

    def ready(self) -> str | None:
        """Say so if no tracking server is named."""
        if self._uri or os.environ.get(TRACKING):
            return None
        return f"has no tracking server; set its option uri, or the variable {TRACKING}"

    def hear(self, event: Event) -> None:
        """Keep an epoch or a row; teachers are left out."""
        if event.what == "epoch":
            self._keep_epoch(event)
        elif event.what in ("finished", "failed") and event.seed is not None:
            self._keep_row(event)

    def _keep_epoch(self, event: Event) -> None:
        from mlflow.entities import Metric

        client, name, run = self._opened(), training(event), self._run_of(event)
        if event.epoch <= self._last[name]:
            return
        now = int(time.time() * 1000)
        # The number of the epoch comes last: a resume reads there how far the run is.
        shown = {**figures(event), "epoch": float(event.epoch)}
        client.log_batch(run, [Metric(key, value, now, event.epoch) for key, value in shown.items()])
        self._last[name] = event.epoch

    def _keep_row(self, event: Event) -> None:
        from mlflow.entities import Param, RunTag

        client, run = self._opened(), self._run_of(event)
        point: dict[str, Json] = {} if event.row is None else dict(event.row.point)
        chosen = {"arm": event.arm, "seed": event.seed, **point}
        tags = {} if event.reason is None else {"reason": event.reason}
        if event.row is not None:
            tags |= {"identity": event.row.identity, "status": event.row.status}
        params = [Param(key.replace("=", "_"), str(value)[:LONGEST]) for key, value in chosen.items()]
        client.log_batch(run, params=params, tags=[RunTag(key, value) for key, value in tags.items()])
        well = event.what == "finished" and (event.row is None or event.row.status != "failed")
        client.set_terminated(run, "FINISHED" if well else "FAILED")

    def _opened(self) -> MlflowClient:
        """Return the client, and find the experiment at the first call."""
        if self._client is None:
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=self._uri)
            found = client.get_experiment_by_name(self._experiment)
            self._place = client.create_experiment(self._experiment) if found is None else found.experiment_id
            self._client = client
        return self._client

    def _run_of(self, event: Event) -> str:
        """Return the MLflow run of a training, from an earlier process of the sweep if there is one."""
        client, name = self._opened(), training(event)
        if name not in self._runs:
            tag = f"{self._run.name}/{name}"
            runs = client.search_runs([self._place], f"tags.`{TAG}` = '{tag}'", max_results=1)
            if runs:
                run = runs[0].info.run_id
                client.update_run(run, "RUNNING")
                self._last[name] = max((one.step for one in client.get_metric_history(run, "epoch")), default=-1)
            else:
                title = f"{event.arm}, seed {event.seed}"
                run = client.create_run(
                    self._place, tags={TAG: tag, "sweep": self._run.name}, run_name=title
                ).info.run_id
                self._last[name] = -1
            self._runs[name] = run
        return self._runs[name]
