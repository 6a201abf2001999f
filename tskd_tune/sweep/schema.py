"""The schema of a sweep: an experiment with holes, its seeds, and how they are searched."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError, model_validator

from tskd_tune import documents
from tskd_tune.errors import InputError, sentences
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of, verify
from tskd_tune.experiment.teacher import check_weights
from tskd_tune.registry import Component, Options
from tskd_tune.sweep.search import SCHEDULERS, SEARCHERS
from tskd_tune.sweep.space import Point, SearchSpace

if TYPE_CHECKING:
    from tskd_tune.records.news import Listener
    from tskd_tune.records.results import RunFolder

STORAGE = Path("runs")


class Search(Component):
    """A searcher, and the validation metric that it judges means of seeds by."""

    metric: Annotated[str, Field(pattern="^val_")] = Field(
        "val_top1", description="a metric of the validation part; the test part is never searched on"
    )
    mode: Literal["max", "min"] = "max"


class Resources(Options):
    """What one trial takes, and how many run at once."""

    cpu: PositiveInt = Field(1, description="CPU cores, and threads, of a trial")
    gpu: NonNegativeFloat | None = Field(
        None, description="GPUs of a trial, a fraction shares one; null: one where there are any when the sweep starts"
    )
    concurrent: PositiveInt | None = Field(
        None, description="trials at once; null: as many as the cluster holds when the sweep starts"
    )


class Sweep(Options):
    """A sweep: the points of a search space, each trained once a seed."""

    experiment: dict[str, Any]
    seeds: list[NonNegativeInt] | None = Field(None, description="trained at every point; by default experiment.seed")
    search: Annotated[Search, SEARCHERS.slot(Search)]
    scheduler: Annotated[Component, SCHEDULERS.slot()] = Field(default_factory=SCHEDULERS.default("fifo"))
    resources: Resources = Field(default_factory=Resources)
    max_failures: NonNegativeInt = Field(3, description="how often a trial goes on from its checkpoint after a crash")

    @model_validator(mode="after")
    def _check_seeds(self) -> Sweep:
        if self.seeds is not None and "seed" in self.experiment:
            raise ValueError("seeds: give seeds or experiment.seed, not both")
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) < len(self.seeds)):
            raise ValueError(f"seeds: must be a list of different numbers, got {self.seeds}")
        return self

    @classmethod
    def load(cls, path: str | Path, settings: Iterable[str] = ()) -> Sweep:
        """Read a sweep's YAML, with ``extends`` resolved and ``a.b=c`` settings applied.

        Raises:
            InputError: with a sentence for every mistake that can be seen without trying the points.
        """
        file = Path(path)
        document = documents.extended(documents.read(file), file.parent)
        if "experiment" not in document:
            raise InputError(
                f"{file}: has no 'experiment' key, so it is no sweep; `tskd-tune train` runs a single experiment"
            )
        return cls.read(documents.apply_settings(document, settings))

    @classmethod
    def read(cls, document: dict[str, Any]) -> Sweep:
        """Validate plain data.

        Raises:
            InputError: with a sentence for every mistake.
        """
        try:
            sweep = cls.model_validate(document)
        except ValidationError as error:
            raise InputError("\n".join(sentences(error))) from error
        sweep.space()
        return sweep

    def run(
        self,
        name: str | None = None,
        *,
        storage: str | Path = STORAGE,
        listener: Listener = lambda news: None,
        track: bool = True,
    ) -> RunFolder:
        """Check and run the sweep, by default under the name of the moment; see `tskd_tune.sweep.run.start`."""
        from tskd_tune.sweep.run import start

        name = name or f"sweep-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
        return start(self, name, Path(storage), listener, track=track)

    def space(self) -> SearchSpace:
        """Return the search space.

        Raises:
            InputError: a domain is malformed.
        """
        return SearchSpace({key: value for key, value in self.experiment.items() if key != "seed"})

    def all_seeds(self) -> list[int]:
        """Return the seeds that every point is trained with."""
        return self.seeds or [int(self.experiment.get("seed", 1))]

    @property
    def is_judged(self) -> bool:
        """Whether trials are judged while the sweep runs, so that one must carry all seeds of its point."""
        return self.search.name != "grid" or self.scheduler.name != "fifo"

    def experiment_at(self, point: Point) -> Experiment:
        """Return the whole, validated experiment of a point, with the first seed and the threads of its resources.

        Raises:
            InputError: the point is not a valid experiment.
        """
        document = documents.merge(point.experiment, {"seed": self.all_seeds()[0]})
        training = document.get("training") or {}
        if training.get("threads") is None:
            document["training"] = {**training, "threads": self.resources.cpu}
        return Experiment.read(document)

    def check(self) -> list[str]:
        """Try every branch and the corners of every range, without training; return what is wrong, line by line."""
        space = self.space()
        space.refuse("grid" if self.search.name == "grid" else "search")
        problems = space.check(lambda document: self._try(Point({}, document, "")))
        return problems or (self._check_grace(space) if self.is_judged else [])

    def _try(self, point: Point) -> None:
        experiment = self.experiment_at(point)
        verify(experiment)
        check_weights(experiment)
        if self.is_judged and task_of(experiment).facts().samples[1] == 0:
            raise InputError(
                "task.validation: is 0, but a searcher or a scheduler judges by the validation part;"
                " set task.validation to a number of training images"
            )

    def _check_grace(self, space: SearchSpace) -> list[str]:
        """Let the scheduler refuse to judge before the latest first review of the space."""
        try:
            self.scheduler_for(space)
        except InputError as error:
            return [str(error)]
        return []

    def scheduler_for(self, space: SearchSpace) -> Any:
        """Return Ray Tune's scheduler, which never judges before the latest first review of the space.

        Raises:
            InputError: its grace period ends too early.
        """
        experiments = [self.experiment_at(point) for point in space.corners()]
        plans = [plan for experiment in experiments if (plan := experiment.plan()) is not None]
        return SCHEDULERS.make(
            self.scheduler,
            max(experiment.training.epochs for experiment in experiments),
            max((plan.review_epochs[0] for plan in plans), default=None),
            self.search.metric,
            self.search.mode,
        )
