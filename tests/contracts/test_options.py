"""No knob is unused: every option of an experiment, when flipped, changes what its line here names.

The options of the method's own parts are flipped in ``tests/method/test_options.py``, those of tasks in
``tests/contracts/test_tasks.py``, those of distillers in ``tests/distillers``, those of teacher methods in
``tests/teaching``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.experiment.teacher import teacher_key, trains_a_teacher
from tskd_tune.training.checkpoint import Saver
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
Seen = Callable[[Experiment], Any]


def trained(experiment: Experiment) -> Trainer:
    trainer = build_trainer(experiment)
    while not trainer.finished:
        trainer.epoch()
    return trainer


def weights(experiment: Experiment) -> list[float]:
    state = trained(experiment).student.state_dict()
    return torch.cat([value.flatten().double() for value in state.values()]).tolist()


def rates(experiment: Experiment) -> list[float]:
    return [experiment.training.recipe().rate(epoch) for epoch in range(experiment.training.epochs)]


def epochs_with_test(experiment: Experiment) -> list[int]:
    return [record.epoch for record in trained(experiment).history if "test_top1" in record.numbers]


def threads(experiment: Experiment) -> int:
    build_trainer(experiment).begin()
    return torch.get_num_threads()


def layout(experiment: Experiment) -> bool:
    student = build_trainer(experiment).student
    return student.state_dict()["layer1.0.conv1.weight"].is_contiguous(memory_format=torch.channels_last)


def extractor_count(experiment: Experiment) -> int:
    review = build_trainer(experiment).review
    assert review is not None
    return len(review.loss.extractors)


def extractors(experiment: Experiment) -> list[float]:
    review = trained(experiment).review
    assert review is not None
    return torch.cat([value.flatten().double() for value in review.loss.state_dict().values()]).tolist()


def line_names(experiment: Experiment) -> list[str]:
    return list(build_trainer(experiment).epoch().plain())


OWN = {"review": {"extractor": {"training": {"optimizer": "own"}}}}
DROPS = {"training": {"milestones": [3]}}
LINES = {"epochs": 2, "schedule": {"name": "linear"}}
LINEAR = {"training": {"schedule": {"name": "linear"}}}

# path -> (another value, what it changes, the setting in which it applies)
FLIPS: dict[str, tuple[Any, Seen, dict[str, Any]]] = {
    "preset": ("paper_literal", lambda e: e.plain()["review"]["transform"]["norm"], {}),
    "teacher.weights": ("other.pth", lambda e: e.teacher.weights, {}),  # tests/experiment/test_teacher.py reads one
    "teacher.fine_tune": ({"epochs": 1}, trains_a_teacher, {"teacher": {"weights": "other.pth"}}),
    "teacher.batch_norm": ("train", weights, {}),
    "teacher.replay": (2, weights, {"teacher": {"training": {"epochs": 2, "lr": 0.1}}}),
    "student.resolution": (4, weights, {}),
    **{
        f"teacher.training.{name}": (value, teacher_key, {})
        for name, value in {
            "epochs": 2,
            "lr": 0.02,
            "milestones": [0],
            "milestone_convention": "after",
            "gamma": 0.5,
            "momentum": 0.5,
            "nesterov": True,
            "weight_decay": 0.0,
            "optimizer.name": "adamw",  # the options of optimizers: tests/training/test_optimizers.py
            "schedule.name": "linear",
            "method.name": "soteacher",  # the options of methods: tests/teaching
            "seed": 1,
        }.items()
    },
    "review.k": (1, weights, {}),
    "review.delta": (2, weights, {}),
    "review.lambda": (5.0, weights, {}),
    "review.lambda_warmup": (5, weights, {}),
    "review.reduction": ("sum", weights, {}),
    "review.tap_reduction": ("mean", weights, {}),
    "review.extractor.share": (True, extractor_count, {}),
    "review.extractor.training.optimizer": ("own", extractors, {}),
    "review.extractor.training.lr": (0.1, extractors, OWN),
    "review.extractor.training.weight_decay": (0.5, extractors, OWN),
    "review.extractor.training.decay_when_frozen": (True, extractors, {}),
    "review.extractor.training.reset": (True, extractors, {}),
    "review.extractor.training.warmup_steps": (2, weights, {}),
    "training.epochs": (5, rates, {}),
    "training.lr": (0.02, weights, {}),
    "training.milestones": ([1], rates, {}),
    "training.milestone_convention": ("after", rates, DROPS),
    "training.gamma": (0.5, rates, DROPS),
    "training.momentum": (0.5, weights, {}),
    "training.nesterov": (True, weights, {}),
    "training.weight_decay": (0.1, weights, {}),
    "training.optimizer.name": ("adamw", weights, {}),
    "training.schedule.name": ("linear", rates, {}),  # the options of schedules: tests/training/test_rates.py
    "training.schedule.warmup": ({"epochs": 2}, rates, LINEAR),
    "training.schedule.by": ("step", weights, LINEAR),
    "teacher.training.schedule.warmup": ({"epochs": 1}, teacher_key, {"teacher": {"training": LINES}}),
    "teacher.training.schedule.by": ("step", teacher_key, {"teacher": {"training": LINES}}),
    "training.precision": ("bfloat16", weights, {}),
    "training.channels_last": (False, layout, {}),
    "training.fold": (False, weights, {}),
    "training.graphs": ("never", lambda e: build_trainer(e).engine.reason, {}),
    "training.kernels": ("fastest", lambda e: build_trainer(e).compute.kernels, {}),
    "training.compile": (
        "never",
        lambda e: e.training.compiles(torch.device("cuda")),
        {"training": {"kernels": "fastest"}},
    ),
    "training.batch_norm_groups": (2, weights, {"review": None}),
    "training.accumulate": (2, weights, {"review": None}),
    "training.threads": (2, threads, {"training": {"threads": 1}}),
    "training.checkpoint.seconds": (0, lambda e: Saver(Path("here.pt"), e.training.checkpoint.seconds).is_due, {}),
    "evaluation.validation": (4, lambda e: [*map(e.schedule().validates, range(e.training.epochs))], {}),
    "evaluation.test": ("every_epoch", epochs_with_test, {}),
    # tests/records/kept/test_kept_examples.py reads what is kept
    "evaluation.examples": ("predictions", lambda e: e.evaluation.examples, {}),
    "seed": (2, weights, {}),
    "observe": (["gradient_norms"], line_names, {}),
}
ELSEWHERE = (
    "task.",
    "teacher.name",
    "student.name",
    "distiller.name",
    "review.plan.",
    "review.transform.",
    "review.target.",
    "review.memory.",
    "review.taps.",
    "review.extractor.",
    *(f"review.{name}" for name in ("sequence", "increment_kind", "include_current")),
    "training.device",
)


def at(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def leaves(value: Any, path: str = "") -> list[str]:
    if isinstance(value, Mapping):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{path}.{key}" if path else key)]
    return [path]


@pytest.mark.parametrize("path", FLIPS)
def test_every_flip_is_seen(tiny: Tiny, path: str) -> None:
    value, seen, setting = FLIPS[path]
    plain, flipped = tiny(**setting), tiny(**documents.merge(setting, at(path, value)))
    assert seen(plain) != seen(flipped)


def test_no_option_is_left_out(tiny: Tiny) -> None:
    known = leaves(tiny().plain())
    missing = [path for path in known if path not in FLIPS and not path.startswith(ELSEWHERE)]
    assert missing == [] and set(FLIPS) <= set(known)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to be had")
def test_a_gpu_that_is_not_there_is_refused(tiny: Tiny) -> None:
    with pytest.raises(InputError, match="'cuda' was asked for but this machine shows no GPU"):
        build_trainer(tiny(review=None, training={"device": "cuda"}))
