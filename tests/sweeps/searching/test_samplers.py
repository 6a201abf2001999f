"""Any sampler by name: its options, what it is refused for, where it comes from, and what a resume makes of it."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from optuna import samplers
from optuna.trial import TrialState

from tskd_tune.errors import InputError, RunError
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.messages.results import EpochMeans, TrialResult
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.scheduling.schedulers import SCHEDULERS
from tskd_tune.sweeps.searching.known import Known
from tskd_tune.sweeps.searching.optuna_parts import UNFIT, classes
from tskd_tune.sweeps.searching.plug_in_errors import ending
from tskd_tune.sweeps.searching.samplers import LARGEST_SEED, SHORT, sampling
from tskd_tune.sweeps.searching.search import SEARCHERS
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace

NUMBERS = "{x: {uniform: [0, 1]}, y: {loguniform: [0.1, 10]}, k: {int: [1, 9]}}"
FINITE = "{k: {int: [1, 5]}, n: {int: [1, 4]}, c: {choice: [a, b]}}"
MIXED = "{x: {uniform: [0, 1]}, y: {uniform: [0, 1]}, c: {choice: [a, b]}}"
CHOICES = "{c: {choice: [a, b, c]}, d: {choice: [1, 2, 3, 4]}}"
EPOCHS, TRIALS = 3, 24
# Options that keep a sampler short of Optuna's long random start; GP needs a second for each point it models.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "GPSampler": {"n_startup_trials": 2},
    "CmaEsSampler": {"popsize": 4},
    "NSGAIISampler": {"population_size": 4},
    "NSGAIIISampler": {"population_size": 4},
}


def described(point: Point) -> TrialConfig:
    return TrialConfig(point.label, point.values, point.experiment)


def searcher(sampler: Any, text: str = NUMBERS, *, trials: int = TRIALS, goals: Any = None, **options: Any) -> Any:
    space = SearchSpace(yaml.safe_load(text))
    goals = goals or {"val_top1": "max"}
    return SEARCHERS.build("optuna", space, described, goals, None, trials=trials, sampler=sampler, **options)[0]


def value_of(point: Mapping[str, Any]) -> float:
    numbers = [value for value in point.values() if isinstance(value, int | float)]
    return 100 - sum((value - 0.4) ** 2 for value in numbers)


def trained(one: Any, numbers: range) -> dict[int, Known]:
    """Train trials one after the other; every fifth is stopped after its first epoch."""
    found: dict[int, Known] = {}
    for number in numbers:
        config = one.suggest(f"t{number}")
        assert config["number"] == number
        epochs = 1 if number % 5 == 4 else EPOCHS
        results = [EpochMeans(epoch, {"val_top1": value_of(config["point"]) + epoch}) for epoch in range(epochs)]
        end = TrialResult(epochs - 1, EPOCHS, [], numbers=results[-1].numbers, done=True)
        for result in results[: -1 if epochs == EPOCHS else epochs]:
            one.on_trial_result(f"t{number}", result.plain())
        one.on_trial_complete(f"t{number}", end.plain())
        found[number] = Known(json.loads(json.dumps(config["point"])), results, end)
    return found


def points(found: Mapping[int, Known]) -> list[Mapping[str, object]]:
    return [known.point for _, known in sorted(found.items())]


def given(name: str) -> dict[str, Any]:
    return {"name": name, **OPTIONS.get(name, {})}


def space_of(name: str) -> str:
    return FINITE if name == "BruteForceSampler" else NUMBERS


# Every class


SAMPLERS = [
    pytest.param(name, marks=pytest.mark.long if name == "GPSampler" else ()) for name in sorted(classes("BaseSampler"))
]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_of_optuna_searches_the_same_way_again_and_resumes_as_if_unbroken(name: str) -> None:
    """With one trial at a time, a search that was cut off proposes what it would have proposed."""
    trials, cut = (5, 4) if name == "GPSampler" else (TRIALS, 15)
    first, again, resumed = (searcher(given(name), space_of(name), trials=trials, seed=3) for _ in range(3))
    whole = trained(first, range(trials))
    assert points(trained(again, range(trials))) == points(whole)
    assert len({json.dumps(point) for point in points(whole)}) == trials
    resumed.take_up({number: whole[number] for number in range(cut)}, highest=cut - 1)
    assert points(trained(resumed, range(cut, trials))) == points(whole)[cut:]
    states = [[trial.state for trial in one.study.trials] for one in (first, resumed)]
    assert states[0] == states[1] and (trials < 5) == (TrialState.PRUNED not in states[0])
    other = searcher(given(name), space_of(name), trials=trials, seed=4)
    assert points(trained(other, range(trials))) != points(whole), "the search's seed is the sampler's"


def test_every_class_of_optuna_is_known_or_refused_with_a_reason() -> None:
    abstract = {"BaseSampler", "BaseGASampler"}
    assert {*classes("BaseSampler"), *UNFIT, *abstract} >= set(samplers.__all__) - {"nsgaii"}
    for name in set(UNFIT) & set(samplers.__all__):
        with pytest.raises(InputError, match=f"search.sampler: '{name}' .*; (use|write)"):
            searcher(name)
    for name in abstract:
        with pytest.raises(InputError, match=f"'{name}' is no class of optuna.samplers"):
            searcher(name)


@pytest.mark.parametrize("name", SHORT)
def test_a_short_name_is_its_class_with_this_packages_settings(name: str) -> None:
    of_class, settings = SHORT[name]
    short, whole = (searcher(one, startup_trials=None) for one in (name, {"name": of_class, **settings}))
    short_population = {"population_size": 6} if name == "nsga2" else {}  # a quarter of the trials
    whole = searcher({"name": of_class, **settings, **short_population})
    assert points(trained(short, range(8))) == points(trained(whole, range(8)))


def test_trials_that_ran_at_once_are_told_in_place_of_repeated() -> None:
    """What a sampler proposed beside running trials does not come again; then it learns the points as they are."""
    for name in ("tpe", given("CmaEsSampler"), given("NSGAIISampler"), "qmc"):
        one, resumed = searcher(name), searcher(name)
        known = trained(one, range(12))
        swapped = {0: known[3], **{number: known[number] for number in (1, 2, 4, 5, 6, 7)}, 3: known[0]}
        resumed.take_up(swapped, highest=9)
        values = [trial.user_attrs["number"] for trial in resumed.study.trials]
        assert values == sorted(swapped)
        fresh = resumed.suggest("next")
        assert fresh["number"] == 10 and fresh["point"] not in points(swapped)


# Options


@pytest.mark.parametrize(
    ("sampler", "sentence"),
    [
        ("tpee", r"'tpee' is no sampler; did you mean 'tpe'\? known: BruteForceSampler, CmaEsSampler"),
        ("CmaEs", r"'CmaEs' is no class of optuna.samplers; did you mean 'CmaEsSampler'\?"),
        (
            {"popsize": 3},
            r"search.sampler: must be a name, or a mapping with a 'name' or a 'hub', got \{'popsize': 3\}",
        ),
        (
            given("CmaEsSampler") | {"sigma": 1},
            r"sampler.sigma: 'CmaEsSampler' has no option 'sigma'; did you mean 'sigma0'",
        ),
        (given("CmaEsSampler") | {"popsize": "many"}, r"search.sampler.popsize: must be an integer, got 'many'"),
        (
            given("TPESampler") | {"seed": 3},
            r"sampler.seed: the seed of a sampler is search.seed; give the number there",
        ),
        (given("TPESampler") | {"gamma": "len"}, r"search.sampler.gamma: needs an object of Python, .* module:Class"),
        (
            given("QMCSampler") | {"independent_sampler": {"name": "TPESampler", "multi": True}},
            r"search.sampler.independent_sampler.multi: 'TPESampler' has no option 'multi'",
        ),
        (
            given("QMCSampler") | {"qmc_type": "sob"},
            r"'QMCSampler' cannot be built with these options \(ValueError: .*sob",
        ),
        (
            "BoTorchSampler",
            r"'BoTorchSampler' needs other packages \(.*\): pip install 'optuna-integration\[botorch\]'",
        ),
        ("nothing_here:Class", r"search.sampler: 'nothing_here:Class' cannot be imported: .* no nothing_here.py"),
        (
            "json:JSONDecoder",
            r"search.sampler: 'json:JSONDecoder' is no sampler of Optuna: it is the class JSONDecoder",
        ),
    ],
)
def test_what_is_wrong_with_a_sampler_is_said(sampler: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        searcher(sampler)


def test_parts_of_a_sampler_are_given_by_name_too() -> None:
    crossover = {"name": "SBXCrossover", "eta": 3.0}
    one = searcher({"name": "NSGAIISampler", "population_size": 4, "crossover": crossover})
    plain = searcher({"name": "NSGAIISampler", "population_size": 4})
    assert points(trained(one, range(16))) != points(trained(plain, range(16)))
    independent = {"name": "QMCSampler", "independent_sampler": "TPESampler"}
    assert isinstance(searcher(independent).study.sampler._independent_sampler, samplers.TPESampler)


@pytest.mark.parametrize("option", ["startup_trials", "population"])
def test_options_of_short_names_are_refused_beside_a_class(option: str) -> None:
    with pytest.raises(
        InputError, match=rf"search.{option}: is for the short names .* give search.sampler\.\w+ instead"
    ):
        searcher({"name": "TPESampler"}, **{option: 5})


# Spaces and objectives


def test_a_sampler_that_would_draw_everything_at_random_is_refused() -> None:
    # Older versions of Optuna do not see that one number is too few; then cmaes refuses it.
    told = r"'CmaEsSampler' (learns from 2 or more .* the search would be a random one|cannot search this space \()"
    for text in (CHOICES, "{x: {uniform: [0, 1]}, c: {choice: [a, b]}}"):
        with pytest.raises(InputError, match=told):
            searcher("CmaEsSampler", text, trials=6)
    with pytest.warns(UserWarning, match=r"'CmaEsSampler' draws c at random, .* \(x, y\); tpe learns from choices"):
        searcher("CmaEsSampler", MIXED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        searcher("CmaEsSampler", NUMBERS)
        searcher("TPESampler", MIXED)


def test_a_sampler_that_cannot_search_a_space_or_its_objectives_is_refused_with_its_own_error() -> None:
    with pytest.raises(InputError, match=r"'BruteForceSampler' cannot search this space \(ValueError: .*step"):
        searcher("BruteForceSampler", NUMBERS)
    with pytest.raises(InputError, match=r"'CmaEsSampler' cannot search this space \(ValueError: .*multi-objective"):
        searcher("CmaEsSampler", NUMBERS, goals={"val_top1": "max", "seconds": "min"})


def test_brute_force_tries_every_point_and_then_the_search_ends() -> None:
    one = searcher("BruteForceSampler", CHOICES, trials=12)
    found = trained(one, range(12))
    assert len({json.dumps(point) for point in points(found)}) == 12
    assert one.suggest("more") == "FINISHED"


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    monkeypatch.delitem(sys.modules, "optuna.samplers._cmaes", raising=False)
    from optuna._imports import _LazyImport

    monkeypatch.setattr("optuna.samplers.CmaEsSampler.sample_relative", _importing("cmaes"))
    assert _LazyImport is not None
    with pytest.raises(InputError, match=r"needs the package 'cmaes', .* pip install 'tskd-tune\[samplers\]'"):
        searcher("CmaEsSampler")


def _importing(name: str) -> Any:
    def sample(*args: Any) -> None:
        __import__(name)

    return sample


# Plug-ins


PLUG_IN = """
import optuna

