"""One run's options: what is refused and how, what a preset fills, what is a deviation, that all round-trips."""

from __future__ import annotations

from typing import Any

import pytest

from tskd_tune.distillers.at import AT
from tskd_tune.distillers.base import DISTILLERS, Need
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.presets import PRESETS, SNAPSHOTS, WIDE, remaining
from tskd_tune.experiment.verification import verify
from tskd_tune.networks.cifar_resnet import CifarResNet
from tskd_tune.registry import Entry

BASE: dict[str, Any] = {"task": "cifar100", "teacher": "resnet56", "student": "resnet20"}


def read(**over: Any) -> Experiment:
    return Experiment.read({**BASE, **over})


def test_the_default_is_the_papers_setting() -> None:
    experiment = read()
    assert experiment.review is not None
    assert (experiment.review.k, experiment.review.delta, experiment.review.lambda_) == (3, 5, 1.0)
    assert (experiment.training.epochs, experiment.training.lr) == (240, 0.1)
    assert experiment.training.milestones == [150, 180, 210]
    assert experiment.review.transform.options() == {"power": 2, "reduce": "sum", "norm": "l2"}
    assert experiment.distiller.name == "none"
    assert experiment.plain()["task"]["batch_size"] == 128
    plan = experiment.plan()
    assert plan is not None and len(plan.review_epochs) == 12 and experiment.warnings() == []


def test_official_is_the_authors_code() -> None:
    plain = read(preset="official").plain()
    assert plain["distiller"] == {"name": "kd", "temperature": 4.0, "weight": 1.0, "task_weight": 1.0}
    assert plain["review"]["transform"]["norm"] == "column_l2" and plain["review"]["taps"]["layers"] == "official"
    assert plain["review"]["extractor"]["hidden"] == [64, 64, 32] and plain["review"]["extractor"]["stem"] == "strided8"
    assert plain["review"]["extractor"]["initialization"] == "joint"
    assert read().plain()["review"]["extractor"]["initialization"] == "separate"
    assert plain["review"]["memory"]["batch_norm"] == plain["teacher"]["batch_norm"] == "train"
    assert plain["task"]["normalization"] == "cifar10" != read().plain()["task"]["normalization"]
    assert plain["training"]["nesterov"] and plain["evaluation"]["test"] == "every_epoch"
    recipe = read(preset="official").training.recipe()
    assert recipe.rate(150) == pytest.approx(0.1) and recipe.rate(151) == pytest.approx(0.01)


def test_official_is_the_authors_code_of_the_pair() -> None:
    """The authors have a file of their own for VGG, and lower the rate for mobile students."""
    resnet, vgg = read(preset="official"), read(preset="official", student="vgg8", teacher="vgg13")
    assert resnet.review is not None and vgg.review is not None
    taps, extractor = vgg.review.taps.options(), vgg.review.extractor.options()
    assert (taps["point"], taps["teacher_point"], extractor["hidden"]) == ("post", "post", [64, 32, 32])
    assert resnet.review.taps.options()["teacher_point"] == "official"
    assert extractor["stem"] == "strided8" and extractor["initialization"] == "joint"
    mixed = read(preset="official", student="mobilenet_v2", teacher="vgg13")
    assert mixed.review is not None and mixed.review.extractor.options()["hidden"] == [64, 64, 32]
    assert (resnet.training.lr, vgg.training.lr, mixed.training.lr) == (0.1, 0.1, 0.02)
    for pair in (resnet, vgg, mixed):
        assert pair.deviations() == [SNAPSHOTS]
        assert Experiment.read(pair.plain()) == pair
    own = {"taps": {"teacher_point": "official"}, "extractor": {"initialization": "separate"}}
    assert read(preset="official", student="vgg8", teacher="vgg13", review=own).deviations() == [
        "review.extractor.initialization: separate (preset: joint)",
        "review.taps.teacher_point: official (preset: post)",
        SNAPSHOTS,
    ]
    synthetic = {"name": "synthetic", "size": 32}
    verify(read(preset="official", task=synthetic, student="vgg8", teacher="vgg13"))


def test_official_says_what_still_differs_from_the_authors_code() -> None:
    assert read(preset="official", student="wrn_40_1", teacher="wrn_40_2").deviations() == [SNAPSHOTS, WIDE]
    assert read(preset="official", review=None).deviations() == ["review: null (preset: on)"]
    assert read(preset="paper", student="wrn_40_1", teacher="wrn_40_2").deviations() == []


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_whole_buildable_and_no_deviation_from_itself(preset: str) -> None:
    experiment = read(preset=preset)
    assert experiment.deviations() == remaining(preset, "resnet56")
    assert Experiment.read(experiment.plain()) == experiment
    synthetic = {"name": "synthetic", "size": 32}
    verify(read(preset=preset, task=synthetic, student="resnet8", teacher="resnet14"))


