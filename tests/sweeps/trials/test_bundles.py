"""Trainings that share a process: a bundle is only a schedule, so a run's records are those of trainings alone."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.exceptions import RayActorError, RayError

from tskd_tune import documents
from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.networks.weights import read_state
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps import packing
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.evidence.extension import Addition
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.packing import GIBIBYTE, MOST, Memory
from tskd_tune.sweeps.run import extend, resume, start
from tskd_tune.sweeps.trials.bundles import bundled
from tskd_tune.sweeps.trials.shipped import Shipped
from tskd_tune.sweeps.trials.trainable import SweepTrial
from tskd_tune.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))
from stand_in import Cluster, installed

EPOCHS = 4
# The learning rate of the arm whose second epoch raises an exception, and the one that diverges.
RAISES, DIVERGES = 0.02, 1e20
ARMS = {
    "plain": {"review": None},
    "tskd": {},
    "short": {"review": None, "training": {"epochs": 2}},
    "diverges": {"review": None, "training": {"lr": DIVERGES}},
    "raises": {"review": None, "training": {"lr": RAISES}},
}
Records = dict[tuple[str, int], dict[str, Any]]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return installed(monkeypatch)


@pytest.fixture
def grid(tiny_document: dict[str, Any]) -> dict[str, Any]:
    """Arms of which one is shorter, one diverges and one raises an exception; checkpoints after every epoch."""
    experiment = {**tiny_document, "choice": ARMS}
    experiment["training"] = {**tiny_document["training"], "epochs": EPOCHS, "checkpoint": {"seconds": 0}}
    return {"experiment": experiment, "seeds": [1, 2], "search": {"name": "grid"}}


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the second epoch of one arm raise an exception."""
    whole = Trainer.begin

    def begin(self: Trainer, epoch: int | None = None) -> None:
        if self.recipe.lr == RAISES and self.next_epoch == 1:
            raise ZeroDivisionError("by nothing")
        whole(self, epoch)

    monkeypatch.setattr(Trainer, "begin", begin)


def silent(event: Event) -> None:
    pass


def begin(
    document: dict[str, Any], folder: Path, together: int, *, concurrent: int | None = None, **over: Any
) -> RunFolder:
    """Run a sweep, whose failures are in its rows."""
    given = {**document, "resources": {"together": together, "concurrent": concurrent}, **over}
    try:
        return start(Sweep.read(given), f"run-{together}", folder, silent, track=False)
    except RunError:
        return RunFolder.open(folder / f"run-{together}")


def again(folder: RunFolder, together: int | None = None) -> RunFolder:
    """Resume a run, perhaps with another size of bundles."""
    if together is not None:
        folder.replace_document({**folder.document(), "resources": {"together": together}})
    try:
        return resume(RunFolder.open(folder.path), silent, track=False)
    except RunError:
        return RunFolder.open(folder.path)


def records(folder: RunFolder) -> Records:
    """Return what a run recorded of each training, without what depends on the clock and on the process."""
    found = {}
    for row in folder.rows():
        plain = row.plain()
        cost = plain.pop("cost")
        for name in ("started", "finished", "protocol"):
            del plain[name]
        lines = [line for line in folder.history(row.run) if line.seed == row.seed]
        history = [{k: v for k, v in line.numbers.items() if "seconds" not in k} for line in lines]
        found[row.arm, row.seed] = {"row": plain, "history": history, "epochs": [line.epoch for line in lines]}
        assert cost["seconds"] >= cost["train_seconds"] >= 0
    return found


def students(folder: RunFolder) -> dict[tuple[str, int], dict[str, torch.Tensor]]:
    done = [row for row in folder.rows() if row.status == "done"]
    return {(row.arm, row.seed): read_state(folder.student_path(row.run, row.seed)).state for row in done}


