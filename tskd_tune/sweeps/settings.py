"""The groups of settings of a sweep: the resources of a trial, the place of W&B runs, and the comparisons."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, PositiveInt, model_validator

from tskd_tune.errors import shown
from tskd_tune.registry import Options


def _one_gpu(gpu: float) -> float:
    if gpu > 1:
        raise ValueError(f"a training uses one GPU, got {gpu:g}; give 1, or a fraction such as 0.5 to share one")
    return gpu


def _count(together: object) -> object:
    is_count = isinstance(together, int) and not isinstance(together, bool) and together >= 1
    if is_count or together == "auto":
        return together
    raise ValueError(f"must be a number of trainings from 1, or auto, got {shown(together)}")


class Resources(Options):
    """The resources of one trial, and the number of trials that run at once."""

    cpu: PositiveInt = Field(1, description="CPU cores, and threads, of a trial")
    gpu: Annotated[NonNegativeFloat, AfterValidator(_one_gpu)] | None = Field(
        None,
        description="GPUs of a trial, a fraction shares one; null: 1 where there are any when the sweep starts, or 0",
    )
    concurrent: PositiveInt | None = Field(
        None, description="number of trials that run at once; null: as many as the cluster holds when the sweep starts"
    )
    together: Annotated[PositiveInt | Literal["auto"], BeforeValidator(_count)] = Field(
        1,
        description="number of trainings that a process of a grid advances in turns, step by step, on one GPU; auto: as"
        " many as the memory of the GPU holds, at most 6, and 1 on a CPU. It changes no number of a training",
    )

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
        description="numbers of seeds at which interim analyses are made; null: one test, when all are done",
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
        return self
