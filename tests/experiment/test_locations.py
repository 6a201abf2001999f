"""Every place where a path of an experiment may stand is found by the type of its option."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tskd_tune import single
from tskd_tune.documents import dump, extended, read
from tskd_tune.errors import InputError
from tskd_tune.experiment.locations import located
from tskd_tune.paths import PathText
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.tasks import TASKS
from tskd_tune.tasks.base import Task
from tskd_tune.tasks.synthetic import synthetic

HERE = Path("/files")
TAIL = {"teacher": {"name": "resnet8"}, "student": {"name": "resnet8"}}


def found(document: Mapping[str, Any]) -> dict[str, Any]:
    return located(extended(document, HERE))


def task_elsewhere(*, places: list[PathText] | None = None, title: str = "data") -> Task:
    """An outsider's task, whose paths go by a name of their own."""
    return synthetic()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"task": {"name": "image_folder", "root": "data"}}, {"task": {"name": "image_folder", "root": "/files/data"}}),
        ({"task": {"name": "cinic10", "root": None}}, {"task": {"name": "cinic10", "root": None}}),
        (
            {"task": {"name": "cifar10"}, "choice": {"a": {"task": {"root": "a"}}}},
            {"task": {"name": "cifar10"}, "choice": {"a": {"task": {"root": "/files/a"}}}},
        ),
        (
            {"task": {"choice": {"x": {"name": "cifar10", "root": "x"}, "y": {"name": "digits"}}}},
            {"task": {"choice": {"x": {"name": "cifar10", "root": "/files/x"}, "y": {"name": "digits"}}}},
        ),
        (
            {"task": {"name": {"choice": ["cifar10", "cifar100"]}, "root": "x"}},
            {"task": {"name": {"choice": ["cifar10", "cifar100"]}, "root": "/files/x"}},
        ),
        (
            {"task": {"name": "image_folder", "root": {"choice": ["a", "/b"]}}},
            {"task": {"name": "image_folder", "root": {"choice": {"a": "/files/a", "/b": "/b"}}}},
        ),
        (
            {"task": {"name": "image_folder", "root": {"grid": {"small": "a", "large": "b"}}}},
            {"task": {"name": "image_folder", "root": {"grid": {"small": "/files/a", "large": "/files/b"}}}},
        ),
        (
            {"teacher": {"name": "resnet8", "weights": {"choice": ["auto", "t.pth", "torchvision:X"]}}},
            {
                "teacher": {
                    "name": "resnet8",
                    "weights": {"choice": {"auto": "auto", "t.pth": "/files/t.pth", "torchvision:X": "torchvision:X"}},
                }
            },
        ),
        ({"teacher": {"choice": {"t": {"weights": "t"}}}}, {"teacher": {"choice": {"t": {"weights": "t"}}}}),
        (
            {"teacher": {"name": "resnet8", "choice": {"t": {"weights": "t"}}}},
            {"teacher": {"name": "resnet8", "choice": {"t": {"weights": "/files/t"}}}},
        ),
        (
            {"task": {"name": f"{__name__}:task_elsewhere", "places": ["a", "~/b"], "title": "data"}},
            {"task": {"name": f"{__name__}:task_elsewhere", "places": ["/files/a", "/me/b"], "title": "data"}},
        ),
        ({"task": {"name": "no such task", "root": "x"}}, {"task": {"name": "no such task", "root": "x"}}),
        (
            {"task": {"name": "image_folder", "root": "s3://bucket"}},
            {"task": {"name": "image_folder", "root": "s3://bucket"}},
        ),
        ({"task": {"name": "image_folder", "root": {"choice": []}}}, None),
        ({"task": ["image_folder"], "teacher": 3, "student": None, "choice": 4}, None),
    ],
)
def test_paths_are_found_where_they_stand(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    monkeypatch.setenv("HOME", "/me")
    assert found(given) == (given if expected is None else expected)


def test_every_task_that_has_a_root_is_known_to_have_a_path() -> None:
    tasks = [entry.name for entry in TASKS if "root" in TASKS.options(entry.name).model_fields]
    assert {"image_folder", "cifar10", "cifar100", "cinic10", "coco", "tiny_imagenet"} <= set(tasks)
    for name in tasks:
        assert found({"task": {"name": name, "root": "data"}})["task"]["root"] == "/files/data", name


def test_no_option_by_the_name_of_a_path_is_left_as_text() -> None:
    from tskd_tune.distillers import DISTILLERS
    from tskd_tune.networks import NETWORKS
    from tskd_tune.paths import PathOption

    words = ("root", "path", "file", "folder", "checkpoint", "directory")
    for registry in (TASKS, NETWORKS, DISTILLERS):
        for entry in registry:
            for name, field in registry.options(entry.name).model_fields.items():
                if any(word in name for word in words):
                    marked = "PathOption" in repr(field) or any(isinstance(m, PathOption) for m in field.metadata)
                    assert marked, f"{entry.name}.{name} is a path: give it the type PathText"


def test_each_file_of_a_chain_counts_for_its_own_values_and_settings_for_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "mine").mkdir()
    base = {"task": {"name": "cifar10", "root": "data"}, **TAIL}
    (tmp_path / "base" / "experiment.yaml").write_text(dump(base))
    mine = {"experiment": {"extends": "../base/experiment.yaml", "teacher": {"weights": "t.pth"}}, "search": "grid"}
    (tmp_path / "mine" / "sweep.yaml").write_text(dump(mine))
    monkeypatch.chdir(tmp_path)
    experiment = Sweep.load("mine/sweep.yaml").experiment
    assert experiment["task"]["root"] == str(tmp_path / "base" / "data")
    assert experiment["teacher"]["weights"] == str(tmp_path / "mine" / "t.pth")
    monkeypatch.chdir(tmp_path / "base")
    given = Sweep.load("../mine/sweep.yaml", ["experiment.task.root=here", "experiment.teacher.weights=auto"])
    assert given.experiment["task"]["root"] == str(tmp_path / "base" / "here")
    assert given.experiment["teacher"]["weights"] == "auto"
    alone = single.read(tmp_path / "base" / "experiment.yaml", ["teacher.weights=~/t"])
    assert alone.task.plain()["root"] == str(tmp_path / "base" / "data")
    assert alone.teacher is not None and alone.teacher.weights == str(Path("~/t").expanduser())