def same(folder: RunFolder, other: RunFolder) -> None:
    """Assert that two runs recorded the same trainings, to the bit."""
    ours, theirs = records(folder), records(other)
    assert ours.keys() == theirs.keys()
    for key, record in ours.items():
        assert record == theirs[key], key
    mine, its = students(folder), students(other)
    assert mine.keys() == its.keys() and mine
    for key, state in mine.items():
        assert all(torch.equal(tensor, its[key][name]) for name, tensor in state.items()), key


def config(number: int, **training: Any) -> TrialConfig:
    return TrialConfig(f"arm {number}", {}, {"training": {"lr": 0.1 * number, **training}}, [1], number=number)


def numbers(bundles: Sequence[TrialConfig]) -> list[list[int]]:
    return [[member.number for member in bundle.members()] for bundle in bundles]


@pytest.mark.parametrize(
    ("count", "together", "places", "wanted"),
    [
        (5, 1, 1, [[0], [1], [2], [3], [4]]),
        (5, 2, 1, [[0, 1], [2], [3, 4]]),
        (4, 3, 1, [[0, 1], [2, 3]]),
        (4, 9, 1, [[0, 1, 2, 3]]),
        (4, 9, 2, [[0, 1], [2, 3]]),
        (2, 9, 8, [[0], [1]]),
    ],
)
def test_bundles_are_even_and_leave_no_place_empty(
    count: int, together: int, places: int, wanted: list[list[int]]
) -> None:
    assert numbers(bundled([config(number) for number in range(count)], together, places)) == wanted


def test_a_bundle_computes_in_one_way() -> None:
    configs = [config(number, precision="bfloat16" if number % 2 else "float32", epochs=number) for number in range(6)]
    assert numbers(bundled(configs, 9)) == [[0, 2, 4], [1, 3, 5]]
    assert numbers(bundled(configs, 2)) == [[0, 2], [1, 3], [4], [5]]


@pytest.mark.usefixtures("raising")
def test_trainings_together_leave_the_records_of_trainings_alone(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path
) -> None:
    alone, together = begin(grid, tmp_path, 1), begin(grid, tmp_path, 3)
    same(together, alone)
    assert [asked.tune.num_samples for asked in cluster.asked] == [10, 4]
    rows = {(row.arm, row.seed): row for row in together.rows()}
    assert len(rows) == 10 == together.state.expected
    statuses = {arm: row.status for (arm, _), row in rows.items()}
    assert statuses == {"plain": "done", "tskd": "done", "short": "done", "diverges": "failed", "raises": "failed"}
    assert rows["raises", 1].broke and not rows["diverges", 1].broke
    assert "ZeroDivisionError" in together.error_path(rows["raises", 1].run, 1).read_text()
    assert {row.cost.together for row in alone.rows()} == {1}
    assert rows["plain", 1].cost.together > 1
    begun = together.begun()
    assert len({begun[row.run].bundle or row.run for row in rows.values()}) == 4, "one process for each bundle"


@pytest.mark.usefixtures("raising")
@pytest.mark.parametrize(("after", "first", "second"), [(1, 3, 3), (5, 3, 2), (5, 1, 5), (6, 5, 1)])
def test_a_run_that_was_cut_off_goes_on_in_other_bundles(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path, after: int, first: int, second: int
) -> None:
    alone = begin(grid, tmp_path / "alone", 1)
    cluster.results, cluster.cut_off_after = 0, after
    with pytest.raises(KeyboardInterrupt):
        begin(grid, tmp_path, first)
    cut = RunFolder.open(tmp_path / f"run-{first}")
    ended = {row.key: row for row in cut.rows() if row.ended}
    trained = {run: len(cut.history(run)) for run in cut.begun()}
    assert len(cut.rows()) < 10 and sum(trained.values()) > 0
    cluster.cut_off_after = None
    steps: list[int] = []
    whole = Trainer.begin
    with pytest.MonkeyPatch.context() as patch:

        def counted(self: Trainer, epoch: int | None = None) -> None:
            whole(self, epoch)
            steps.append(self.next_epoch)

        patch.setattr(Trainer, "begin", counted)
        folder = again(cut, second)
    assert all({row.key: row for row in folder.rows()}[key] == row for key, row in ended.items()), "kept"
    same(folder, alone)
    histories = sum(len(line["history"]) for line in records(alone).values())
    # A diverging epoch is begun and never recorded: once in each of the two seeds.
    assert len(steps) <= histories - sum(trained.values()) + 2, "no epoch that has a checkpoint is trained again"


