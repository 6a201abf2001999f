"""Kinds of teachers in an experiment: their keys, what is refused, how methods train them, and whom they teach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import build_teacher, task_of
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.experiment.teacher import is_ready, obtain, teacher_key
from tskd_tune.experiment.verification import verify
from tskd_tune.networks.weights import read_state
from tskd_tune.sweeps.declared.teacher_keys import distinct, key_of
from tskd_tune.training import teachers
from tskd_tune.training.teachers import TeacherCache

Tiny = Callable[..., Experiment]


def method(name: str, **options: Any) -> dict[str, Any]:
    return {"teacher": {"training": {"epochs": 4, "method": {"name": name, **options}}}}


def silent(record: dict[str, Any]) -> None:
    pass


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def state_of(experiment: Experiment, folder: Path) -> Mapping[str, Tensor]:
    teacher = obtain(experiment, TeacherCache(folder), silent)
    assert teacher is not None and teacher.path is not None
    return read_state(teacher.path).state


# Keys


def test_teachers_that_were_kept_before_there_were_methods_are_found_again(tiny: Tiny) -> None:
    first = {"training": {"channels_last": False}}  # the default of these teachers
    assert teacher_key(tiny(**first)) == "7745b6d5618dae89"
    recipe = {"epochs": 3, "seed": 4, "method": "plain"}
    other = {"task": "digits", "student": "resnet8", "review": None, "distiller": "kd"}
    experiment = Experiment.read({**other, **first, "teacher": {"name": "wrn_16_2", "training": recipe}})
    assert teacher_key(experiment) == "5387fb8b393e29c8"


def test_a_method_and_a_replay_make_another_teacher(tiny: Tiny) -> None:
    others = [
        method("plain"),
        method("soteacher"),
        method("soteacher", lipschitz=0.0),
        method("soteacher", schedule="cosine"),
        method("sftn"),
        method("sftn", temperature=2.0),
        {"teacher": {"training": {"epochs": 4}, "replay": 2}},
        {"teacher": {"training": {"epochs": 4}, "replay": 3}},
    ]
    assert len({teacher_key(tiny(**over)) for over in others}) == len(others)
    assert teacher_key(tiny(**method("plain"))) == teacher_key(tiny(teacher={"training": {"epochs": 4}}))


def test_only_a_student_friendly_teacher_depends_on_the_student(tiny: Tiny) -> None:
    students = [{"name": "resnet8"}, {"name": "resnet14"}, {"name": "resnet8", "resolution": 4}]
    for name, count in (("plain", 1), ("soteacher", 1), ("sftn", 3)):
        assert len({teacher_key(tiny(**method(name), student=student)) for student in students}) == count
        assert len({teacher_key(tiny(**method(name), seed=seed)) for seed in (1, 2)}) == 1


# Untrained


def test_an_untrained_teacher_costs_nothing_beforehand_and_leaves_nothing(tiny: Tiny, tmp_path: Path) -> None:
    experiment = tiny(teacher={"weights": "untrained"}, distiller="ekd", review=None)
    cache = TeacherCache(tmp_path)
    assert is_ready(experiment, cache)
    teacher = obtain(experiment, cache, silent)
    assert teacher is not None
    assert (teacher.source, teacher.path, teacher.key, teacher.metrics) == ("untrained", None, None, {})
    assert teacher.parameters > 0 and not list(tmp_path.iterdir())
    assert key_of(experiment) is None and distinct([experiment]) == {}
    verify(experiment)


@pytest.mark.parametrize("over", [{"distiller": "kd", "review": None}, {}], ids=["kd", "review"])
def test_a_frozen_teacher_that_knows_nothing_is_refused(tiny: Tiny, over: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="an untrained teacher must be trained together .* or distiller: ekd"):
        tiny(teacher={"weights": "untrained"}, **over)
    assert tiny(teacher={"weights": "untrained"}, review=None), "the baseline arm asks for no teacher"


# Refusals


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({"teacher": {"replay": 2, "training": {"epochs": 2}}, "distiller": "ekd"}, "replay: needs a frozen teacher"),
        ({"teacher": {"replay": 2, "weights": "untrained"}, "distiller": "ekd"}, "replay: needs a frozen teacher"),
        ({"teacher": {"replay": 3, "training": {"epochs": 2}}}, "3 snapshots .*but teacher.training.epochs is 2"),
        ({"teacher": {"replay": 7, "training": {"epochs": 9}}}, "7 snapshots .*but training.epochs is 6; lower"),
        ({"teacher": {"replay": 7, "weights": "a.pth"}}, "7 snapshots need as many epochs, but training.epochs is 6"),
        ({"teacher": {"replay": 1}}, "teacher.replay: .*greater than or equal to 2"),
        (
            {"teacher": {"weights": "a.pth", "training": {"method": "soteacher"}}},
            "training.method: 'soteacher' applies only where a teacher is trained, but weights: .*a.pth trains none",
        ),
        (
            {"teacher": {"weights": "untrained", "training": {"method": "sftn"}}, "distiller": "ekd", "review": None},
            "training.method: 'sftn' applies only where .* but weights: untrained trains none",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(tiny: Tiny, over: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        tiny(**over)


# Methods


@pytest.mark.parametrize("over", [method("plain"), method("soteacher", consistency=5.0), method("sftn")], ids=str)
def test_a_teachers_training_that_was_cut_off_ends_as_an_unbroken_one(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]
) -> None:
    monkeypatch.setattr(teachers, "SAVE_SECONDS", 0.0)
    experiment = tiny(**over)
    whole = state_of(experiment, tmp_path / "whole")
    cut = TeacherCache(tmp_path / "cut")
    seen: list[int] = []

    def stop_once(record: dict[str, Any]) -> None:
        seen.append(record["epoch"])
        if seen.count(2) == 1 and record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain(experiment, cut, stop_once)
    teacher = obtain(experiment, cut, stop_once)
    assert teacher is not None and teacher.path is not None and seen == [0, 1, 2, 2, 3]
    assert equal(read_state(teacher.path).state, whole)


def test_a_method_changes_the_teacher_and_leaves_nothing_else_in_its_file(tiny: Tiny, tmp_path: Path) -> None:
    found = {name: state_of(tiny(**method(name)), tmp_path) for name in ("plain", "soteacher", "sftn")}
    assert found["plain"].keys() == found["soteacher"].keys() == found["sftn"].keys()
    for one, other in (("plain", "soteacher"), ("plain", "sftn"), ("soteacher", "sftn")):
        assert not torch.equal(found[one]["conv1.weight"], found[other]["conv1.weight"])


def test_a_method_of_no_weight_trains_the_plain_teacher(tiny: Tiny, tmp_path: Path) -> None:
    plain = state_of(tiny(**method("plain")), tmp_path)
    silent_ones = [
        method("soteacher", lipschitz=0.0, consistency=0.0),
        method("sftn", kl_weight=0.0, branch_weight=0.0),
    ]
    assert all(equal(plain, state_of(tiny(**over), tmp_path)) for over in silent_ones)


def test_branches_begin_from_the_teachers_seed_and_are_trained(tiny: Tiny) -> None:
    first, again = (build_teacher(tiny(**method("sftn"), seed=seed)) for seed in (1, 2))
    assert equal(first.distiller.state_dict(), again.distiller.state_dict())
    before = {key: value.clone() for key, value in first.distiller.state_dict().items()}
    record = first.epoch().numbers
    assert {"loss_task", "loss_branches", "loss_branches_kl"} <= record.keys()
    moved = [not torch.equal(before[key], value) for key, value in first.distiller.state_dict().items()]
    assert all(moved)
    weighted = build_teacher(tiny(**method("sftn", task_weight=0.0)))
    assert weighted.epoch().numbers["loss_task"] == 0.0


def test_the_running_mean_of_a_whole_training_is_that_of_its_outputs(tiny: Tiny) -> None:
    trainer = build_teacher(tiny(**method("soteacher")))
    outputs = torch.zeros(4, 24, 4)
    seen: list[Tensor] = []
    trainer.student.register_forward_hook(lambda module, given, found: seen.append(found.logits.detach()))
    for epoch in range(4):
        indices: list[Tensor] = []
        inner = trainer.distiller.forward

        def forward(network: Any, above: Any, batch: Any, inner: Any = inner, indices: Any = indices) -> Any:
            indices.append(batch.indices)
            return inner(network, above, batch)

        trainer.distiller.forward = forward  # type: ignore[method-assign]
        del seen[:]
        trainer.epoch()
        trainer.distiller.forward = inner  # type: ignore[method-assign]
        for which, logits in zip(indices, seen, strict=False):  # evaluations come after the batches
            outputs[epoch, which] = logits.softmax(1)
    torch.testing.assert_close(trainer.distiller.average, outputs.mean(0))


@pytest.mark.parametrize("name", ["soteacher", "sftn"])
def test_methods_train_in_bfloat16_too(tiny: Tiny, name: str) -> None:
    plain, half = (
        build_teacher(tiny(**method(name), training={"precision": precision})) for precision in ("float32", "bfloat16")
    )
    for _ in range(2):
        wanted, found = plain.epoch().numbers, half.epoch().numbers
    losses = [key for key in wanted if key.startswith("loss")]
    assert len(losses) == 4 and all(found[key] == pytest.approx(wanted[key], rel=0.3, abs=0.05) for key in losses)
    assert found["loss"] != wanted["loss"]


def test_a_student_that_cannot_be_entered_is_found_on_the_laptop(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from tskd_tune.networks.base import Network
    from tskd_tune.networks.cifar_resnet import CifarResNet

    verify(tiny(**method("sftn")))
    monkeypatch.setattr(CifarResNet, "tail", Network.tail)
    with pytest.raises(InputError, match="its layers behind 'stage1' cannot be used alone"):
        verify(tiny(**method("sftn")))
    verify(tiny(**method("sftn"), review=None))  # no teacher is asked for


# A student that sees less


def test_a_low_resolution_student_sees_less_in_training_and_evaluation_and_its_teacher_sees_all(tiny: Tiny) -> None:
    experiment = tiny(student={"resolution": 4}, distiller="kd")
    trainer = build_trainer(experiment)
    sizes: dict[str, set[int]] = {"student": set(), "teacher": set(), "memory": set()}
    watched = {"student": trainer.student.conv1, "teacher": trainer.teacher.network.conv1}
    for who, layer in watched.items():
        layer.register_forward_pre_hook(lambda module, given, who=who: sizes[who].add(given[0].shape[-1]))
    for _ in range(6):
        trainer.epoch()
    assert sizes["student"] == {4} and sizes["teacher"] == {8}
    images = torch.randn(2, 3, 8, 8)
    trainer.student.eval()
    assert trainer.student(images).features["stage1"].shape[-1] == 4
    assert [snapshot(images).features["stage1"].shape[-1] for snapshot in trainer.review.memory._slots] == [4, 4]
    assert trainer.student.state_dict().keys() == build_trainer(tiny(review=None)).student.state_dict().keys()


def test_the_control_arm_of_random_memories_sees_as_little(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(student={"resolution": 4}, review={"sequence_order": "random_memory"}))
    for _ in range(3):
        trainer.epoch()
    found = trainer.review.memory.recall(torch.randn(2, 3, 8, 8))
    assert [output.features["stage1"].shape[-1] for output in found] == [4, 4]


def test_a_low_resolution_student_starts_as_its_like_and_resumes_exactly(tiny: Tiny) -> None:
    experiment = tiny(student={"resolution": 4})
    whole, first, second = build_trainer(experiment), build_trainer(experiment), build_trainer(experiment)
    assert equal(whole.student.state_dict(), build_trainer(tiny()).student.state_dict())
    for _ in range(6):
        whole.epoch()
    for _ in range(4):
        first.epoch()
    second.load_state_dict(first.state_dict())
    second.epoch(), second.epoch()
    assert equal(whole.student.state_dict(), second.student.state_dict())
    assert not equal(whole.student.state_dict(), build_trainer(tiny()).student.state_dict())


def test_more_pixels_than_there_are_is_refused(tiny: Tiny) -> None:
    verify(tiny(student={"resolution": 8}))
    with pytest.raises(InputError, match="student.resolution: 9 is more than the 8 pixels of the task's images"):
        verify(tiny(student={"resolution": 9}))
    with pytest.raises(InputError, match="student.resolution"):
        tiny(student={"resolution": 0})


def test_the_teacher_of_a_low_resolution_student_is_everybodys(tiny: Tiny) -> None:
    experiment = tiny(student={"resolution": 4})
    assert teacher_key(experiment) == teacher_key(tiny())
    trainer = build_teacher(experiment)
    assert trainer.student.probe(*task_of(experiment).facts().inputs).features["stage1"][1:] == (8, 8)
