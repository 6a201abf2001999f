"""The schema of a sweep: an experiment with search parameters, its seeds, and how it is searched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import (
    Field,
    NonNegativeInt,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from tskd_tune import documents
from tskd_tune.callbacks.base import CALLBACKS
from tskd_tune.errors import InputError, sentences
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of
from tskd_tune.experiment.locations import located
from tskd_tune.metrics import Mode
from tskd_tune.places import Places
from tskd_tune.plain import Document
from tskd_tune.records.entries.origin import Origin
from tskd_tune.registry import DISTINCT, Component, Options
from tskd_tune.sweeps.declared.settings import Budget, Compare, Resources, Target, Wandb
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.scheduling.schedulers import SCHEDULERS, refuse_few_seeds, refuse_unmeasured, stops_trials, unfit
from tskd_tune.sweeps.searching.objectives import Goals, Search, lead
from tskd_tune.sweeps.searching.search import SEARCHERS, Found, is_exact
from tskd_tune.sweeps.space.controls import ControlsOption, Derived, derive
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace
from tskd_tune.sweeps.space.seeds import Seeds
from tskd_tune.sweeps.space.teacher_seeds import crossed, without_seeds

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


class Sweep(Options):
    """A sweep: the points of a search space, each trained once per seed."""

    experiment: Document = Field(
        description="the experiment, whose values may be search parameters: choice, grid, int, uniform, loguniform",
        examples=[{"task": "digits", "student": "resnet8"}],
    )
    seeds: Seeds | None = Field(
        None,
        description="seeds with which every point is trained, such as [1, 2, 3], 1-3 or 1-3,7; null: the seed of the"
        " experiment",
    )
    search: Annotated[Search, SEARCHERS.slot(Search)] = Field(
        description="which points of the space are trained", examples=[{"name": "optuna", "trials": 40}, "grid"]
    )
    scheduler: Annotated[Component, SCHEDULERS.slot()] = Field(
        default_factory=SCHEDULERS.default("fifo"), description="which trials are stopped early"
    )
    resources: Resources = Field(
        default_factory=Resources, description="the resources of one trial, and the number of trials that run at once"
    )
    compare: Compare = Field(
        default_factory=Compare,
        description="the comparisons of the report, the margin of equivalence and the interim analyses",
    )
    controls: ControlsOption = Field(
        None,
        description="control arms of the first arm that reviews and is not a control: true, a list of names, or"
        " {of: arm, arms: [...]}",
    )
    arms: dict[str, Document] = Field(
        default_factory=dict,
        description="more arms of a grid, label -> whole experiment; a run writes its control arms here",
    )
    budget: Budget | None = Field(None, description="what the run may use before it ends early; null: no limit")
    stop: Target | None = Field(None, description="the result with which a search ends early; null: none")
    wandb: Wandb = Field(default_factory=Wandb, description="where W&B runs and Reports go")
    callbacks: Annotated[list[Annotated[Component, CALLBACKS.slot()]], DISTINCT] = Field(
        default_factory=list,
        description="who hears the events of the run: ready callbacks by name, or module:function of one's own, each"
        " with options; they change no number, and their errors become warnings",
    )
    max_failures: NonNegativeInt = Field(
        3, description="how often a trial goes on from its checkpoint after its process died or ran out of memory"
    )
    _places: Places = PrivateAttr(default_factory=Places)
    _origin: Origin = PrivateAttr(default_factory=Origin)
    # Text -> whole experiment, because a command reads the same points many times.
    _experiments: dict[str, Experiment] = PrivateAttr(default_factory=dict)

    @field_validator("scheduler", mode="before")
    @classmethod
    def _refuse_scheduler(cls, value: object) -> object:
        name = value.get("name") if isinstance(value, dict) else value
        if isinstance(name, str) and (reason := unfit(name)) is not None:
            raise ValueError(reason)
        return value

    @field_validator("experiment")
    @classmethod
    def _locate(cls, value: dict[str, object]) -> dict[str, object]:
        return located(value)

    @field_validator("arms")
    @classmethod
    def _locate_arms(cls, value: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
        return {label: located(arm) for label, arm in value.items()}

    @classmethod
    def _hint(cls, key: str, known: set[str]) -> str:
        if key in Experiment.model_fields:
            return f"; it is a key of the experiment: write experiment.{key}"
        return super()._hint(key, known)

    @model_validator(mode="after")
    def _check_seeds(self) -> Sweep:
        if self.seeds is not None and "seed" in self.experiment:
            raise ValueError("seeds: give seeds or experiment.seed, not both")
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) < len(self.seeds)):
            raise ValueError(f"seeds: must be a list of different numbers, got {self.seeds}")
        return self

    @model_validator(mode="after")
    def _check_interim(self) -> Sweep:
        last, declared = (self.compare.interim or [0])[-1], len(self.seeds or [1])
        if last > declared:
            raise ValueError(
                f"compare.interim: the last analysis is at {last} seeds but {declared} are declared; add seeds, or"
                " lower the last number"
            )
        return self

    @model_validator(mode="after")
    def _check_arms(self) -> Sweep:
        for key in ("controls", "arms"):
            if getattr(self, key) and not self.is_exact:
                raise ValueError(
                    f"{key}: need the exact grid, but the search is '{self.search.name}', which draws its points; leave"
                    f" {key} out here and give them to a grid beside the winners (`tskd-tune confirm`)"
                )
        return self

    @model_validator(mode="after")
    def _check_stop(self) -> Sweep:
        if self.stop is not None and self.is_exact:
            raise ValueError(
                "stop: a grid compares arms, and a comparison that ends when one of them looks good is biased towards"
                " this arm; leave stop out, declare compare.interim, or search with optuna or random"
            )
        if self.stop is not None and self.search.objectives is not None:
            raise ValueError("stop: search.objectives has several objectives, and a target is for one; leave stop out")
        return self

    @classmethod
    def load(cls, path: str | Path, settings: Iterable[str] = ()) -> Sweep:
        """Read a sweep's YAML, with ``extends`` resolved and ``a.b=c`` settings applied.

        Raises:
            InputError: with a sentence for every mistake that is found without checking the points.
        """
        file = Path(path)
        document = documents.load(file)
        if "experiment" not in document.data:
            raise InputError(
                f"{file}: has no 'experiment' key, so it is no sweep; `tskd-tune train` runs a single experiment"
            )
        document = document.with_settings(settings)
        with document.places.named():
            sweep = cls.read(document.data)
        sweep._places = document.places
        sweep._origin = Origin.of(file)
        return sweep

    @classmethod
    def read(cls, document: Document) -> Sweep:
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

    @property
    def places(self) -> Places:
        """The file and line of each value of the YAML; empty for a sweep that was given as plain data."""
        return self._places

    @property
    def origin(self) -> Origin:
        """The sweep's file and the question in the file; empty for a sweep that was given as plain data."""
        return self._origin

    def space(self) -> SearchSpace:
        """Return the search space.

        Raises:
            InputError: a domain is malformed.
        """
        return self._whole_space

    @cached_property
    def _whole_space(self) -> SearchSpace:
        return self._space({**self.arms, **self.derived.arms})

    def _space(self, arms: Mapping[str, Mapping[str, object]]) -> SearchSpace:
        return SearchSpace({key: value for key, value in self.experiment.items() if key != "seed"}, arms)

    @cached_property
    def derived(self) -> Derived:
        """The arms that the controls add, and why some were left out.

        Raises:
            InputError: a control does not fit, or there is nothing to control.
        """
        if self.controls is None:
            return Derived({}, [], {})
        return derive(self.controls, self._space(self.arms).grid(), self.experiment_at)

    def resolved(self) -> Sweep:
        """Return the same sweep with its controls, its metric, its mode and ``compare.sequential`` written out.

        So another version of the package trains the same arms and judges them by the same rule, and a report does not
        need the task's metrics. A run without ``compare.sequential`` is of an earlier version.
        """
        if self.controls is None and self.search.is_whole and self.compare.sequential is not None:
            return self
        plain, derived = self.plain(), self.derived
        controlled = {**self.compare.controls, **derived.compared}
        written = {
            "search": {**plain["search"], "metric": self.metric, "mode": self.mode},
            "compare": {**plain["compare"], "controls": controlled, "sequential": self.compare.decided_by},
            "controls": None,
            "arms": {**self.arms, **derived.arms},
        }
        return Sweep.read({**plain, **written})

    @cached_property
    def goals(self) -> Goals:
        """The objectives of the search with their modes; without ``objectives``, only the metric with its mode.

        Raises:
            InputError: metric or mode is left out, and the metrics of the first point's task are unknown.
        """
        if self.search.is_whole:
            return self.search.goals()
        first = self.experiment_at(next(iter(self.space().corners())))
        return self.search.goals(task_of(first).facts().metrics)

    @property
    def metric(self) -> str:
        """The metric of the validation set by which trials are compared, such as ``val_loss``."""
        return lead(self.goals)[0]

    @property
    def mode(self) -> Mode:
        """Whether `metric` is to be large or small."""
        return lead(self.goals)[1]

    def all_seeds(self) -> list[int]:
        """Return the seeds that every point is trained with."""
        return self.seeds or [int(self.experiment.get("seed", 1))]

    @property
    def is_judged(self) -> bool:
        """Whether trials are compared while the sweep runs; then each trial trains all seeds of its point."""
        return not self.is_exact or stops_trials(self.scheduler.name)

    @property
    def is_exact(self) -> bool:
        """Whether every point of the space is trained; then the points are arms to compare."""
        return is_exact(self.search.name)

    def points(self) -> list[Point]:
        """Return the points of a grid that are trained with every seed: its arms, under each of their teachers.

        Raises:
            InputError: the space has a range, or ``teacher.seeds`` is wrong.
        """
        return crossed(self.space().grid(), self.experiment_at)

    def experiment_at(self, point: Point) -> Experiment:
        """Return the whole, validated experiment of a point, with the first seed and the threads of its resources.

        Raises:
            InputError: the point is not a valid experiment.
        """
        document = documents.merge(without_seeds(point.experiment), {"seed": self.all_seeds()[0]})
        training = document.get("training")
        if training is None or (isinstance(training, Mapping) and training.get("threads") is None):
            document["training"] = {**(training or {}), "threads": self.resources.cpu}
        key = json.dumps(document, sort_keys=True, default=str)
        if key not in self._experiments:
            self._experiments[key] = Experiment.read(document)
        return self._experiments[key]

    def searcher_for(
        self, space: SearchSpace, describe: Callable[[Point], TrialConfig] | None = None, journal: Path | None = None
    ) -> Found:
        """Return Ray Tune's searcher and the number of trials.

        Args:
            space: the search space.
            describe: makes a trial's config from a point.
            journal: the file of the Optuna study; None for none.

        Raises:
            InputError: the searcher cannot search this space with its options.
        """
        describe = describe or (lambda point: TrialConfig(point.label, point.values, point.experiment))
        return SEARCHERS.make(self.search, space, describe, self.goals, journal)

    def scheduler_for(self, space: SearchSpace) -> TrialScheduler:
        """Return Ray Tune's scheduler, which never compares trials before all points have had their first review.

        Raises:
            InputError: the scheduler does not fit the sweep's epochs, seeds or objectives.
        """
        goals = self.goals
        if stops_trials(self.scheduler.name) and len(goals) > 1:
            raise InputError(
                f"scheduler: '{self.scheduler.name}' compares trials by one metric, but search.objectives has"
                f" {len(goals)} ({', '.join(goals)}); use scheduler: fifo, or give search.metric in place of objectives"
            )
        experiments = [self.experiment_at(point) for point in space.corners()]
        plans = [plan for experiment in experiments if (plan := experiment.plan()) is not None]
        found = SCHEDULERS.make(
            self.scheduler,
            max(experiment.training.epochs for experiment in experiments),
            [plan.review_epochs for plan in plans],
            self.metric,
            self.mode,
        )
        refuse_few_seeds(self.scheduler.name, found, len(self.all_seeds()))
        refuse_unmeasured(self.scheduler.name, found, (experiment.schedule() for experiment in experiments))
        return cast("TrialScheduler", found)