@pytest.mark.usefixtures("raising")
def test_a_bundle_whose_worker_died_goes_on_and_records_each_training_once(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path
) -> None:
    alone = begin(grid, tmp_path / "alone", 1)
    cluster.killed = {0: [1, 3]}
    heard: list[Event] = []
    with pytest.raises(RunError):
        start(Sweep.read({**grid, "resources": {"together": 5}}), "run", tmp_path, heard.append, track=False)
    folder = RunFolder.open(tmp_path / "run")
    same(folder, alone)
    assert sorted(event.what for event in heard if event.what in ("finished", "failed")) == [
        *["failed"] * 2,
        *["finished"] * 8,
    ]
    assert len(folder.rows_path.read_text().splitlines()) == 10


def test_a_bundle_that_dies_too_often_breaks_what_has_not_ended(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path
) -> None:
    grid["experiment"]["choice"] = {arm: ARMS[arm] for arm in ("plain", "short")}
    alone = begin(grid, tmp_path / "alone", 1, seeds=[1])
    cluster.killed = {0: [3]}
    folder = begin(grid, tmp_path, 2, concurrent=1, seeds=[1], max_failures=0)
    rows = {row.arm: row for row in folder.rows()}
    assert rows["plain"].broke and "the worker process died" in (rows["plain"].reason or "")
    assert rows["short"].status == "done" and rows["short"].cost.together == 2
    same(again(folder), alone)


def test_an_extension_trains_what_is_new_together(cluster: Cluster, grid: dict[str, Any], tmp_path: Path) -> None:
    grid["experiment"]["choice"] = {arm: ARMS[arm] for arm in ("plain", "tskd")}
    folder = begin(grid, tmp_path, 4)
    before = {row.key: row for row in folder.rows()}
    extend(folder, Addition(seeds=[7, 8, 9]), silent, track=False)
    rows = {row.key: row for row in RunFolder.open(folder.path).rows()}
    assert len(rows) == 10 and all(rows[key] == row for key, row in before.items())
    assert [asked.tune.num_samples for asked in cluster.asked] == [2, 2]


# One bundle driven by hand


def bundle(experiments: Sequence[Experiment]) -> SweepTrial:
    class Local(SweepTrial):
        def setup(self, given: dict[str, Any], shipped: Shipped | None = None) -> None:
            super().setup(given, Shipped("sweep", None, "val_top1", "max", {}))

    plains = [{k: v for k, v in one.plain().items() if k != "seed"} for one in experiments]
    configs = [TrialConfig(f"arm {n}", {}, plain, [1], number=n) for n, plain in enumerate(plains)]
    return Local(bundled(configs, len(configs))[0].plain())


def test_a_training_that_ends_frees_its_memory_and_the_others_go_on(tiny: Callable[..., Experiment]) -> None:
    lengths = [2, 4, 3]
    one = bundle([tiny(review=None, training={"epochs": epochs}) for epochs in lengths])
    alive = [weakref.ref(session.trainer) for session in one.sessions]
    seen = []
    for _ in range(4):
        result = one.step()
        seen.append([reference() is not None for reference in alive])
    assert seen == [[True, True, True], [False, True, True], [False, True, False], [False, True, False]]
    assert result["done"] and [Row.model_validate(row).run for row in result["bundle"][0]["rows"]] == ["00001"]


