"""In which portions a grid is trained, with a stand-in for Ray Tune: extensions, interim analyses, resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.search import Searcher

import factories
from tskd_tune.experiment import Experiment
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps import stages
from tskd_tune.sweeps.declared.configs import Describe
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.evidence import interim
from tskd_tune.sweeps.evidence.interim import Interim
from tskd_tune.sweeps.limits import Limits
from tskd_tune.sweeps.tuning import Tuning

Training = tuple[str, str, int]


class Tune:
    """Trains all configs at once, except those that it is told to break and those beyond its capacity."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.batches: list[list[Training]] = []
        self.breaks: set[tuple[str, int]] = set()
        self.capacity = 100

    def train(self, searcher: Any, scheduler: Any, trials: int) -> bool:
        configs = [searcher.suggest(f"t{place}") for place in range(trials)]
        assert searcher.suggest("more") == Searcher.FINISHED
        now, self.capacity = configs[: self.capacity], max(0, self.capacity - len(configs))
        self.batches.append([(f"{c['number']:05d}", c["arm"], c["seeds"][0]) for c in now])
        for config in now:
            self.folder.trial_path(f"{config['number']:05d}").mkdir(parents=True, exist_ok=True)
            self.folder.add_row(a_row(config, broke=(config["arm"], config["seeds"][0]) in self.breaks))
        return len(now) == len(configs)


def a_row(config: dict[str, Any], *, broke: bool) -> Row:
    facts = {"status": "failed" if broke else "done", "broke": broke, "experiment": config["experiment"]}
    return factories.a_row(f"{config['number']:05d}", config["seeds"][0], config["arm"], planned=6, **facts)


@pytest.fixture
def sweep(tiny_document: dict[str, Any]) -> dict[str, Any]:
    experiment = {**tiny_document, "choice": {"plain": {"review": None}, "tskd": {}}}
    return {"experiment": experiment, "seeds": [1, 2], "search": {"name": "grid"}}


@pytest.fixture
def fake(tmp_path: Path, sweep: dict[str, Any]) -> Tune:
    return Tune(RunFolder.create(tmp_path, "run", "sweep", Sweep.read(sweep).plain(), expected=4))


class FakeTuning(Tuning):
    """Hands the trials of a sweep to a stand-in for Ray Tune."""

    def __init__(self, sweep: Sweep, fake: Tune) -> None:
        object.__setattr__(self, "sweep", sweep)
        object.__setattr__(self, "folder", fake.folder)
        object.__setattr__(self, "limits", Limits())
        object.__setattr__(self, "fake", fake)

    def train(self, searcher: Any, scheduler: Any, trials: int) -> bool:
        return self.fake.train(searcher, scheduler, trials)


def train(fake: Tune, document: dict[str, Any], heard: list[Event] | None = None) -> bool:
    """Train what is missing; return whether everything has ended."""
    return stages.train(FakeTuning(Sweep.read(document), fake), (lambda event: None) if heard is None else heard.append)


FIRST = [("00000", "plain", 1), ("00001", "tskd", 1), ("00002", "plain", 2), ("00003", "tskd", 2)]


def test_a_grid_is_trained_seed_by_seed_at_once_and_never_again(fake: Tune, sweep: dict[str, Any]) -> None:
    assert train(fake, sweep) and fake.batches == [FIRST]
    assert train(fake, sweep) and fake.batches == [FIRST]


