"""The sweeps that are shipped: every point is a valid experiment, and the arms are those that their tables need."""

from pathlib import Path

import pytest

from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.method.extractors import EXTRACTORS
from tskd_tune.method.transforms import TRANSFORMS
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.space.points import Point

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "search_spaces"
FILES = sorted(FOLDER.glob("*.yaml"))
TABLES = ["table5_sequence", "table5_sequence_wrn", "table6_delta", "table7_k", "ablate_extractor"]
SIZES = {
    "ablate_transform": 10,
    "digits": 6,
    "table5_sequence": 13,
    "table5_sequence_wrn": 13,
    "table6_delta": 8,
    "table7_k": 6,
    "ablate_extractor": 13,
}
TABLE_5_REVIEWS = ["at_review", "increment_lambda_1", "feature_map_lambda_1", "increment", "feature_map", "detach"]
TABLE_5_CONTROLS = ["zeros", "shuffled", "reversed", "random_memory"]


def load(name: str, *settings: str) -> Sweep:
    root = ("experiment.task.root=somewhere",) if "image" in name or "coco" in name else ()
    return Sweep.load(FOLDER / f"{name}.yaml", [*root, *settings])


def arms(name: str) -> dict[str, Experiment]:
    sweep = load(name)
    return {point.label: sweep.experiment_at(point) for point in sweep.space().grid()}


def reviews(experiment: Experiment) -> int:
    plan = experiment.plan()
    return 0 if plan is None else len(plan.review_epochs)


def review_counts(name: str) -> dict[str, int]:
    return {arm: reviews(experiment) for arm, experiment in arms(name).items()}


def review_of(experiment: Experiment) -> dict[str, object]:
    assert experiment.review is not None
    return experiment.review.plain()


def differing(one: Experiment, other: Experiment) -> set[str]:
    left, right = review_of(one), review_of(other)
    return {key for key in left if left[key] != right[key]}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_corner_is_a_valid_experiment(file: Path):
    sweep = load(file.stem)
    labels = [point.label for point in sweep.space().corners() if sweep.experiment_at(point)]
    assert len(labels) == len(set(labels)) > 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_says_first_what_it_asks_costs_and_how_it_runs(file: Path):
    head = file.read_text().partition("experiment:")[0]
    assert f"tskd-tune sweep {file.stem} " in head.replace("\n", " ")
    assert "runs" in head
    assert "?" in head


@pytest.mark.parametrize("name", SIZES)
def test_one_key_adds_controls_of_an_arm_that_is_none_itself(name: str):
    resolved = load(name, "controls=true").resolved()
    added = {point.label: resolved.experiment_at(point) for point in resolved.space().grid()}
    assert len(added) > SIZES[name] and set(resolved.compare.controls) <= set(added)
    controlled = set(resolved.compare.controls.values()) - set(resolved.arms)
    assert controlled
    for label in controlled:
        review = added[label].review
        assert review is not None and review.sequence_order == "forward", label
        assert review.target.plain()["prediction_scale"] != 0, label


@pytest.mark.parametrize(("name", "points"), SIZES.items())
def test_the_number_of_runs_that_a_file_states(name: str, points: int):
    sweep = load(name)
    seeds = len(sweep.all_seeds())
    assert sweep.space().size() == points
    assert f"{points} arms x {seeds} seeds = {points * seeds} runs" in (FOLDER / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_five_seeds_and_a_control_without_review(name: str):
    assert load(name).seeds == [1, 2, 3, 4, 5]
    control = arms(name)["ce"]
    assert control.review is None and control.distiller.name == "none"


@pytest.mark.parametrize("name", TABLES)
def test_a_table_trains_as_the_paper_does_on_all_training_images(name: str):
    for experiment in arms(name).values():
        assert experiment.preset == "paper"
        assert experiment.task.plain()["name"] == "cifar100"
        assert (experiment.task.plain()["batch_size"], experiment.task.plain()["validation"]) == (128, 0)
        training = experiment.training
        assert (training.epochs, training.lr, training.milestones) == (240, 0.1, [150, 180, 210])
        assert training.weight_decay == 5e-4
        assert experiment.evaluation.test == "every_epoch"
        assert experiment.warnings() == []


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("table5_sequence", ("resnet56", "resnet20")),
        ("table5_sequence_wrn", ("wrn_40_2", "wrn_40_1")),
        ("table6_delta", ("resnet56", "resnet20")),
        ("table7_k", ("resnet56", "resnet20")),
        ("tskd_search", ("resnet56", "resnet20")),
    ],
)
def test_teacher_and_student(name: str, pair: tuple[str, str]):
    sweep = load(name)
    for point in sweep.space().corners():
        experiment = sweep.experiment_at(point)
        assert experiment.teacher is not None
        assert (experiment.teacher.name, experiment.student.name) == pair
        assert (experiment.teacher.weights, experiment.teacher.training.epochs) == ("auto", 240)