@pytest.mark.usefixtures("raising")
def test_a_training_that_breaks_frees_its_memory_too(tiny: Callable[..., Experiment]) -> None:
    one = bundle([tiny(review=None), tiny(review=None, training={"lr": RAISES})])
    alive = [weakref.ref(session.trainer) for session in one.sessions]
    one.step()
    assert one.step()["bundle"][1]["broke"]
    assert [reference() is not None for reference in alive] == [True, False]


def test_a_trial_that_cannot_be_built_leaves_the_others_alone(tiny: Callable[..., Experiment]) -> None:
    one = bundle([tiny(review=None, training={"epochs": 1})] * 2)
    broken = one._given.others[0]["experiment"] | {"distiller": {"name": "nowhere_to_be_found:Lost"}}
    given = TrialConfig(**{**one._given.plain(), "others": [{**one._given.others[0], "experiment": broken}]})
    assert one.reset_config(given.plain())
    result = one.step()
    first, second = result["bundle"]
    assert result["done"] and not first.get("broke") and second["broke"]
    assert "nowhere_to_be_found" in second["rows"][0]["reason"]


def test_too_little_memory_says_how_many_shared_it(
    tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bundle([tiny(review=None)] * 2)

    def full(self: Trainer, epoch: int | None = None) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "begin", full)
    with pytest.raises(RunError) as caught:
        one.step()
    assert "2 trainings share the memory of this process: lower resources.together" in caught.value.reason  # type: ignore[attr-defined]


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ON_GPU: dict[str, Any] = {"task": {"size": 32, "batch_size": 16, "train": 96}, "training": {"device": "cuda"}}


@needs_gpu
def test_a_bundle_on_a_real_gpu_has_the_bits_of_trainings_alone(tiny: Callable[..., Experiment]) -> None:
    over: list[dict[str, Any]] = [{}, {"review": None}, {"distiller": "kd"}]
    experiments = [tiny(**documents.merge(ON_GPU, one)) for one in over]
    together = bundle(experiments)
    found = [together.step()["bundle"] for _ in range(6)]
    for number, experiment in enumerate(experiments):
        alone = bundle([experiment])
        for epoch in range(6):
            (wanted,), (record,) = alone.step()["records"], found[epoch][number]["records"]
            del wanted["seconds"], wanted["eval_seconds"], record["seconds"], record["eval_seconds"]
            assert record == wanted


@needs_gpu
def test_the_memory_of_a_real_gpu_is_free_when_a_training_has_ended(tiny: Callable[..., Experiment]) -> None:
    over = [{"training": {"epochs": 2}, "review": None}, {}]
    one = bundle([tiny(**documents.merge(ON_GPU, given)) for given in over])
    one.step()
    before = torch.cuda.memory_reserved()
    one.step()
    assert torch.cuda.memory_reserved() < before


@needs_gpu
def test_a_probe_of_a_real_gpu_measures_the_largest_training(tiny: Callable[..., Experiment]) -> None:
    small, large = (tiny(**documents.merge(ON_GPU, {"task": {"batch_size": size}})).plain() for size in (8, 96))
    alone, both = packing.measure([small]), packing.measure([small, large])
    assert alone is not None and both is not None and 0 < alone.peak < both.peak < both.free


# The option


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "all", None])
def test_a_wrong_number_is_refused_with_a_sentence(grid: dict[str, Any], value: object) -> None:
    with pytest.raises(InputError, match=r"resources.together: must be a number of trainings from 1, or auto, got"):
        Sweep.read({**grid, "resources": {"together": value}})


def test_a_share_of_a_gpu_is_not_shared_again(grid: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"together: 6 shares a GPU within a process, and gpu: 0.5 .* set gpu: 1"):
        Sweep.read({**grid, "resources": {"together": 6, "gpu": 0.5}})
    for gpu in (0.0, 1.0):
        assert Sweep.read({**grid, "resources": {"together": "auto", "gpu": gpu}}).resources.together == "auto"