def test_a_point_is_read_once_however_many_seeds_and_steps_ask_for_it(
    fake: Tune, sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    original = Experiment.read
    monkeypatch.setattr(Experiment, "read", lambda document: [read.append(document), original(document)][1])
    given = Sweep.read({**sweep, "seeds": list(range(1, 21))})
    assert len(stages.missing(given, fake.folder, given.all_seeds())) == 40
    assert stages.expected_rows(given) == 40 and given.scheduler_for(given.space()) is not None
    assert len(read) == 2


def test_a_pickled_description_of_trials_reads_the_sweep_again(sweep: dict[str, Any]) -> None:
    """Ray Tune pickles a searcher, and with it the object that makes the configs of its trials."""
    given = Sweep.read(sweep)
    describe = Describe(given, [1, 2])
    again = cloudpickle.loads(cloudpickle.dumps(describe))
    for point in given.space().grid():
        assert again(point) == describe(point) and describe(point).seeds == [1, 2]


def test_an_empty_folder_reserves_no_number_and_a_checkpoint_does(fake: Tune) -> None:
    folder = fake.folder
    folder.trial_path("00004").mkdir(parents=True)
    assert stages.highest_number(folder) == -1, "Ray Tune makes it before the trial begins"
    folder.begin(Begun(run="00002", arm="plain", seeds=[1], epochs=6))
    assert stages.highest_number(folder) == 2
    (folder.trial_path("00003") / "checkpoint_000000").mkdir(parents=True)
    assert stages.highest_number(folder) == 3, "a trial with this number would go on from the checkpoint of another"


def test_what_was_added_is_trained_under_new_numbers(fake: Tune, sweep: dict[str, Any]) -> None:
    train(fake, sweep)
    more = {key: value for key, value in sweep["experiment"].items() if key != "choice"}
    train(fake, {**sweep, "seeds": [1, 2, 7], "arms": {"more": more}})
    assert fake.batches[1:] == [
        [("00004", "more", 1), ("00005", "more", 2), ("00006", "plain", 7), ("00007", "tskd", 7), ("00008", "more", 7)]
    ]
    assert fake.folder.state.expected == 9


def test_a_sweep_that_was_cut_off_stops_there_and_goes_on(fake: Tune, sweep: dict[str, Any]) -> None:
    fake.capacity = 3
    assert not train(fake, sweep) and len(fake.folder.rows()) == 3
    fake.capacity = 100
    train(fake, {**sweep, "seeds": [1, 2, 3]})
    assert fake.batches == [FIRST[:3], [("00003", "tskd", 2), ("00004", "plain", 3), ("00005", "tskd", 3)]]
    train(fake, {**sweep, "seeds": [1, 2, 3, 4]})
    assert fake.batches[2] == [("00006", "plain", 4), ("00007", "tskd", 4)]


def test_what_broke_keeps_no_other_from_training_and_is_trained_again(fake: Tune, sweep: dict[str, Any]) -> None:
    fake.breaks = {("tskd", 1)}
    assert train(fake, sweep) and len(fake.folder.rows()) == 4
    fake.breaks = set()
    train(fake, {**sweep, "seeds": [1, 2, 3]})
    assert fake.batches[1] == [("00001", "tskd", 1), ("00004", "plain", 3), ("00005", "tskd", 3)]
    assert all(row.ended for row in fake.folder.rows())


def test_interim_analyses_are_made_between_portions_of_seeds_and_end_the_sweep(
    fake: Tune, sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []

    def judge(folder: RunFolder, at: int) -> Interim:
        assert len(folder.rows()) == 2 * at, "an analysis waits for all runs of its seeds"
        judged.append(at)
        return Interim(at=at, stop=at == 6, sentence=f"at {at}")

    monkeypatch.setattr(interim, "_judged", judge)
    heard: list[Event] = []
    declared = {**sweep, "seeds": list(range(1, 9)), "compare": {"interim": [5, 6, 8]}}
    train(fake, declared, heard)
    assert judged == [5, 6] and [len(batch) for batch in fake.batches] == [10, 2]
    assert [(event.what, event.reason) for event in heard] == [("interim", "at 5"), ("interim", "at 6")]
    assert RunFolder.open(fake.folder.path).state.expected == 12
    train(fake, declared)
    assert judged == [5, 6] and len(fake.folder.rows()) == 12 and fake.folder.state.expected == 12


def test_an_analysis_waits_for_what_broke(fake: Tune, sweep: dict[str, Any]) -> None:
    fake.breaks = {("tskd", 1)}
    declared = {**sweep, "seeds": list(range(1, 9)), "compare": {"interim": [5, 8]}}
    assert train(fake, declared)
    assert interim.analyses(fake.folder) == {} and len(fake.folder.rows()) == 10
