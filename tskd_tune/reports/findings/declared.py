"""The parts of a run's ``sweep.yaml`` that a report needs. Their form is checked, because the file may be damaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tskd_tune.errors import InputError, did_you_mean, sentences
from tskd_tune.plain import Json
from tskd_tune.reports.findings.allowing import unfit
from tskd_tune.reports.judge.records import LEAST_SEEDS
from tskd_tune.reports.judge.words import runs_of

GRID = "grid"
# A searcher and a sampler of this name draw at random; a scheduler of the other name stops no trial.
AT_RANDOM, NEVER_STOPS = "random", "fifo"


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Compare(_Part):
    """Which arms a sweep compares with which, and how; None means not declared."""

    baseline: str | None = None
    pairs: list[Annotated[list[str], Field(min_length=2, max_length=2)]] | None = None
    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    controls: dict[str, str] | None = None
    added: list[list[int]] | None = None
    interim: list[int] | None = None
    allow: list[str] | None = None
    sequential: Literal["split", "looks", "fixed"] | None = None
    rule: Literal["difference", "margin"] = "difference"

    @property
    def named(self) -> set[str]:
        """The labels of the arms that the comparisons name."""
        pairs = [*(self.pairs or []), *(self.controls or {}).items()]
        return {label for pair in pairs for label in pair} | {label for label in [self.baseline] if label is not None}

    def refuse_unknown(self, file: Compare, arms: Mapping[str, Mapping[str, Json]]) -> None:
        """Refuse what is named here and not in the file, and is no arm of the results or no key of their experiments.

        Args:
            file: the comparisons of the sweep's file.
            arms: label of an arm of the results -> its whole experiment as plain data.

        Raises:
            InputError: there is no such arm, or no such key.
        """
        for name in sorted(self.named - file.named - set(arms)):
            raise InputError(f"--set: no arm with an ended training is called '{name}'{did_you_mean(name, arms)}")
        for sentence in unfit([key for key in self.allow or [] if key not in (file.allow or [])], arms.values()):
            raise InputError(f"--set: {sentence}")


class DeclaredSearch(_Part):
    """The searcher of a sweep, and its objectives."""

    name: str = GRID
    seed: int = 0
    sampler: object = None
    start: object = None
    metric: str | None = None
    mode: Literal["max", "min"] | None = None
    objectives: dict[str, Literal["max", "min"]] | None = None
    trials: int | None = None


class _Experiment(_Part):
    """The seed of an experiment, and the seeds of the teachers of all its arms."""

    seed: int | None = None
    teachers: list[int | str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _with_teachers(cls, given: object) -> object:
        """Look for the seeds of teachers in every arm; the sweep has the same for all arms."""
        if not isinstance(given, Mapping):
            return given
        return {"seed": given.get("seed"), "teachers": list(dict.fromkeys(_teachers_in(given)))}


def _teachers_in(value: object) -> Iterator[int | str]:
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        if key == "teacher" and isinstance(inner, Mapping):
            seeds = inner.get("seeds")
            yield from (seed for seed in (seeds if isinstance(seeds, list) else [seeds]) if isinstance(seed, int | str))
        yield from _teachers_in(inner)


class Declared(_Part):
    """The parts that a report needs of a resolved sweep, or of the resolved experiment of a single training."""

    search: DeclaredSearch | None = None
    compare: Compare | None = None
    scheduler: object = None
    stop: object = None
    experiment: _Experiment | None = None
    seeds: list[int] | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any], name: str) -> Declared:
        """Read a resolved document.

        Args:
            document: the resolved sweep, or the resolved experiment of a single training.
            name: what the message calls the document's file.

        Raises:
            InputError: a part that a report needs has a wrong form; the message names the first mistake.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InputError(f"{name}: {sentences(error)[0]}") from error

    @property
    def is_search(self) -> bool:
        """Whether the sweep is a search, which ranks its configurations, and not a grid."""
        return self.search is not None and self.search.name != GRID

    @property
    def draws_independently(self) -> bool:
        """Whether a search draws its trials independently of results, and neither stops trials nor ends at a target."""
        if (
            self.search is None
            or self.stop is not None
            or self.scheduler not in (None, NEVER_STOPS, _named(NEVER_STOPS))
        ):
            return False
        at_random = self.search.sampler in (AT_RANDOM, _named(AT_RANDOM)) and not self.search.start
        return self.search.name == AT_RANDOM or (self.search.name == "optuna" and at_random)

    @property
    def comparing(self) -> Compare:
        """The comparisons that the sweep declares."""
        return self.compare or Compare()

    @property
    def first_seeds(self) -> int:
        """The number of seeds of the first verdict: as many as the run declared before it began, at least five."""
        return max(LEAST_SEEDS, len(self.declared_seeds))

    @property
    def exploratory(self) -> str:
        """Why the verdicts are exploratory; empty where they keep their error rate.

        A run that does not say how it allows for further seeds is of an earlier version, and declared a fixed number.
        Seeds that were added below five seeds were added before any verdict.
        """
        seeds, portions = self.all_seeds, self.added
        if self.comparing.sequential not in (None, "fixed") or self.comparing.interim:
            return ""
        counts = [len(seeds) - sum(map(len, portions[place:])) for place in range(len(portions))]
        late = [seed for portion, n in zip(portions, counts, strict=True) if n >= LEAST_SEEDS for seed in portion]
        if not late:
            return ""
        before = next(n for n in counts if n >= LEAST_SEEDS)
        were = f"{'seed' if len(late) == 1 else 'seeds'} {runs_of(sorted(late))} {'was' if len(late) == 1 else 'were'}"
        return (
            f"The verdicts are exploratory: the run declared one test of a fixed number of seeds, and {were} added when"
            f" {before} had a verdict. This raises the rate of false verdicts above 5 %. To confirm a verdict, train"
            " the arms with fresh seeds in a new run."
        )

    @property
    def teachers(self) -> list[int]:
        """The seeds of the teachers; empty where each arm has one teacher."""
        return [seed for seed in (self.experiment.teachers if self.experiment else []) if isinstance(seed, int)]

    @property
    def added(self) -> list[list[int]]:
        """The seeds that were added to the run, in portions, without those that were taken out again."""
        there = set(self.seeds or [])
        portions = [[seed for seed in portion if seed in there] for portion in self.comparing.added or []]
        return [portion for portion in portions if portion]

    @property
    def declared_seeds(self) -> list[int]:
        """The seeds that were declared before the run began: all that were not added."""
        added = {seed for portion in self.added for seed in portion}
        return [seed for seed in self.seeds or [self._only_seed] if seed not in added]

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of every configuration in the order of training.

        Seeds that were added come last, in the order of ``compare.added``, which is frozen: tests that are repeated
        while seeds are added depend on this order.
        """
        return [*self.declared_seeds, *(seed for portion in self.added for seed in portion)]

    @property
    def _only_seed(self) -> int:
        return 1 if self.experiment is None or self.experiment.seed is None else self.experiment.seed


def _named(name: str) -> dict[str, str]:
    """Return a component without options as a resolved document has it."""
    return {"name": name}
