"""The paper's tables 2 and 3: the pairs, the arms, and the recipe that they share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tskd_tune.distillers import DISTILLERS
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import probe_of, review_loss, student_network, task_of, teacher_network
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.tasks.stand_ins import stand_in_targets

FOLDER = Path(__file__).parents[2] / "search_spaces"
REVIEWS = ["tskd_lambda_1", "tskd", "tskd_review_kd"]
RIVALS = {
    "table2_imagenet": ["kd", "at", "ofd", "crd", "review_kd", "dkd"],
    "table3_imagenet": ["kd", "at", "ofd", "crd", "sad", "review_kd", "dkd"],
}
PAIRS = {
    "table2_imagenet": ("resnet50", {"name": "mobilenet_v1"}),
    "table3_imagenet": ("resnet34", {"name": "torchvision", "model": "resnet18"}),
}
V2 = "experiment.student={name: torchvision, model: mobilenet_v2}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("imagenet")
    stream = np.random.default_rng(1)
    for part, each in (("train", 8), ("val", 1)):
        for wnid in ("n01440764", "n01443537", "n01484850"):
            (folder / part / wnid).mkdir(parents=True)
            for number in range(each):
                image = Image.fromarray(stream.integers(0, 256, (40, 50, 3), dtype=np.uint8))
                image.save(folder / part / wnid / f"{number}.JPEG")
    return folder


def arms(name: str, *settings: str) -> dict[str, Experiment]:
    sweep = Sweep.load(FOLDER / f"{name}.yaml", [*settings])
    return {point.label: sweep.experiment_at(point) for point in sweep.space().grid()}


@pytest.mark.parametrize("name", PAIRS)
def test_every_arm_is_there_and_the_file_states_the_cost(name: str) -> None:
    found = arms(name)
    assert set(found) == {"ce", *RIVALS[name], *REVIEWS}
    assert f"{len(found)} arms x 3 seeds = {3 * len(found)} runs of 100 epochs" in (FOLDER / f"{name}.yaml").read_text()
    assert Sweep.load(FOLDER / f"{name}.yaml").seeds == [1, 2, 3]
    for arm, experiment in found.items():
        wanted = {"ce": "none", "tskd": "none", "tskd_lambda_1": "none", "tskd_review_kd": "review_kd"}.get(arm, arm)
        assert experiment.distiller.name == wanted
        plan = experiment.plan()
        assert (0 if plan is None else len(plan.review_epochs)) == (5 if arm in REVIEWS else 0)


@pytest.mark.parametrize("name", PAIRS)
def test_pair_and_recipe_are_the_papers(name: str) -> None:
    teacher, student = PAIRS[name]
    for experiment in arms(name).values():
        assert experiment.teacher is not None
        assert experiment.teacher.plain()["model"] == teacher
        assert experiment.teacher.weights == "torchvision:IMAGENET1K_V1"
        assert student.items() <= experiment.student.plain().items()
        training, task = experiment.training, experiment.task.plain()
        assert (training.epochs, training.lr, training.milestones) == (100, 0.1, [30, 60, 90])
        assert (training.weight_decay, training.nesterov) == (1e-4, False)
        assert (task["name"], task["size"], task["batch_size"], task["validation"]) == ("imagenet", 224, 256, 0)


@pytest.mark.parametrize("name", PAIRS)
def test_the_arms_with_review_kd_have_its_weight(name: str) -> None:
    found = arms(name)
    assert found["tskd_review_kd"].distiller == found["review_kd"].distiller
    assert found["tskd_review_kd"].review == found["tskd"].review


@pytest.mark.parametrize(
    ("name", "settings"), [("table2_imagenet", ()), ("table2_imagenet", (V2,)), ("table3_imagenet", ())]
)
def test_every_arm_fits_its_networks_and_a_review_compares_four_stages(
    name: str, settings: tuple[str, ...], root: Path
) -> None:
    assert all(setting in (FOLDER / f"{name}.yaml").read_text() for setting in settings)
    found = arms(name, f"experiment.task.root={root}", "experiment.task.size=64", *settings)
    facts = task_of(found["ce"]).facts()
    student, teacher = student_network(found["ce"], facts), teacher_network(found["ce"], facts)
    probe = probe_of(student, teacher, facts, stand_in_targets(facts))
    for arm, experiment in found.items():
        if not (settings and arm == "ofd"):
            DISTILLERS.make(experiment.distiller, probe)
        if experiment.review is not None:
            taps = review_loss(experiment.review, probe).taps
            assert taps.names == ("stage1", "stage2", "stage3", "stage4")
            assert taps.sites == ((16, 16), (8, 8), (4, 4), (2, 2))