@pytest.mark.parametrize("together", [2, "auto"])
def test_a_search_says_that_it_has_no_effect(grid: dict[str, Any], together: object) -> None:
    given = {**grid, "resources": {"together": together}}
    assert check(Sweep.read(given)) == []
    (said,) = check(Sweep.read({**given, "search": {"name": "random", "trials": 2}}))
    assert "has no effect here: the search 'random' compares whole trials" in said
    (said,) = check(Sweep.read({**given, "scheduler": "asha"}))
    assert "the scheduler 'asha'" in said and said.startswith(f"resources.together: is {together}")


def test_auto_is_one_on_a_cpu_and_says_so(cluster: Cluster, grid: dict[str, Any], tmp_path: Path) -> None:
    grid["experiment"]["choice"] = {"plain": ARMS["plain"]}
    heard: list[Event] = []
    given = {**grid, "resources": {"together": "auto"}}
    folder = start(Sweep.read(given), "run", tmp_path, heard.append, track=False)
    assert [event.reason for event in heard if event.what == "note"] == [
        "resources.together: auto is 1 on a CPU, where trainings gain nothing from sharing a process"
    ]
    assert {row.cost.together for row in folder.rows()} == {1}


@pytest.mark.parametrize(
    ("free", "held", "peak", "count"),
    [(139, 1, 1, MOST), (10, 0, 2, 4), (10, 3, 2, 2), (10, 0, 30, 1), (1, 5, 1, 1)],
)
def test_what_fits_a_gpu_is_counted_with_a_margin(free: int, held: int, peak: int, count: int) -> None:
    memory = Memory(free * GIBIBYTE, held * GIBIBYTE, peak * GIBIBYTE)
    assert memory.fitting == count
    said = packing.sentence(memory)
    assert (f"{count} trainings share a GPU" if count > 1 else "a GPU for itself") in said and f"{peak}.00 GiB" in said


class Remote:
    """A stand-in for a function of Ray, which runs at once in this process."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def options(self, **resources: Any) -> Remote:
        assert (resources["num_cpus"], resources["num_gpus"]) == (2, 1.0)
        return self

    def remote(self, *given: Any) -> Any:
        return self.function(*given)


@pytest.mark.parametrize(
    ("found", "count", "said"),
    [
        (Memory(100 * GIBIBYTE, GIBIBYTE, 20 * GIBIBYTE), 3, "3 trainings share a GPU: the largest was measured with"),
        (None, 1, "auto is 1, because the trainings compute on a CPU"),
        (RayActorError("an id", "worker process has died"), 1, "auto is 1, because the memory was not measured: the"),
    ],
)
def test_auto_asks_a_worker_with_a_gpu(
    tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch, found: object, count: int, said: str
) -> None:
    asked: list[Any] = []

    def measure(documents: list[Any]) -> object:
        asked.extend(documents)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(packing, "measure", measure)
    ray = SimpleNamespace(remote=Remote, get=lambda value: value, exceptions=SimpleNamespace(RayError=RayError))
    monkeypatch.setattr(packing, "ray", ray)
    plains = [tiny(training={"lr": 0.01 * number}).plain() for number in (1, 2)] + [tiny(review=None).plain()]
    configs = [TrialConfig(f"arm {number}", {}, plain, [1], number=number) for number, plain in enumerate(plains)]
    heard: list[Event] = []
    assert packing.fitting(configs, {"cpu": 2, "gpu": 1.0}, heard.append) == count
    assert said in (heard[0].reason or "") and len(heard) == 1
    assert asked == [plains[0], plains[2]], "trainings that differ in a rate need the same memory"


def test_a_probe_takes_real_steps_and_reviews(tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []
    whole = Trainer.kind

    def kind(self: Trainer, epoch: int, step: int) -> Any:
        kinds.append(whole(self, epoch, step))
        return kinds[-1]

    monkeypatch.setattr(Trainer, "kind", kind)
    packing.step_through(tiny())
    assert sum(kind.review for kind in kinds) >= 3 and sum(not kind.review for kind in kinds) >= 3
    assert packing.measure([tiny().plain()]) is None, "there is nothing to measure on a CPU"
