"""The confirmation of a search: which points, on which data and seeds, beside which arms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import factories
from factories import a_row
from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of
from tskd_tune.experiment.identity import identity
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.evidence.confirmation import _merged, confirmation
from tskd_tune.tasks.cinic10 import CLASSES

SEEDS = [1, 2]
# k -> the validation accuracy of each seed
FOUND = {1: [60.0, 62.0], 2: [70.0, 60.0], 4: [66.0, 65.0]}


def row(experiment: dict[str, Any], run: str, arm: str, seed: int, value: float | None, **facts: Any) -> Row:
    given = {
        "metrics": {"val_top1": value, "test_top1": 1.0},
        "experiment": Experiment.read({**experiment, "seed": seed}).plain(),
    }
    return a_row(run, seed, arm, planned=24, **(given | facts))


@pytest.fixture
def document(tiny_document: dict[str, Any]) -> dict[str, Any]:
    over = {"training": {"epochs": 24, "threads": 1}, "evaluation": {"test": "every_epoch"}}
    return documents.merge(tiny_document, over)


@pytest.fixture
def search(document: dict[str, Any], tmp_path: Path) -> RunFolder:
    space = documents.merge(document, {"review": {"k": {"choice": [1, 2, 4]}}})
    sweep = {"experiment": space, "seeds": SEEDS, "search": {"name": "random", "trials": 3}, "resources": {"cpu": 2}}
    folder = RunFolder.create(tmp_path, "search", "sweep", sweep, expected=6)
    for number, (k, values) in enumerate(FOUND.items()):
        point = documents.merge(document, {"review": {"k": k}})
        for seed, value in zip(SEEDS, values, strict=True):
            folder.add_row(row(point, f"0000{number}", f"k={k}", seed, value))
    return folder


def arms(folder: RunFolder, **options: Any) -> dict[str, Experiment]:
    sweep = confirmation(folder, [101, 102], **options)
    assert check(sweep) == []
    return {point.label: sweep.experiment_at(point) for point in sweep.space().grid()}


@pytest.mark.parametrize(("train", "expected"), [(8, 12), (None, None)])
def test_what_trains_on_so_many_images_trains_on_the_validation_part_besides(
    train: int | None, expected: int | None
) -> None:
    digits = {"name": "digits", "validation": 4, "train": train}
    assert _merged(digits) == {"name": "digits", "validation": 0, "train": expected}


def test_cinic10_trains_on_its_whole_validation_part_when_it_is_confirmed(
    document: dict[str, Any], tmp_path: Path
) -> None:
    """Its validation images have a folder of their own, and no number of images says how many are held out."""
    for part, each in {"train": 3, "valid": 2, "test": 1}.items():
        for name in CLASSES:
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for number in range(each):
                Image.new("RGB", (32, 32)).save(tmp_path / "set" / part / name / f"cifar10-{part}-{number}.png")
    task = {"name": "cinic10", "batch_size": 8, "root": str(tmp_path / "set")}
    space = {**document, "task": task, "review": None}
    how = {"name": "random", "trials": 1}
    sweep = {"experiment": {**space, "training": {"epochs": 24, "lr": {"uniform": [0.1, 0.2]}}}, "seeds": SEEDS}
    folder = RunFolder.create(tmp_path, "cinic", "sweep", {**sweep, "search": how}, expected=2)
    for seed in SEEDS:
        folder.add_row(row(space, "00000", "lr=0.1", seed, 60.0))
    for experiment in arms(folder).values():
        assert experiment.plain()["task"]["valid_part"] == "training"
        assert task_of(experiment).facts().samples == (50, 0, 10)
    for part in ("training", "unused"):
        assert _merged({**task, "valid_part": part})["valid_part"] == part


def test_the_best_mean_is_confirmed_beside_the_baseline_and_the_paper(search: RunFolder) -> None:
    found = arms(search)
    assert list(found) == ["k=4", "baseline", "paper"], "65.5 on average, though one seed of k=2 had 70"
    for experiment in found.values():
        plain = experiment.plain()
        assert plain["task"]["validation"] == 0 and plain["evaluation"]["test"] == "last"
        assert (plain["seed"], plain["training"]["threads"], plain["training"]["epochs"]) == (101, 2, 24)
    winner, baseline, paper = found.values()
    assert winner.review is not None and (winner.review.k, winner.review.delta) == (4, 1)
    assert (baseline.review, baseline.distiller.name) == (None, "none")
    assert paper.review is not None and (paper.review.k, paper.review.delta, paper.review.lambda_) == (3, 5, 1.0)
    assert paper.review.extractor.plain()["hidden"] == 16, "the paper's own, not the search's"
    sweep = confirmation(search, [101, 102])
    assert (sweep.seeds, sweep.search.name, sweep.compare.baseline) == ([101, 102], "grid", "baseline")


def test_a_point_trained_by_two_versions_is_one_point(search: RunFolder) -> None:
    before = list(arms(search))
    for row in search.rows()[::2]:  # rows of format 1 have no identity
        search.add_row(row.model_copy(update={"identity": identity(Experiment.read(row.experiment))}))
    assert {bool(row.identity) for row in search.rows()} == {True, False}
    assert list(arms(search)) == before


def test_more_winners_and_another_baseline(search: RunFolder) -> None:
    assert list(arms(search, top=2)) == ["k=4", "k=2", "baseline", "paper"]
    assert list(arms(search, against="k=1")) == ["k=4", "baseline", "paper", "k=1"]
    assert confirmation(search, [101], against="k=1").compare.baseline == "k=1"
    assert confirmation(search, [101], against="paper").compare.baseline == "paper"
    with pytest.raises(InputError, match=r"--against: search has no arm 'k=3'; did you mean"):
        confirmation(search, [101], against="k=3")
    with pytest.raises(InputError, match="--top: asks for 4 points, but only 3 of search have finished"):
        confirmation(search, [101], top=4)


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [
        ([2, 101], "--seeds: the search chose its winners with the seed 2, so it is not fresh"),
        ([5, 5], "different numbers"),
        ([], "got none"),
    ],
)
def test_seeds_are_fresh(seeds: list[int], sentence: str, search: RunFolder) -> None:
    with pytest.raises(InputError, match=sentence):
        confirmation(search, seeds)


def test_a_point_that_did_not_end_well_with_all_its_seeds_wins_nothing(
    search: RunFolder, document: dict[str, Any]
) -> None:
    point = documents.merge(document, {"review": {"k": 5}})
    search.add_row(row(point, "00003", "k=5", 1, 99.0))
    search.add_row(row(point, "00003", "k=5", 2, 99.0, status="failed", reason="the loss is not finite"))
    assert next(iter(arms(search))) == "k=4"


def test_what_no_longer_differs_is_one_arm(document: dict[str, Any], tmp_path: Path) -> None:
    plain = {**document, "review": None}
    paper = {**document, "review": {"k": 3, "delta": 5}}
    sweep = {"experiment": {**document, "choice": {"none": {"review": None}, "tskd": {}}}, "seeds": [1]}
    folder = RunFolder.create(tmp_path, "run", "sweep", {**sweep, "search": {"name": "random", "trials": 2}})
    folder.add_row(row(plain, "00000", "none", 1, 70.0))
    folder.add_row(row(paper, "00001", "tskd", 1, 60.0))
    assert list(arms(folder, top=2)) == ["tskd", "baseline"]
    assert confirmation(folder, [9], against="none").compare.baseline == "baseline"


def test_the_smallest_loss_wins_where_the_search_minimizes(search: RunFolder) -> None:
    document = search.document()
    search.replace_document({**document, "search": {**document["search"], "metric": "val_top1", "mode": "min"}})
    assert next(iter(arms(search))) == "k=1"


def test_a_run_without_validation_or_of_one_training_is_refused(
    search: RunFolder, document: dict[str, Any], tmp_path: Path
) -> None:
    single = RunFolder.create(tmp_path, "single", "train", document)
    with pytest.raises(InputError, match="is a single training, which has no winners"):
        confirmation(single, [9])
    factories.write_rows(search, [])
    with pytest.raises(InputError, match="no point has finished all seeds with the metric 'val_top1'"):
        confirmation(search, [9])


def test_what_a_search_declares_of_comparisons_holds_for_its_confirmation(search: RunFolder) -> None:
    declared = {"margin": 0.5, "rule": "margin", "sequential": "fixed", "allow": ["training.epochs"]}
    search.replace_document({**search.document(), "compare": declared})
    compare = confirmation(search, [101, 102]).compare
    assert {key: getattr(compare, key) for key in declared} == declared and compare.baseline == "baseline"


def test_a_search_whose_trainings_all_diverged_is_not_to_be_resumed(
    search: RunFolder, document: dict[str, Any]
) -> None:
    search.rows_path.unlink()
    for run, seed in enumerate(SEEDS):
        search.add_row(row(document, f"0000{run}", "k=1", seed, None, status="failed", reason="epoch 0: nan"))
    with pytest.raises(
        InputError, match=r"all 2 failed, and would fail again \(the first: epoch 0: nan\); search again"
    ):
        confirmation(search, [101, 102])