class Mine(optuna.samplers.RandomSampler):
    def __init__(self, *, seed=None, shift: float = 0.0, breaks_after: int = 10**9):
        super().__init__(seed=seed)
        self.shift, self.breaks_after, self.asked = shift, breaks_after, 0

    def sample_independent(self, study, trial, name, distribution):
        self.asked += 1
        if self.asked > self.breaks_after:
            raise KeyError("the plug-in's own trouble")
        return super().sample_independent(study, trial, name, distribution)

class Seedless(optuna.samplers.RandomSampler):
    def __init__(self):
        super().__init__()

__all__ = ["Mine"]
"""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A copy of a registry of OptunaHub with packages of one class, of two, and of a broken module."""
    pytest.importorskip("optunahub")
    packages = {"mine": PLUG_IN, "two": PLUG_IN.replace('["Mine"]', '["Mine", "Seedless"]'), "broken": "import nowhere"}
    for name, code in packages.items():
        folder = tmp_path / "package" / "samplers" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(code)
    return tmp_path


def test_a_sampler_comes_from_a_folder_with_packages_of_optunahub(registry: Path) -> None:
    one = {"hub": "samplers/mine", "registry": str(registry), "shift": 2.5}
    first, second = searcher(one, seed=1), searcher(one, seed=1)
    assert first.study.sampler.shift == 2.5
    whole = trained(first, range(8))
    second.take_up({number: whole[number] for number in range(5)})
    assert points(trained(second, range(5, 8))) == points(whole)[5:]
    inner = {**one, "registry": str(registry / "package")}
    assert points(trained(searcher(inner, seed=1), range(3))) == points(whole)[:3]


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({"shft": 1}, r"search.sampler.shft: 'samplers/mine' has no option 'shft'; did you mean 'shift'\?"),
        ({"hub": "samplers/other"}, r"search.sampler.registry: .* has no package 'samplers/other'"),
        ({"hub": "../mine"}, r"search.sampler.hub: '../mine' names no package; write it as samplers/auto_sampler"),
        ({"hub": "samplers/two"}, r"this one offers several \(Mine, Seedless\); name one as search.sampler.name"),
        ({"hub": "samplers/two", "name": "Min"}, r"the package offers no sampler 'Min'; did you mean 'Mine'\?"),
        ({"hub": "samplers/broken"}, r"'samplers/broken' needs the package 'nowhere', which is not installed"),
        ({"ref": "v1"}, r"search.sampler.ref: a folder has one version; leave ref or registry out"),
        ({"registry": None, "ref": "--upload-pack=x"}, r"search.sampler.ref: '--upload-pack=x' names no version"),
        ({"breaks_after": 3}, r"'samplers/mine' cannot search this space \(KeyError: \"the plug-in's own trouble\""),
    ],
)
def test_what_is_wrong_with_a_package_is_said(registry: Path, over: dict[str, Any], sentence: str) -> None:
    asked = {"hub": "samplers/mine", "registry": str(registry), **over}
    with pytest.raises(InputError, match=sentence):
        searcher({key: value for key, value in asked.items() if value is not None})