@pytest.mark.parametrize("name", ["table5_sequence", "table5_sequence_wrn"])
def test_table_5_reviews_12_times_in_every_arm_that_does(name: str):
    reviewing = dict.fromkeys([*TABLE_5_REVIEWS, *TABLE_5_CONTROLS], 12)
    assert review_counts(name) == {"ce": 0, "ce_kl": 0, "at_every_epoch": 0, **reviewing}


def test_the_arms_of_table_5_differ_from_increment_in_one_thing():
    found = arms("table5_sequence")
    for arm in TABLE_5_CONTROLS:
        assert review_of(found[arm])["sequence_order"] == arm
        assert differing(found[arm], found["increment"]) == {"sequence_order"}
    assert differing(found["feature_map"], found["increment"]) == {"sequence"}
    assert differing(found["detach"], found["increment"]) == {"target"}
    assert differing(found["at_review"], found["increment"]) == {"target"}
    assert differing(found["feature_map_lambda_1"], found["increment_lambda_1"]) == {"sequence"}
    assert differing(found["increment_lambda_1"], found["increment"]) == {"lambda", "extractor"}


def test_the_paper_s_cells_of_table_5_are_the_paper_s_review():
    found = arms("table5_sequence")
    paper = Experiment.read({"task": "cifar100", "teacher": "resnet56", "student": "resnet20"})
    assert review_of(found["increment_lambda_1"]) == review_of(paper)
    assert differing(found["feature_map_lambda_1"], paper) == {"sequence"}


def test_the_rivals_of_table_5():
    found = arms("table5_sequence")
    kl = found["ce_kl"].distiller.plain()
    assert (kl["name"], kl["temperature"], kl["weight"], kl["task_weight"]) == ("kd", 4.0, 1.0, 1.0)
    assert found["at_every_epoch"].distiller.plain() == {"name": "at", "power": 2, "weight": 1000.0}
    review = found["at_review"].review
    assert review is not None and review.target.options()["prediction_scale"] == 0


def test_table_6_and_its_partners_of_as_many_reviews():
    counts = review_counts("table6_delta")
    assert [counts[arm] for arm in ("k3_delta5", "k3_delta10", "k3_delta15")] == [12, 6, 4]
    assert counts["k3_delta10"] == counts["k6_delta5"] == counts["k3_delta5_first6"]
    assert counts["k3_delta15"] == counts["k9_delta5"] == counts["k3_delta5_first4"]


def test_table_7_and_its_partners_of_as_many_reviews():
    counts = review_counts("table7_k")
    assert [counts[arm] for arm in ("k3_delta5", "k6_delta5", "k9_delta5")] == [12, 6, 4]
    assert counts["k6_delta5"] == counts["k3_delta10"]
    assert counts["k9_delta5"] == counts["k3_delta15"]


def test_every_extractor_is_an_arm_that_differs_from_conv_lstm_in_nothing_else():
    found = arms("ablate_extractor")
    named = set()
    for arm, experiment in found.items():
        if arm not in ("ce", "at_review"):
            assert differing(experiment, found["conv_lstm"]) == ({"extractor"} if arm != "conv_lstm" else set())
            named.add(review_of(experiment)["extractor"]["name"])  # type: ignore[index]
            assert review_of(experiment)["extractor"]["training"]["optimizer"] == "own"  # type: ignore[index]
    assert named == set(EXTRACTORS.names())
    assert differing(found["at_review"], found["conv_lstm"]) == {"target"}
    assert review_counts("ablate_extractor") == {arm: 0 if arm == "ce" else 12 for arm in found}


@pytest.mark.parametrize("name", ["table6_delta", "table7_k"])
def test_an_arm_of_tables_6_and_7_does_what_its_name_says(name: str):
    for arm, experiment in arms(name).items():
        if experiment.review is not None:
            said = f"k{experiment.review.k}_delta{experiment.review.delta}"
            assert arm.removesuffix("_first6").removesuffix("_first4") == said
            assert differing(experiment, arms(name)["k3_delta5"]) <= {"k", "delta", "plan"}


