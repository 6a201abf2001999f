"""TSKD's siblings: three tasks, the ladders that their claims climb, and the settings that their authors name."""

from pathlib import Path

from tskd_tune.experiment import Experiment
from tskd_tune.sweeps.declared.schema import Sweep

FILE = Path(__file__).parents[2] / "search_spaces" / "siblings.yaml"
TASKS = ["cifar100", "cinic10", "tiny_imagenet"]
ONLINE = ["ekd", "low_ekd", "few_ekd"]


def points() -> dict[tuple[str, str], Experiment]:
    sweep = Sweep.load(FILE)
    return {(p.values["arm"], p.values["task"]): sweep.experiment_at(p) for p in sweep.space().grid()}


def test_every_task_has_every_arm_and_the_file_states_the_cost() -> None:
    found = points()
    arms = list(dict.fromkeys(arm for arm, _ in found))
    assert set(found) == {(arm, task) for arm in arms for task in TASKS}
    assert all(experiment.task.name == task for (_, task), experiment in found.items())
    assert f"{len(arms)} arms x 3 tasks x 5 seeds = {5 * len(found)} runs" in FILE.read_text()
    assert Sweep.load(FILE).seeds == [1, 2, 3, 4, 5]


def test_a_tenth_of_the_images_and_small_images_are_in_their_arms_alone() -> None:
    for (arm, _), experiment in points().items():
        assert experiment.task.plain()["fraction"] == (0.1 if arm.startswith("few_") else None)
        assert experiment.student.plain()["resolution"] == (16 if arm.startswith("low_") else None)


def test_the_teachers_of_the_ladder() -> None:
    for (arm, _), experiment in points().items():
        assert experiment.teacher is not None
        assert experiment.teacher.weights == ("untrained" if arm in ONLINE else "auto")
        assert experiment.teacher.plain()["replay"] == (10 if arm == "kd_replay" else None)
        assert (experiment.distiller.name == "ekd") == (arm in ONLINE)


def test_nine_teachers_are_trained_beforehand() -> None:
    trained = [
        e for e in points().values() if e.needs_teacher and e.teacher is not None and e.teacher.weights == "auto"
    ]
    assert len({str((e.task.plain(), e.teacher.plain())) for e in trained if e.teacher is not None}) == 9
    assert "nine teachers" in FILE.read_text()


def test_kd_and_its_replay_differ_in_the_teacher_alone() -> None:
    found = points()
    for task in TASKS:
        frozen, replayed = found["kd", task].plain(), found["kd_replay", task].plain()
        assert {key for key in frozen if frozen[key] != replayed[key]} == {"teacher"}


def test_knowledge_adjustment_with_dynamic_temperature_leaves_the_tasks_loss_out() -> None:
    found = points()
    own = found["ka_dtd", "cifar100"].distiller.plain()
    assert (own["name"], own["adjustment"], own["weight"], own["task_weight"]) == ("dtd", "probability_shift", 1.0, 0.0)
    both = found["ka_dtd_at", "cifar100"].distiller.plain()
    assert both["parts"]["ka_dtd"] == own and both["parts"]["at"]["name"] == "at"
