"""A teacher with given weights that is trained on the task before it teaches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from tskd_tune import networks
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import build
from tskd_tune.experiment.teacher import check_weights, is_ready, obtain, teacher_key, trains_a_teacher
from tskd_tune.experiment.verification import verify
from tskd_tune.networks.weights import read_state, write_state
from tskd_tune.sweeps.declared.teacher_keys import key_of
from tskd_tune.training.teachers import TeacherCache

Tiny = Callable[..., Experiment]
TUNING = {"epochs": 2, "lr": 0.01, "schedule": {"name": "cosine"}}


def silent(record: object) -> None:
    pass


def weights(path: Path, classes: int, seed: int = 3) -> Path:
    torch.manual_seed(seed)
    write_state(path, networks.build("resnet14", classes), facts={"name": "resnet14"})
    return path


def tuned(tiny: Tiny, path: Path, **over: Any) -> Experiment:
    return tiny(teacher={"weights": str(path), "fine_tune": {**TUNING, **over}})


@pytest.fixture
def classes(tiny: Tiny) -> int:
    return int(Experiment.read(tiny().plain()).task.options()["classes"])


def test_given_weights_are_trained_once_under_a_key_of_their_own(tiny: Tiny, tmp_path: Path, classes: int) -> None:
    path = weights(tmp_path / "given.pth", classes)
    experiment, cache = tuned(tiny, path), TeacherCache(tmp_path / "cache")
    verify(experiment)
    check_weights(experiment)
    assert trains_a_teacher(experiment) and not is_ready(experiment, cache)
    epochs: list[int] = []
    teacher = obtain(experiment, cache, lambda line: epochs.append(int(line["epoch"])))  # type: ignore[index]
    assert teacher is not None and epochs == [0, 1]
    assert teacher.key == teacher_key(experiment) == key_of(experiment)
    before, _, told = teacher.source.partition(", fine-tuned for 2 epochs (")
    assert before == str(path) and told.startswith("test_top1 before: ") and teacher.metrics.keys() == {"test_top1"}
    given, found = read_state(path).state, read_state(teacher.path).state
    assert not all(torch.equal(given[name], found[name]) for name in given)

    # Found again, in another process too, and with it trains the student.
    epochs.clear()
    assert is_ready(experiment, cache) and obtain(experiment, cache, silent) == teacher and not epochs
    trainer = build(experiment, teacher)
    assert trainer.teacher is not None
    held = trainer.teacher.state_dict()
    assert all(torch.equal(held[f"network.{name}"], value) for name, value in found.items())


def test_the_key_depends_on_weights_recipe_and_data(tiny: Tiny, tmp_path: Path, classes: int) -> None:
    path, other = weights(tmp_path / "one.pth", classes), weights(tmp_path / "two.pth", classes, seed=4)
    same = weights(tmp_path / "copy.pth", classes)
    key = teacher_key(tuned(tiny, path))
    assert teacher_key(tuned(tiny, same)) == key, "the same content elsewhere"
    others = [tuned(tiny, other), tuned(tiny, path, lr=0.02), tuned(tiny, path, seed=1), tuned(tiny, path, epochs=1)]
    assert len({key, teacher_key(tiny()), *map(teacher_key, others)}) == 6
    weights(path, classes, seed=5)
    assert teacher_key(tuned(tiny, path)) != key, "a file that was written anew"


def test_the_head_is_new_only_where_the_classes_differ(tiny: Tiny, tmp_path: Path, classes: int) -> None:
    path = weights(tmp_path / "given.pth", classes + 7)
    teacher = obtain(tuned(tiny, path, lr=1e-9), TeacherCache(tmp_path / "cache"), silent)
    assert teacher is not None and teacher.source.endswith(f"2 epochs (new head for {classes} classes)")
    given, found = read_state(path).state, read_state(teacher.path).state
    assert [name for name in given if given[name].shape != found[name].shape] == ["fc.weight", "fc.bias"]
    trained = [name for name in given if given[name].dtype.is_floating_point and "running" not in name]
    body = [name for name in trained if not name.startswith("fc.")]
    assert all(torch.allclose(given[name], found[name], atol=1e-4) for name in body), "it began with the given weights"


def test_published_weights_of_other_classes_get_a_new_head(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = Path(torch.hub.get_dir()) / "checkpoints" / "mobilenet_v3_small-047dcff4.pth"
    path.parent.mkdir(parents=True)
    torch.save(torchvision.models.get_model("mobilenet_v3_small").state_dict(), path)
    named = {"name": "torchvision", "model": "mobilenet_v3_small", "weights": "torchvision:IMAGENET1K_V1"}
    experiment = tiny(task={"size": 32}, teacher={**named, "fine_tune": {"epochs": 1}})
    check_weights(experiment)
    teacher = obtain(experiment, TeacherCache(tmp_path / "cache"), silent)
    assert teacher is not None
    assert teacher.source.startswith("torchvision:IMAGENET1K_V1, fine-tuned for 1 epochs (new head for ")


@pytest.mark.parametrize(
    ("teacher", "sentence"),
    [
        ({"fine_tune": {}}, "teacher.fine_tune: trains given weights before the student, but weights is 'auto'"),
        ({"weights": "untrained", "fine_tune": {}}, "teacher.(weights|fine_tune): "),
        (
            {"weights": "a.pth", "fine_tune": {"epochs": 3}, "replay": 4},
            "4 snapshots need as many .*fine_tune.epochs is 3",
        ),
        ({"weights": "a.pth", "fine_tune": {"lrr": 1}}, "fine_tune: unknown key 'lrr'; did you mean 'lr'"),
    ],
)
def test_what_does_not_fit_is_refused(tiny: Tiny, teacher: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        tiny(teacher=teacher)


def test_a_missing_file_and_another_network_are_refused_before_training(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.pth"):
        check_weights(tuned(tiny, tmp_path / "nowhere.pth"))
    write_state(tmp_path / "vgg.pth", networks.build("vgg8", 10), facts={})
    with pytest.raises(InputError, match="is missing, which resnet14"):
        check_weights(tuned(tiny, tmp_path / "vgg.pth"))
