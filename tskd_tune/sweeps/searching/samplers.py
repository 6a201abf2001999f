"""The samplers of an Optuna search: short names with this package's settings, or any class with its own options."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.plain import Document
from tskd_tune.sweeps.searching.objectives import Goals
from tskd_tune.sweeps.searching.optuna_parts import Part, classes, located, part_of, sampler_of
from tskd_tune.sweeps.space.search_space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study

Short = Literal["tpe", "gp", "nsga2", "qmc", "random"]
WHERE: Final = "search.sampler"
# The short name -> Optuna's class, and the options that differ from Optuna's defaults.
SHORT: Final[Mapping[str, tuple[str, Mapping[str, object]]]] = {
    # Groups are the branches of a conditional space: parameters that appear together are modelled together.
    "tpe": ("TPESampler", {"multivariate": True, "group": True}),
    "gp": ("GPSampler", {}),
    "nsga2": ("NSGAIISampler", {}),
    "qmc": ("QMCSampler", {"scramble": True}),
    "random": ("RandomSampler", {}),
}
START_AT_RANDOM: Final = ("tpe", "gp")
# Optuna's default population, and the least number of generations of a search.
LARGEST_POPULATION, GENERATIONS = 50, 4
# The random trials of Optuna's samplers that learn, and the most trials with which a sampler is tried out.
STARTUP, MOST_TRIED = 10, 60
# Of numpy's generator, which Optuna's samplers use.
LARGEST_SEED: Final = 2**32 - 1


def _known(value: str | Document) -> str | Document:
    if isinstance(value, str) and value not in SHORT and ":" not in value and not value[:1].isupper():
        raise ValueError(f"'{value[:100]}' is no sampler{did_you_mean(value, [*SHORT, *classes('BaseSampler')])}")
    return value


SamplerOption: TypeAlias = Annotated[Short | str | Document, BeforeValidator(located), AfterValidator(_known)]
"""A short name, the name of a class, or a mapping with ``name`` or ``hub`` and the options of the class."""


@dataclass(frozen=True)
class Sampling:
    """How the sampler of a search is made.

    Attributes:
        part: the class with its options.
        seed: the seed of the search.
        is_known: whether this package knows that the sampler can search every space.
    """

    part: Part
    seed: int
    is_known: bool

    def make(self, known: int = 0) -> BaseSampler:
        """Return a new sampler; after ``known`` trials its draws are others, so that it does not repeat these trials.

        Raises:
            InputError: an option is unknown or wrong, or another package is needed.
        """
        return sampler_of(self.part, (self.seed + known) % (LARGEST_SEED + 1))

    def guard(self) -> AbstractContextManager[None]:
        """Return a context that names the sampler in any error that it raises while the search runs."""
        from tskd_tune.sweeps.searching.plug_in_errors import kept

        return kept(self.part)

    def check(self, space: SearchSpace, goals: Goals) -> None:
        """Refuse a sampler that cannot search a space, after a few trials with made-up results.

        Raises:
            InputError: the sampler raises an error, or would draw every parameter at random.
        """
        if self.is_known:
            return
        if not self.part.takes("seed"):
            warnings.warn(f"{WHERE}: '{self.part.name}' takes no seed, so its search cannot be repeated", stacklevel=2)
        sampler = self.make()
        with self.part.named("cannot search this space"):
            study = self._tried(sampler, space, goals)
        self._check_modelled(sampler, space, study)

    def _tried(self, sampler: BaseSampler, space: SearchSpace, goals: Goals) -> Study:
        import optuna
        from optuna.study import StudyDirection

        from tskd_tune.sweeps.searching.proposals import drawing_from

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE for mode in goals.values()]
        study = optuna.create_study(sampler=sampler, directions=directions)
        startup, chance = self.part.options.get("n_startup_trials", STARTUP), Random(0)
        trials = min(MOST_TRIED, (startup if isinstance(startup, int) else STARTUP) + 2)
        for _ in range(min(trials, space.size() or trials)):
            trial = study.ask()
            space.sample(drawing_from(trial))
            study.tell(trial, [chance.random() for _ in goals])
        return study

    def _check_modelled(self, sampler: BaseSampler, space: SearchSpace, study: Study) -> None:
        """Refuse or warn where the sampler learns nothing of some parameters, as it would only log."""
        from optuna.samplers import CmaEsSampler, TPESampler

        told = "warn_independent_sampling" in inspect.signature(self.part.factory).parameters
        if not told or isinstance(sampler, TPESampler):  # a tree-structured estimator models each parameter by itself
            return
        modelled = sampler.infer_relative_search_space(study, study.trials[-1])
        rest = [hole.name for hole in space.holes() if hole.name not in modelled and len(hole.extremes()) > 1]
        least = 2 if isinstance(sampler, CmaEsSampler) else 1
        if len(modelled) < least:
            raise InputError(
                f"{WHERE}: '{self.part.name}' learns from {least} or more search parameters that are numbers and that"
                f" every trial has, but this space has {len(modelled)}, so the search would be a random one; use tpe,"
                " which learns from choices and branches too"
            )
        if rest:
            warnings.warn(
                f"{WHERE}: '{self.part.name}' draws {', '.join(rest)} at random, because it learns only from numbers"
                f" that every trial has ({', '.join(modelled)}); tpe learns from choices and branches too",
                stacklevel=2,
            )


def sampling(
    given: str | Document, trials: int, *, startup_trials: int | None, population: int | None, seed: int
) -> Sampling:
    """Return how the sampler of a search is made.

    Args:
        given: a short name, the name of a class, or a mapping.
        trials: the number of trials of the search.
        startup_trials: the option of the search; None: not given.
        population: the option of the search; None: not given.
        seed: the seed of the search.

    Raises:
        InputError: there is no such sampler, or it has no such option.
    """
    asked: Document = {"name": given} if isinstance(given, str) else dict(given)
    name = str(asked.get("name"))
    short = name if name in SHORT and "hub" not in asked else None
    _check(short or given, startup_trials, population)
    if short is not None:
        of_class, settings = SHORT[short]
        own = {} if startup_trials is None else {"n_startup_trials": startup_trials}
        own |= {"population_size": _population(population, trials)} if short == "nsga2" else {}
        asked = {**settings, **own, **asked, "name": of_class}
    return Sampling(part_of(asked, "BaseSampler", WHERE), seed, is_known=isinstance(given, str) and short is not None)


def _check(sampler: str | Document, startup_trials: int | None, population: int | None) -> None:
    """Refuse options of the search that the sampler does not have."""
    named = isinstance(sampler, str) and sampler in SHORT
    for option, value, fitting, of_class in (
        ("startup_trials", startup_trials, START_AT_RANDOM, "n_startup_trials"),
        ("population", population, ("nsga2",), "population_size"),
    ):
        if value is None or sampler in fitting:
            continue
        lacks = "random start" if option == "startup_trials" else "generations"
        if named:
            use = " or ".join(fitting)
            raise InputError(f"search.{option}: the sampler '{sampler}' has no {lacks}; leave it out, or use {use}")
        raise InputError(f"search.{option}: is for the short names of samplers; give {WHERE}.{of_class} instead")


def _population(population: int | None, trials: int) -> int:
    return max(2, min(LARGEST_POPULATION, trials // GENERATIONS)) if population is None else population
