"""The paper's table 1, and its rivals between families: the pairs, the arms and the recipe that they share."""

from pathlib import Path

import pytest

from tskd_tune.experiment import Experiment
from tskd_tune.sweeps.declared.schema import Sweep

FOLDER = Path(__file__).parents[2] / "search_spaces"
FAMILIES = [
    ("resnet56", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
]
MIXED = [
    ("vgg13", "mobilenet_v2"),
    ("resnet50", "mobilenet_v2"),
    ("resnet50", "vgg8"),
    ("resnet32x4", "shufflenet_v1"),
    ("resnet32x4", "shufflenet_v2"),
    ("wrn_40_2", "shufflenet_v1"),
]
PAIRS = {"table1_cifar100": FAMILIES, "table1_mixed": MIXED}
LOGITS = ["kd", "dkd", "logit_standardization", "multi_level"]
FEATURES = ["fitnet", "at", "sp", "rkd", "pkt", "crd", "vid", "ofd", "review_kd", "sad"]
REVIEWS = ["tskd_lambda_1", "tskd", "tskd_review_kd"]


def points(name: str) -> dict[tuple[str, str], Experiment]:
    """Return the experiments by pair and arm."""
    sweep = Sweep.load(FOLDER / f"{name}.yaml")
    found = {}
    for point in sweep.space().grid():
        pair, arm = point.values.values()
        found[pair, arm] = sweep.experiment_at(point)
    return found


def teacher_of(experiment: Experiment) -> str:
    assert experiment.teacher is not None
    return experiment.teacher.name


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_has_every_arm_and_the_file_states_the_cost(name: str) -> None:
    found = points(name)
    arms = ["ce", *LOGITS, *FEATURES, *REVIEWS]
    labels = [f"{teacher}_{student}" for teacher, student in PAIRS[name]]
    assert set(found) == {(label, arm) for label in labels for arm in arms}
    for (label, _), experiment in found.items():
        assert label == f"{teacher_of(experiment)}_{experiment.student.name}"
    text = (FOLDER / f"{name}.yaml").read_text()
    assert f"{len(labels)} pairs x {len(arms)} arms x 5 seeds = {5 * len(found)} runs" in text
    assert Sweep.load(FOLDER / f"{name}.yaml").seeds == [1, 2, 3, 4, 5]
    assert len({teacher for teacher, _ in PAIRS[name]}) == 4 and "four teachers" in text


@pytest.mark.parametrize("name", PAIRS)
def test_every_arm_is_what_its_name_says(name: str) -> None:
    for (_, arm), experiment in points(name).items():
        wanted = {"ce": "none", "tskd": "none", "tskd_lambda_1": "none", "tskd_review_kd": "review_kd"}.get(arm, arm)
        assert experiment.distiller.name == wanted
        plan = experiment.plan()
        assert (0 if plan is None else len(plan.review_epochs)) == (12 if arm in REVIEWS else 0)


@pytest.mark.parametrize("name", PAIRS)
def test_the_recipe_is_the_fields(name: str) -> None:
    for (label, _), experiment in points(name).items():
        slow = label.rpartition("_")[2] in ("v1", "v2")
        assert experiment.training.lr == (0.01 if slow else 0.05)
        for descent in (experiment.training, experiment.teacher.training):  # type: ignore[union-attr]
            assert (descent.epochs, descent.milestones, descent.weight_decay) == (240, [150, 180, 210], 5e-4)
            assert (descent.nesterov, descent.milestone_convention) == (False, "at")
        assert experiment.teacher.training.lr == 0.05  # type: ignore[union-attr]
        task = experiment.task.plain()
        assert (task["batch_size"], task["validation"], task["normalization"]) == (64, 0, "cifar100")


def test_the_tskd_arms_differ_in_the_strength_and_in_the_distiller_alone() -> None:
    found = points("table1_cifar100")
    weak, own, both = (found["resnet56_resnet20", arm] for arm in REVIEWS)
    paper = Experiment.read({"task": "cifar100", "teacher": "resnet56", "student": "resnet20"})
    assert weak.review == paper.review
    assert own.review == both.review
    assert set(own.deviations()) - set(weak.deviations()) == {
        "review.lambda: {'auto': 0.1} (preset: 1.0)",
        "review.extractor.training.optimizer: own (preset: shared)",
    }


def test_the_weights_that_authors_publish_for_a_pair_are_filled_in() -> None:
    found = points("table1_cifar100")
    assert found["resnet56_resnet20", "dkd"].distiller.plain()["beta"] == 2.0
    assert found["wrn_40_2_wrn_16_2", "dkd"].distiller.plain()["beta"] == 6.0
    assert found["resnet32x4_resnet8x4", "review_kd"].distiller.plain()["weight"] == 5.0


def test_the_settings_that_the_comment_offers_for_the_papers_own_recipe() -> None:
    settings = [
        "experiment.task.batch_size=128",
        "experiment.training.lr=0.1",
        "experiment.teacher.training.lr=0.1",
    ]
    text = (FOLDER / "table1_cifar100.yaml").read_text()
    assert all(f"--set {setting}" in text for setting in settings)
    sweep = Sweep.load(FOLDER / "table1_cifar100.yaml", settings)
    for point in sweep.space().grid()[::18]:
        experiment = sweep.experiment_at(point)
        assert (experiment.training.lr, experiment.teacher.training.lr) == (0.1, 0.1)  # type: ignore[union-attr]
        assert experiment.task.plain()["batch_size"] == 128
