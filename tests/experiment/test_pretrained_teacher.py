"""Teachers of other packages, with the weights that these publish for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import build
from tskd_tune.experiment.teacher import check_weights, is_ready, obtain
from tskd_tune.experiment.verification import verify
from tskd_tune.networks.weights import read_state
from tskd_tune.training.teachers import TeacherCache

Tiny = Callable[..., Experiment]
MODEL = "mobilenet_v3_small"
FILE = "mobilenet_v3_small-047dcff4.pth"
# As many classes as the published weights have.
TASK = {"classes": 1000, "train": 1000, "size": 32}
TEACHER = {"name": "torchvision", "model": MODEL, "weights": "torchvision:IMAGENET1K_V1"}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, torch.Tensor]:
    """Put weights where torchvision keeps what it has downloaded, and return them."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    path.parent.mkdir(parents=True)
    state: dict[str, torch.Tensor] = torchvision.models.get_model(MODEL).state_dict()
    torch.save(state, path)
    return state


def silent(record: object) -> None:
    pass


def test_a_published_teacher_is_put_beside_the_trained_ones_and_measured(
    tiny: Tiny, tmp_path: Path, published: dict[str, torch.Tensor]
) -> None:
    experiment = tiny(task=TASK, teacher=TEACHER)
    check_weights(experiment)
    cache = TeacherCache(tmp_path / "teachers")
    assert is_ready(experiment, cache)
    teacher = obtain(experiment, cache, silent)
    assert teacher is not None
    assert teacher.source == "torchvision:IMAGENET1K_V1"
    assert teacher.path is not None
    assert teacher.path.parent == cache.folder
    assert teacher.metrics.keys() == {"test_top1"}
    state = read_state(teacher.path).state
    assert all(torch.equal(state[key], value) for key, value in published.items())
    assert read_state(teacher.path).facts == {"name": "torchvision", "weights": "torchvision:IMAGENET1K_V1"}

    # A second run reads the file, wherever it is: torchvision's own cache is not asked again.
    (Path(torch.hub.get_dir()) / "checkpoints" / FILE).unlink()
    assert obtain(experiment, cache, silent) == teacher
    trainer = build(experiment, teacher)
    assert trainer.teacher is not None
    held = trainer.teacher.state_dict()
    assert all(torch.equal(held[f"network.{key}"], value) for key, value in published.items())


def test_published_weights_of_other_classes_and_networks_are_refused(
    tiny: Tiny, published: dict[str, torch.Tensor]
) -> None:
    with pytest.raises(
        InputError, match=r"^teacher\.weights: the weights .* are for 1000 classes .* task has 10 classes"
    ):
        check_weights(tiny(teacher=TEACHER, task={"classes": 10}))
    with pytest.raises(InputError, match="names weights of timm's networks, but the teacher is a resnet14"):
        check_weights(tiny(teacher={"weights": "timm:default"}))
    with pytest.raises(InputError, match="^teacher.replay: .* do not contain the snapshots of their training"):
        check_weights(tiny(task=TASK, teacher={**TEACHER, "replay": 2}))


def test_networks_of_two_packages_are_paired_by_their_stages(tiny: Tiny) -> None:
    """A review of the paper's ImageNet pair, ResNet-50 to MobileNet, with a smaller teacher."""
    pytest.importorskip("timm")
    teacher = {"name": "torchvision", "model": "resnet18"}
    student = {"name": "timm", "model": "mobilenetv1_100"}
    experiment = tiny(teacher=teacher, student=student, task={"size": 32})
    verify(experiment)
    with pytest.raises(InputError, match="the student has no pre-activation of stage 'stage1'"):
        verify(tiny(teacher=teacher, student=student, task={"size": 32}, review={"taps": {"point": "pre"}}))


@pytest.mark.parametrize("distiller", ["ofd", "review_kd"])
def test_distillers_that_read_preactivations_take_residual_teachers_only(tiny: Tiny, distiller: str) -> None:
    pytest.importorskip("timm")
    residual = {"name": "torchvision", "model": "resnet18"}
    over = {"distiller": distiller, "task": {"size": 32}, "review": None}
    verify(tiny(teacher=residual, student="resnet18", **over))
    with pytest.raises(InputError, match="distiller: .* choose another teacher"):
        verify(tiny(teacher={"name": "timm", "model": "resnet18"}, student="resnet18", **over))
