"""An item that a list of a file has twice is refused by `check`, and not trained twice or found in training."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import tskd_tune.studies  # noqa: F401 (registers the studies)
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.options import DISTINCT
from tskd_tune.registry import Registry
from tskd_tune.single import read
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.space.search_space import SearchSpace
from tskd_tune.sweeps.space.starting_points import starting_points

# Options whose list may have an item twice, or is refused with a sentence of its own, and why.
OTHERS = {
    "Sweep.seeds": "must be a list of different numbers",
    "Compare.pairs": "two arms are compared twice",
    "Compare.added": "a run writes this key; the seeds of the sweep are different",
    "Compare.interim": "must ascend",
    "Training.milestones": "must rise",
    "TeacherTraining.milestones": "must rise",
    "FineTuning.milestones": "must rise",
    "Reviewplan.review_window": "two ends",
    "Taps.layers": "refused by the taps",
    "coco.multi_scale": "a length that is there twice is drawn more often",
    "conv_lstm.hidden": "a width for each layer",
    "faster_rcnn.anchor_sizes": "a size for each level",
    "timm.stages": "must be rising numbers",
    "adam.betas": "two rates",
    "command.words": "a program with its arguments",
    "optuna.start": "refused by the starting points",
    "overhead.measured_ks": "has the same number twice",
    "target.settings": "settings as on the command line, of which the last one counts",
}

FAMILY = {"adam.betas": ("nadam", "radam")}


def is_list(annotation: object) -> bool:
    if typing.get_origin(annotation) is list:
        return True
    return any(map(is_list, typing.get_args(annotation)))


def models(annotation: object) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from models(inner)


def marks(annotation: object) -> list[object]:
    own = [*getattr(annotation, "__metadata__", ())]
    return own + [mark for inner in typing.get_args(annotation) for mark in marks(inner)]


def lists_of(model: type[BaseModel], name: str, seen: set[type]) -> Iterator[tuple[str, bool]]:
    """Find the options with a list: the name of the group and of the option, and whether the items must differ."""
    if model in seen:
        return
    seen.add(model)
    for key, field in model.model_fields.items():
        if is_list(field.annotation):
            yield f"{name}.{key}", DISTINCT in [*field.metadata, *marks(field.annotation)]
        groups = [*models(field.annotation), *(mark.model for mark in field.metadata if hasattr(mark, "model"))]
        for group in groups:
            yield from lists_of(group, group.__name__, seen)


def all_lists() -> dict[str, bool]:
    seen: set[type] = set()
    found = dict(lists_of(Experiment, "Experiment", seen)) | dict(lists_of(Sweep, "Sweep", seen))
    for registry in Registry.opened:
        for name in [name for name in registry.names() if registry.entry(name).factory.__module__.startswith("tskd_")]:
            found |= dict(lists_of(registry.options(name), name, seen))
    return found


def fits(key: str, name: str) -> bool:
    """Tell whether an option is the named one, also of a component of the same family."""
    (group, option), (named, wanted) = name.split("."), key.split(".")
    return option == wanted and (group.startswith(named) or group in FAMILY.get(key, ()))


def test_every_list_of_the_schemas_refuses_an_item_twice_or_says_why_not() -> None:
    found = all_lists()
    assert {"Experiment.observe", "Sweep.callbacks", "Compare.allow", "Controls.arms", "series.samples"} <= found.keys()
    free = {name for name, distinct in found.items() if not distinct}
    known = {name: next((key for key in OTHERS if fits(key, name)), None) for name in sorted(free)}
    assert None not in known.values(), known
    assert set(known.values()) == set(OTHERS)


@pytest.fixture
def write(tmp_path: Path, tiny_document: dict[str, Any]) -> Callable[..., Path]:
    def written(**over: Any) -> Path:
        experiment = {**tiny_document, "review": None, "teacher": None, **over.pop("experiment", {})}
        document = {"experiment": experiment, "search": {"name": "grid"}, **over} if over else experiment
        path = tmp_path / "file.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return written


@pytest.mark.parametrize(
    ("observers", "said"),
    [
        (["series", {"name": "series"}], "observe: lists 'series' twice; keep one of them"),
        (
            ["series", {"name": "series", "units": 2}],
            "observe: lists 'series' twice, whose numbers have the same names",
        ),
        ([{"name": "series", "samples": [3, 1, 3]}], "observe.0.samples: lists 3 twice; keep one of them"),
    ],
)
def test_an_observer_twice(write: Callable[..., Path], observers: list[object], said: str) -> None:
    """It failed in training, after the first epoch."""
    with pytest.raises(InputError) as error:
        read(write(experiment={"observe": observers}), [])
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"callbacks": ["tensorboard", {"name": "tensorboard"}]}, "callbacks: lists 'tensorboard' twice"),
        ({"callbacks": [{"name": "command", "words": ["a", "a"], "on": ["failed"] * 2}]}, "on: lists 'failed' twice"),
        ({"compare": {"allow": ["training.epochs"] * 2}}, "compare.allow: lists 'training.epochs' twice"),
        ({"controls": ["ce", "ce"]}, "controls.arms: lists 'ce' twice"),
        ({"seeds": [1, 1]}, "seeds: must be a list of different numbers"),
    ],
)
def test_an_item_of_a_sweep_twice(write: Callable[..., Path], over: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        Sweep.load(write(**over))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_two_callbacks_of_one_kind_with_other_options_are_two(write: Callable[..., Path]) -> None:
    commands = [{"name": "command", "words": ["echo", word]} for word in ("a", "b")]
    assert len(Sweep.load(write(callbacks=commands)).callbacks) == 2


def test_a_starting_point_twice() -> None:
    wide = SearchSpace({"training": {"lr": {"choice": [0.1, 0.2]}, "epochs": {"int": [1, 9]}}}, {})
    assert len(starting_points(wide, [{"training.lr": 0.1}] * 2)) == 2, "the searcher draws the rest of each"
    space = SearchSpace({"training": {"lr": {"choice": [0.1, 0.2]}}}, {})
    assert len(starting_points(space, [{"training.lr": 0.1}, {"training.lr": 0.2}])) == 2
    with pytest.raises(InputError, match=r"search\.start: point 2 is point 0 again; keep one of them"):
        starting_points(space, [{"training.lr": 0.1}, {"training.lr": 0.2}, {"training.lr": 0.1}])