def test_what_a_file_sets_wins_over_its_preset() -> None:
    review = {"k": 6, "taps": "stages", "extractor": {"name": "conv_gru"}}
    experiment = read(preset="official", review=review, distiller="none")
    assert experiment.review is not None
    assert experiment.review.taps.options()["layers"] == "stages"
    assert experiment.review.taps.options()["size_match"] == "pool_teacher"
    assert experiment.review.extractor.options() == {"hidden": 16, "kernel": 3}
    assert experiment.distiller.name == "none"
    assert read(preset="official", review=None).review is None


def test_deviations_are_relative_to_the_preset() -> None:
    assert read(review={"k": 6, "lambda": {"auto": 0.1}}, seed=9).deviations() == [
        "review.k: 6 (preset: 3)",
        "review.lambda: {'auto': 0.1} (preset: 1.0)",
    ]
    beside = ["distiller: at (preset: none)", "review: null (preset: on)"]
    assert read(review=None, distiller="at").deviations() == beside
    assert Experiment.read({"task": "cifar100", "student": "resnet20", "review": None}).deviations() == [
        "review: null (preset: on)"
    ]


def test_deviations_know_options_without_a_default() -> None:
    task = {"name": "image_folder", "root": "somewhere", "size": 64}
    assert read(task=task).deviations() == ["task.size: 64 (preset: 32)"]


def test_only_what_needs_a_teacher_needs_one() -> None:
    alone = {"task": "cifar100", "student": "resnet20"}
    assert not Experiment.read({**alone, "review": None}).needs_teacher
    with pytest.raises(InputError, match="teacher: is missing, but the review asks for one"):
        Experiment.read(alone)
    with pytest.raises(InputError, match="teacher: is missing, but the distiller 'kd' asks for one"):
        Experiment.read({**alone, "review": None, "distiller": "kd"})


def test_the_teachers_training_is_a_plain_one_of_its_own() -> None:
    experiment = read(teacher={"name": "wrn_40_2", "training": {"epochs": 40, "seed": 7}}, training={"lr": 0.5}, seed=3)
    plain = experiment.teacher_experiment()
    assert plain.review is None and plain.distiller.name == "none" and plain.teacher is None
    assert (plain.student.name, plain.seed, plain.training.epochs, plain.training.lr) == ("wrn_40_2", 7, 40, 0.1)
    assert plain.training.milestones == [25, 30, 35]


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({"revew": {}}, "unknown key 'revew'; did you mean 'review'?"),
        ({"review": {"kk": 3}}, "review: unknown key 'kk'; did you mean 'k'?"),
        ({"review": {"k": 0}}, "review.k: must be greater than 0, got 0"),
        ({"review": {"delta": 0}}, "review.delta: must be greater than 0, got 0"),
        ({"review": {"k": "3"}}, "review.k: must be an integer, got '3'"),
        (
            {"review": {"k": 9, "delta": 30}},
            "review: the first review is epoch 270 but training has 240 epochs; lower k or delta, or train longer",
        ),
        ({"review": {"lambda": -1}}, "review.lambda: must be a number from 0 up or {auto: share}, got -1"),
        ({"review": {"lambda": float("inf")}}, "review.lambda: must be a number from 0 up or {auto: share}, got inf"),
        ({"review": {"lambda": "loud"}}, "review.lambda: must be a number from 0 up or {auto: share}, got 'loud'"),
        ({"review": {"lambda": {"auto": 0}}}, "review.lambda.auto: must be greater than 0, got 0"),
        ({"review": {"sequence": "maps"}}, "review.sequence: must be 'increment' or 'feature_map', got 'maps'"),
        (
            {"review": {"sequence": "feature_map", "increment_kind": "signed"}},
            "review.increment_kind: does not apply to sequence: feature_map",
        ),
        (
            {"review": {"extractor": {"name": "conv_lstm", "training": {"lr": 0.1}}}},
            "extractor.training.lr: does not apply to the shared optimizer",
        ),
        ({"student": "resnet21"}, "student: 'resnet21' is not among the networks; did you mean"),
        ({"training": {"epochs": 20, "milestones": [150]}}, "milestones: 150 is never reached in 20 epochs"),
        ({"training": {"milestones": [20, 10]}}, "milestones: must rise, got [20, 10]"),
        ({"training": {"lr": 0}}, "training.lr: must be greater than 0, got 0"),
        ({"preset": "papr"}, "preset: must be 'paper', 'official' or 'paper_literal', got 'papr'"),
        ({"training": {"nesterov": True, "momentum": 0}}, "training.nesterov: true needs a momentum above 0"),
        ({"training": {"nesterov": True, "momentum": 0.0}}, "training.nesterov: true needs a momentum above 0"),
        ({"training": 12}, "training: must be a mapping (key: value), got 12"),
        ({"training": [1]}, "training: must be a mapping (key: value), got [1]"),
        ({"training": {"epochs": 10**12}}, "training.epochs: must be less than or equal to 100000"),
        ({"review": "none"}, "or null for no review, got 'none'"),
        ({"review": False}, "review: must be a mapping, such as {k: 3, delta: 5} ({} for the defaults), or null"),
        ({"review": {"K": 3}}, "review: unknown key 'K'; did you mean 'k'?"),
        ({"distiller": None}, "distiller: must be a distiller, got null; write distiller: none for no distiller"),
        ({"distiller": False}, "write distiller: none for no distiller"),
        ({"distiller": "KD"}, "distiller: 'KD' is not among the distillers; did you mean 'kd'?"),
        ({"distiller": "resnet20"}, "distiller: 'resnet20' is not among the distillers; it is one of the networks"),
        ({"student": "ResNet20"}, "student: 'ResNet20' is not among the networks; did you mean 'resnet20'?"),
        ({"student": None}, "student: must be a mapping with a 'name' out of the networks, got null"),
        ({"teacher": "none"}, "teacher: must be a network or null, got 'none'; write teacher: null for no teacher"),
        ({"teacher": {"name": "none"}}, "write teacher: null for no teacher"),
        ({"experiment": {"seed": 1}}, "unknown key 'experiment'; the file is a single experiment, whose keys"),
        ({"seed": -1}, "seed: must be greater than or equal to 0, got -1"),
        (
            {"evaluation": {"test": "best"}},
            "evaluation.test: must be 'never', 'last' or 'every_epoch', got 'best'",
        ),
        ({"task": {"batch_size": 4}}, "task: must be a mapping with a 'name' out of the tasks"),
    ],
)
def test_each_mistake_is_a_sentence(over: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        read(**over)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({"review": {"taps": ["stage9"]}}, "stage9"),
        (
            {"evaluation": {"test": "never"}, "task": {"name": "synthetic", "validation": 0}},
            "evaluation.test: is 'never' and there is no validation set",
        ),
        ({"review": {"extractor": {"name": "conv_lstm", "hidden": [4, 4]}}}, "hidden"),
    ],
)
def test_parts_that_do_not_fit_are_found_without_data(over: dict[str, Any], sentence: str) -> None:
    experiment = read(**{"task": "synthetic", "student": "resnet8", "teacher": "resnet14", **over})
    with pytest.raises(InputError, match=sentence):
        verify(experiment)


