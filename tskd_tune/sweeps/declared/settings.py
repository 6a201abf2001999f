"""The groups of settings of a sweep: the resources of a trial, the place of W&B runs, and the comparisons."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, PositiveInt, model_validator

from tskd_tune.errors import shown
from tskd_tune.registry import DISTINCT, Options


def _whole_or_share(gpu: float) -> float:
    if gpu > 1 and not gpu.is_integer():
        raise ValueError(
            f"a trial uses whole GPUs or a share of one, got {gpu:g}; give {int(gpu)} or {int(gpu) + 1}, or a fraction"
            " such as 0.5 to share one"
        )
    return gpu


def _count(together: object) -> object:
    is_count = isinstance(together, int) and not isinstance(together, bool) and together >= 1
    if is_count or together == "auto":
        return together
    raise ValueError(f"must be a number of trainings from 1, or auto, got {shown(together)}")


class Resources(Options):
    """The resources of one trial, and the number of trials that run at once."""

    cpu: PositiveInt = Field(
        1, description="CPU cores, and threads, of a trial; of each of its workers where it has several"
    )
    gpu: Annotated[NonNegativeFloat, AfterValidator(_whole_or_share)] | None = Field(
        None,
        description="GPUs of a trial, a fraction shares one, and of several each takes a share of every batch; null: 1"
        " for each worker where there are any GPUs when the sweep starts, or 0",
    )
    workers: PositiveInt | None = Field(
        None,
        description="processes that train a trial together, each with a share of every batch; null: one for each GPU,"
        " and 1 without GPUs. It changes numbers by rounding alone",
    )
    concurrent: PositiveInt | None = Field(
        None,
        description="number of trials that run at once; null: as many as the cluster holds at the time, or would hold"
        " with all machines that its autoscaler may add",
    )
    together: Annotated[PositiveInt | Literal["auto"], BeforeValidator(_count)] = Field(
        1,
        description="number of trainings that a process of a grid advances in turns, step by step, on one GPU; auto: as"
        " many as the memory of the GPU holds, at most 6, and 1 on a CPU. It changes no number of a training",
    )

    @property
    def worker_count(self) -> int:
        """The number of processes that train a trial together."""
        return self.workers or max(1, int(self.gpu or 0))

    @model_validator(mode="after")
    def _check_workers(self) -> Resources:
        count = self.worker_count
        if self.gpu and max(1.0, self.gpu) != count:
            raise ValueError(
                f"workers: {count} workers take a GPU each, but gpu is {self.gpu:g}; set gpu: {count} or gpu: 0, or"
                " leave workers out"
            )
        if count > 1 and self.together != 1:
            raise ValueError(
                f"together: {self.together} trainings share one process, but a trial has {count} workers, each with a"
                " process of its own; leave together out, or give a trial one GPU"
            )
        return self

    @model_validator(mode="after")
    def _check_together(self) -> Resources:
        if self.together != 1 and self.gpu is not None and 0 < self.gpu < 1:
            raise ValueError(
                f"together: {self.together} shares a GPU within a process, and gpu: {self.gpu:g} shares it between"
                " processes, which is slower; set gpu: 1, or leave together out"
            )
        return self


class Wandb(Options):
    """Where W&B runs and Reports go; W&B's own environment variables override these settings."""

    project: Annotated[str, Field(min_length=1)] | None = Field(None, description="W&B project; null: tskd-tune")
    entity: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="W&B user or team; null: the owner of the API key"
    )


class Budget(Options):
    """What a run may use, over all processes that train it; at the end the trials stop after their epoch."""

    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="wall-clock hours in which processes train the run; the hours between them do not count"
    )
    gpu_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="hours of whole GPUs that the trainings take, without teachers; half a GPU counts half"
    )


class Target(Options):
    """The result with which a search ends."""

    at: Annotated[float, Field(allow_inf_nan=False)] = Field(
        description="the value that is enough: the metric of a trial after its last epoch, as mean over its seeds",
        examples=[75.0],
    )
    metric: str | None = Field(
        None, description="the metric of the search, with or without val_; null: the same. Another one is refused"
    )