def test_a_sweep_holds_its_paths_whole_with_the_labels_that_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = {"name": "image_folder", "root": {"choice": ["a", "b"]}}
    arm = {"task": {"name": "cifar10", "root": "c"}, **TAIL}
    sweep = Sweep.read({"experiment": {"task": task, **TAIL}, "arms": {"more": arm}, "search": {"name": "grid"}})
    assert [point.label for point in sweep.space().grid()] == ["root=a", "root=b", "more"]
    assert [point.values for point in sweep.space().grid()][:2] == [{"task.root": "a"}, {"task.root": "b"}]
    assert sweep.plain()["arms"]["more"]["task"]["root"] == str(tmp_path / "c")
    (tmp_path / "sweep.yaml").write_text(dump(sweep.plain()))
    monkeypatch.chdir("/")
    again = Sweep.read(read(tmp_path / "sweep.yaml"))
    assert again == sweep
    roots = [sweep.experiment_at(point).task.plain()["root"] for point in again.space().grid()]
    assert roots == [str(tmp_path / name) for name in "abc"]


def test_an_address_is_refused_where_the_experiment_is_read() -> None:
    for change in (
        {"task": {"name": "cifar10", "root": "s3://b"}},
        {"teacher": {"name": "resnet8", "weights": "gs://b"}},
    ):
        given = Sweep.read({"experiment": {"task": {"name": "digits"}, **TAIL, **change}, "search": {"name": "grid"}})
        with pytest.raises(InputError, match=r"(task|teacher)\.\w+: (s3|gs)://b is an address"):
            given.experiment_at(given.space().grid()[0])