def test_the_search_judges_by_validation_and_with_seeds_of_its_own():
    sweep = load("tskd_search")
    assert sweep.is_judged and sweep.search.metric == "val_top1"
    assert not set(sweep.all_seeds()) & set(load("table5_sequence").all_seeds())
    holes = {hole.name for hole in sweep.space().holes()}
    assert holes == {f"review.{name}" for name in ("k", "delta", "lambda", "sequence", "extractor.hidden")}


def test_the_whole_range_of_the_search_reviews_and_can_be_trained():
    sweep = load("tskd_search")
    for point in sweep.space().corners():
        experiment = sweep.experiment_at(point)
        assert experiment.task.plain()["validation"] == 5000
        assert reviews(experiment) >= 1
        plan = experiment.plan()
        assert plan is not None and plan.review_epochs[0] < 150  # before the learning rate first drops
        assert review_of(experiment)["extractor"]["training"]["optimizer"] == "own"  # type: ignore[index]


def test_the_scheduler_that_the_search_s_comment_offers():
    setting = "scheduler={name: asha, grace: 180}"
    assert setting in (FOLDER / "tskd_search.yaml").read_text()
    sweep = load("tskd_search", setting)
    assert sweep.scheduler_for(sweep.space()) is not None
    hasty = load("tskd_search", "scheduler={name: asha, grace: 100}")
    with pytest.raises(InputError, match=r"scheduler\.grace: 100 .* as late as epoch 135"):
        hasty.scheduler_for(hasty.space())


def test_the_arms_of_the_transforms_differ_in_the_transform_and_name_every_one():
    found = arms("ablate_transform")
    names = {review_of(experiment)["transform"]["name"] for arm, experiment in found.items() if arm != "ce_kl"}  # type: ignore[index]
    assert names == set(TRANSFORMS.names())
    assert found["ce_kl"].review is None
    for arm, experiment in found.items():
        assert experiment.warnings() == []
        if arm not in ("ce_kl", "attention"):
            assert differing(experiment, found["attention"]) == {"transform"}


def test_an_image_folder_is_asked_for_and_reviewed_three_times_in_ten_epochs():
    counts = review_counts("image_folder")
    assert counts == {"baseline": 0, "kd": 0, "at_review": 3, "tskd_increment": 3, "tskd_feature_map": 3}
    assert load("image_folder").seeds == [1, 2, 3]
    bare = Sweep.load(FOLDER / "image_folder.yaml")
    assert any("task.root: is required but missing" in problem for problem in check(bare))
    for experiment in arms("image_folder").values():
        assert experiment.teacher is not None
        assert experiment.teacher.training.epochs == 30 > experiment.training.epochs == 10


def test_settings_that_the_comments_offer_for_an_image_folder():
    small = load("image_folder", "experiment.task.classes=20", "experiment.task.per_class=100")
    task = small.experiment_at(small.space().grid()[0]).task.plain()
    assert (task["classes"], task["per_class"]) == (20, 100)
    long = load("image_folder", "experiment.training.epochs=240", "seeds=[1, 2, 3, 4, 5]")
    assert long.experiment_at(long.space().grid()[2]).training.milestones == [150, 180, 210]


@pytest.mark.parametrize("name", ["table6_delta", "table7_k"])
def test_lambda_can_be_held_fixed_as_the_comments_say(name: str):
    sweep = load(name, "experiment.review.lambda=2.0")
    reviewing = [e.review for p in sweep.space().grid() if (e := sweep.experiment_at(p)).review is not None]
    assert {review.lambda_ for review in reviewing} == {2.0}


def test_the_packaged_experiments_stand_on_their_own():
    packaged = sorted(documents.PACKAGED.glob("paper/*.yaml"))
    assert [file.stem for file in packaged] == ["resnet56_resnet20", "wrn_40_2_wrn_40_1"]
    for file in packaged:
        experiment = Experiment.read(documents.read(file))
        assert experiment.deviations() == []
        assert reviews(experiment) == 12


def test_a_point_is_what_the_file_says_and_nothing_is_left_open():
    for file in FILES:
        points: list[Point] = list(load(file.stem).space().corners())
        assert all("extends" not in point.experiment and "choice" not in point.experiment for point in points)