ALLOWED = r"^(task|teacher|student|training)(\.\w+)*$"
"""The keys of an experiment that arms have in common, unless they are compared."""


def _in_common(key: str) -> str:
    if re.match(ALLOWED, key) is None:
        raise ValueError(
            f"must be a key below task, teacher, student or training, such as training.epochs, got {shown(key)}"
        )
    return key


class Compare(Options):
    """The comparisons of the report and how they are made, declared before there are results."""

    baseline: str | None = Field(
        None,
        description="label of the arm that the others are compared with; null: the first arm without a review of the"
        " same task and student",
    )
    pairs: list[Annotated[list[str], Field(min_length=2, max_length=2)]] | None = Field(
        None,
        min_length=1,
        description="the comparisons, each [arm, baseline] by label; null: each arm with the baseline",
    )
    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="differences within plus or minus the margin, in the metric's unit, count as equivalent; null: 0.3"
        " percentage points for a metric in percent, and no test of equivalence for any other metric",
    )
    controls: dict[str, str] = Field(
        default_factory=dict,
        description="control arm -> the arm that is compared with this control arm; a run writes this key for the"
        " control arms that the run adds",
    )
    added: list[list[int]] = Field(
        default_factory=list,
        description="the seeds that were added to a finished sweep, in portions; a run writes this key",
    )
    interim: list[Annotated[int, Field(ge=5)]] | None = Field(
        None,
        min_length=1,
        description="numbers of seeds at which interim analyses are made, and after which the sweep stops if every"
        " comparison has its verdict; null: none",
    )
    sequential: Literal["split", "looks", "fixed"] | None = Field(
        None,
        description="how verdicts allow for seeds that are added. split: at any time, with 3 % of the error rate at the"
        " first verdict and 2 % later; looks: only at interim; fixed: never, and an extended run is exploratory. null:"
        " looks where interim is given, otherwise split",
    )
    rule: Literal["difference", "margin"] = Field(
        "difference",
        description="what a verdict says. difference: resolved, equivalent or undecided; margin: relevantly better,"
        " relevantly worse or equivalent by the margin, otherwise continue",
    )

    allow: Annotated[
        list[Annotated[str, AfterValidator(_in_common), Field(json_schema_extra={"pattern": ALLOWED})]], DISTINCT
    ] = Field(
        default_factory=list,
        description="keys of the experiment in which arms may differ besides what is compared, such as training.epochs"
        " or teacher; a key allows all keys below it. Otherwise arms that differ in a review or distiller and also in"
        " one of these keys are undecided",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_old_key(cls, value: object) -> object:
        """Read ``looks``, the name of ``interim`` in files of earlier versions."""
        if not isinstance(value, dict) or "looks" not in value:
            return value
        if "interim" in value:
            raise ValueError("looks: is the old name of interim; keep interim alone")
        return {"interim" if key == "looks" else key: content for key, content in value.items()}

    @model_validator(mode="after")
    def _check(self) -> Compare:
        if self.baseline is not None and self.pairs is not None:
            raise ValueError("give baseline or pairs, not both: pairs name their baselines")
        if any(arm == baseline for arm, baseline in self.pairs or []):
            raise ValueError("pairs: an arm cannot be compared with itself; name two arms")
        unordered = [frozenset(pair) for pair in self.pairs or []]
        if len(set(unordered)) < len(unordered):
            raise ValueError("pairs: two arms are compared twice; name each pair once")
        if self.interim is not None and any(a >= b for a, b in pairwise(self.interim)):
            raise ValueError(f"interim: must ascend, such as [5, 10, 18], got {self.interim}")
        if self.sequential is not None and (self.sequential == "looks") != (self.interim is not None):
            fits = "needs" if self.sequential == "looks" else "does not go with"
            raise ValueError(
                f"sequential: {self.sequential} {fits} interim; give interim with sequential: looks, and otherwise"
                " leave interim out"
            )
        return self

    @property
    def decided_by(self) -> Literal["split", "looks", "fixed"]:
        """How the verdicts of a new run allow for seeds that are added."""
        return self.sequential or ("split" if self.interim is None else "looks")