def test_a_recipe_of_a_teacher_that_is_not_trained_by_it_is_named() -> None:
    """Weights were given beside `teacher.training`, and nothing said that they were not trained by it."""
    teacher = {"name": "resnet14", "training": {"seed": 3, "lr": 0.05}}
    basis = {"task": "synthetic", "student": "resnet8", "review": None}

    def said(over: dict[str, Any], distiller: str = "kd") -> str:
        return "; ".join(read(**basis, distiller=distiller, teacher={**teacher, **over}).warnings())

    given, tuned = {"weights": "/t.pth"}, {"weights": "/t.pth", "fine_tune": {"epochs": 2}}
    start = "teacher.training has no effect (lr, seed), because teacher.weights is "
    assert said(given) == f"{start}/t.pth, and they teach as they are; leave teacher.training out"
    assert "trained further by teacher.fine_tune; give the options there" in said(tuned)
    assert said({"weights": "untrained"}, "ekd").startswith(f"{start}untrained, and the teacher is trained together")
    assert said({}) == said({**given, "training": {}}) == said(given, "none") == ""
    whole = read(**basis, distiller="kd", teacher={**given, "name": "resnet14"})
    assert Experiment.read(whole.plain()).warnings() == []


def test_a_preset_brings_no_task_and_no_teacher() -> None:
    with pytest.raises(InputError, match="task: is required but missing"):
        Experiment.read({"preset": "official", "student": "resnet20", "teacher": "resnet56"})
    digits = read(preset="official", task="digits")
    assert digits.task.name == "digits" and digits.deviations() == [SNAPSHOTS]


def test_a_distiller_that_reads_batch_norms_is_refused_where_the_teacher_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Margins(AT):
        needs = frozenset({Need.FEATURES, Need.BATCH_NORMS})

    monkeypatch.setitem(DISTILLERS._entries, "margins", Entry("margins", Margins, "a double"))
    experiment = read(task="synthetic", student="resnet8", teacher="resnet14", review=None, distiller="margins")
    verify(experiment)
    monkeypatch.setattr(CifarResNet, "stage_norms", lambda self: {})
    with pytest.raises(InputError, match="'margins' uses the teacher's batch norms, but 'resnet14' has none"):
        verify(experiment)


def test_shorthands_mean_mappings() -> None:
    long = read(review={"taps": {"layers": ["stage2"]}, "transform": {"name": "attention"}}, distiller={"name": "kd"})
    assert long == read(review={"taps": ["stage2"], "transform": "attention"}, distiller="kd")