def test_a_package_that_cannot_be_fetched_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    optunahub = pytest.importorskip("optunahub")

    def no_network(package: str, ref: str) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(optunahub, "load_module", no_network)
    with pytest.raises(
        InputError, match=r"'samplers/auto_sampler', version 'main', cannot be fetched .* search.sampler.reg"
    ):
        searcher({"hub": "samplers/auto_sampler"})


def test_a_sampler_without_a_seed_is_told_apart(registry: Path) -> None:
    with pytest.warns(UserWarning, match="'samplers/two' takes no seed, so its search cannot be repeated"):
        searcher({"hub": "samplers/two", "registry": str(registry), "name": "Seedless"})


def test_an_error_of_a_plug_in_is_named_as_the_plug_ins(registry: Path) -> None:
    one = searcher({"hub": "samplers/mine", "registry": str(registry), "breaks_after": 36})
    scheduler: Any = SCHEDULERS.build("fifo", 3, [], "val_top1", "max")
    nothing = SimpleNamespace(get_trials=list)
    with pytest.raises(RunError, match="own trouble"), ending(scheduler):
        assert scheduler.choose_trial_to_run(nothing) is None
        with pytest.raises(RunError):
            trained(searcher({"hub": "samplers/mine", "registry": str(registry), "breaks_after": 36}), range(20))
        with pytest.raises(RunError, match="own trouble"):
            scheduler.choose_trial_to_run(nothing)
    with pytest.raises(RunError, match=r"search.sampler: 'samplers/mine' failed \(KeyError: \"the plug-in's own tr"):
        trained(one, range(20))


