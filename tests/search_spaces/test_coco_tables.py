"""The paper's table 4 and its small sibling: the pairs, the arms, the recipe; and that every arm trains."""

from pathlib import Path

import pytest
from small_coco import write_coco

from tskd_tune.experiment import Experiment
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.run import start

FOLDER = Path(__file__).parents[2] / "search_spaces"
ROOT = "experiment.task.root=somewhere"
DISTILLERS = {"plain": "none", "kd": "detection_kd", "tskd": "none"}
ARMS = ["plain", "kd", "fitnet", "fgfi", "review_kd", "tskd", "tskd_review_kd"]
PAIRS = {
    "resnet101_resnet18": ("faster_rcnn_resnet101_fpn", "faster_rcnn_resnet18_fpn"),
    "resnet101_resnet50": ("faster_rcnn_resnet101_fpn", "faster_rcnn_resnet50_fpn"),
    "resnet50_mobilenet_v2": ("faster_rcnn_resnet50_fpn", "faster_rcnn_mobilenet_v2_fpn"),
}


def distiller_of(arm: str) -> str:
    return DISTILLERS.get(arm, "review_kd" if arm.endswith("review_kd") else arm)


def table_4() -> dict[tuple[str, str], Experiment]:
    """Return the experiments by pair and arm."""
    sweep = Sweep.load(FOLDER / "table4_coco.yaml", [ROOT])
    found = {}
    for point in sweep.space().grid():
        pair, arm = map(str, point.values.values())
        found[pair, arm] = sweep.experiment_at(point)
    return found


def test_table_4_has_every_pair_and_arm_and_states_the_cost() -> None:
    found, arms = table_4(), [*ARMS, "tskd_auto_review_kd"]
    assert set(found) == {(pair, arm) for pair in PAIRS for arm in arms}
    assert f"3 pairs x {len(arms)} arms x 3 seeds = {9 * len(arms)} runs" in (FOLDER / "table4_coco.yaml").read_text()
    for (pair, arm), experiment in found.items():
        assert experiment.teacher is not None
        assert (experiment.teacher.name, experiment.student.name) == PAIRS[pair]
        assert experiment.distiller.name == distiller_of(arm)
        plan = experiment.plan()
        assert (plan is None) == ("tskd" not in arm)
        assert plan is None or plan.review_epochs == (3, 7, 11)


def test_table_4_has_the_papers_review_and_recipe() -> None:
    for (_, arm), experiment in table_4().items():
        training, task = experiment.training, experiment.task.plain()
        assert (training.epochs, training.lr, training.milestones, training.weight_decay) == (12, 0.01, [8, 11], 1e-4)
        assert (task["batch_size"], task["short_side"], task["long_side"]) == (8, 800, 1333)
        # 180,000 steps of 8 images, and drops after 120,000 and 160,000, in epochs of 117,266 images.
        steps = 117_266 / 8
        assert [round(count / steps) for count in (180_000, 120_000, 160_000)] == [12, 8, 11]
        if arm in ("tskd", "tskd_review_kd"):
            assert experiment.review is not None
            assert (experiment.review.k, experiment.review.delta, experiment.review.lambda_) == (3, 1, 0.4)


def test_the_demo_states_its_arms_and_its_cost() -> None:
    sweep = Sweep.load(FOLDER / "coco_demo.yaml", [ROOT])
    found = {point.label: sweep.experiment_at(point) for point in sweep.space().grid()}
    assert list(found) == ARMS
    assert "7 arms x 2 seeds = 14 runs of 3 epochs" in (FOLDER / "coco_demo.yaml").read_text()
    assert sweep.seeds == [1, 2] and {one.training.epochs for one in found.values()} == {3}
    assert {arm: one.distiller.name for arm, one in found.items()} == {arm: distiller_of(arm) for arm in ARMS}


@pytest.mark.slow
def test_every_arm_of_the_demo_trains_and_is_measured(a_ray: None, tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", train=8, test=4)
    settings = [f"experiment.task.root={root}", "experiment.teacher.training.epochs=1", "seeds=[1]"]
    sweep = Sweep.load(FOLDER / "coco_demo.yaml", settings)
    rows = start(sweep, "demo", tmp_path, lambda event: None, track=False).rows()
    assert {row.arm for row in rows} == set(ARMS) and {row.status for row in rows} == {"done"}
    assert all(row.metrics["test_ap"] >= 0 and row.metrics["test_ap50"] >= 0 for row in rows)