def test_paths_are_those_of_the_file(registry: Path, tiny_document: dict[str, Any]) -> None:
    training = {**tiny_document["training"], "lr": {"loguniform": [0.01, 0.1]}, "momentum": {"uniform": [0.5, 0.9]}}
    for sampler in ({"hub": "samplers/mine", "registry": "package"}, "mysampler:Mine", {"name": "mysampler:Mine"}):
        search = {"name": "optuna", "trials": 3, "sampler": sampler, "metric": "val_loss", "mode": "min"}
        plain = {"experiment": {**tiny_document, "training": training}, "search": search}
        (registry / "sweep.yaml").write_text(yaml.safe_dump(plain))
        (registry / "mysampler.py").write_text(PLUG_IN)
        sweep = Sweep.load(registry / "sweep.yaml")
        again = Sweep.read(json.loads(json.dumps(sweep.plain())))
        found, _ = again.searcher_for(again.space())
        assert type(found.study.sampler).__name__ == "Mine"


def test_the_dry_run_leaves_optuna_quiet(caplog: pytest.LogCaptureFixture) -> None:
    optuna.logging.enable_propagation()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            searcher("CmaEsSampler", MIXED)
    finally:
        optuna.logging.disable_propagation()
    assert not caplog.records


@pytest.mark.parametrize("name", SHORT)
def test_the_largest_seed_also_goes_on(name: str) -> None:
    sampler = sampling(name, 4, startup_trials=None, population=None, seed=LARGEST_SEED).make(known=3)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert len(study.trials) == 2


def test_a_seed_that_no_sampler_takes_is_named(tiny_document: dict[str, Any]) -> None:
    search = {"name": "optuna", "trials": 3, "seed": LARGEST_SEED + 1}
    with pytest.raises(InputError, match=f"search.seed: must be less than or equal to {LARGEST_SEED}"):
        Sweep.read({"experiment": tiny_document, "seeds": [1], "search": search})
