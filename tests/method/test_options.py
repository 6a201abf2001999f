"""Every option, when flipped, changes what is named beside it; where it does not apply, it is refused."""

from __future__ import annotations

import inspect
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from tskd_tune.contracts import Classified, Shapes
from tskd_tune.method.extractors import (
    EXTRACTORS,
    Conv3d,
    ConvGRU,
    ExtractorSite,
    TemporalAttention,
    build_extractors,
)
from tskd_tune.method.extractors.conv_lstm import ConvLSTM
from tskd_tune.method.memory import Memory
from tskd_tune.method.plan import ReviewPlan
from tskd_tune.method.review import ReviewLoss
from tskd_tune.method.sequences import KnowledgeSequence, Target
from tskd_tune.method.taps import Taps
from tskd_tune.method.transforms import Attention
from tskd_tune.registry import Group

torch.set_num_threads(1)
SIZES = {"stem": 8, "stage1": 8, "stage2": 4, "stage3": 2}
SMALL_TEACHER = {"stem": 5, "stage1": 5, "stage2": 3, "stage3": 1}
SITE = ExtractorSite(3, 4, 4, 0, 1)


class Net(nn.Module):
    """A net of one layer a stage, whose outputs have every table filled."""

    def __init__(self, seed, sizes, channels=2):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.sizes = sizes
        self.norm = nn.BatchNorm2d(channels)
        self.weight = nn.Parameter(torch.randn(len(sizes), channels, 1, 1, generator=generator))

    def forward(self, images):
        normed = self.norm(images)
        before = {
            name: nn.functional.adaptive_avg_pool2d(torch.sin(3 * weight * normed), size)
            for (name, size), weight in zip(self.sizes.items(), self.weight, strict=True)
        }
        after = {name: map_.relu() for name, map_ in before.items()}
        return Classified(torch.zeros(3, 2), after, before, torch.zeros(3, 2))


@cache
def images():
    return 1 + torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def outcome(teacher_sizes=SIZES, **parts):
    """Return the loss of one review and the student's gradient, with the given options of each part."""
    student, teacher, memory = Net(1, SIZES), Net(2, teacher_sizes), Memory(3, **parts.get("memory", {}))
    for seed in range(3):
        memory.memorize(Net(10 + seed, SIZES))
    today, theirs = student(images()), teacher(images())
    taps = Taps(Shapes.of(today), Shapes.of(theirs), **parts.get("taps", {}))
    sequence = KnowledgeSequence(**parts.get("sequence", {}))
    with torch.random.fork_rng():
        torch.manual_seed(1)  # a seed whose predictions have both signs, so that a ReLU shows
        name, options = parts.get("extractor", ("conv_lstm", {"hidden": 2}))
        steps = sequence.steps(3)
        extractors = build_extractors(lambda site: EXTRACTORS.build(name, site, **options), steps, taps.sites)
        for parameter in (weight for extractor in extractors for weight in extractor.parameters()):
            nn.init.uniform_(parameter, -2, 2)
    loss = ReviewLoss(
        taps,
        Attention(**parts.get("transform", {})),
        sequence,
        Target(**parts.get("target", {})),
        extractors,
        **parts.get("review", {}),
    )
    terms = loss(today, theirs, memory.recall(images()), torch.Generator().manual_seed(1))
    gradient = torch.autograd.grad(terms.loss, student.weight, allow_unused=True)[0]
    return terms.loss.item(), torch.zeros(()) if gradient is None else gradient


def loss(part, **setting):
    """Observe the loss of a review whose ``part`` takes the options under test."""
    return lambda options: outcome(**{**setting, part: {**setting.get(part, {}), **options}})[0]


def gradient(part, **setting):
    """Observe the student's gradient under a loss that stays as it was."""
    return lambda options: tuple(
        outcome(**{**setting, part: {**setting.get(part, {}), **options}})[1].flatten().tolist()
    )


def extractor_loss(name, **setting):
    """Observe the loss of a review with the named extractor, of square taps that a strided stem can halve."""
    return lambda options: outcome(taps={"layers": ["stage1"]}, extractor=(name, {"hidden": 2, **setting, **options}))[
        0
    ]


def parameters(factory, **setting):
    """Observe the shapes of the parameters of an extractor."""
    return lambda options: [
        (name, tuple(value.shape)) for name, value in factory(SITE, **{**setting, **options}).named_parameters()
    ]


def plan(attribute, **setting):
    """Observe an attribute of a plan of 240 epochs, k = 3 and delta = 5."""
    return lambda options: getattr(ReviewPlan(240, 3, 5, 391, **{**setting, **options}), attribute)


def steps(options):
    """Observe how many steps of 100 review."""
    return ReviewPlan(240, 3, 5, **options).review_steps(100)


# class -> option -> (what is observed, the values that must all be observed differently)
CONTRACT: dict[Any, dict[str, tuple[Any, list[Any]]]] = {
    ReviewPlan: {
        "node": (plan("review_epochs"), ["epoch", 100, 1000]),
        "spacing": (plan("review_epochs"), ["period", "gap"]),
        "cycle": (plan("review_epochs"), ["disjoint", "chained", "sliding"]),
        "first_memory": (plan("memory_epochs"), [0, 7, "interval"]),
        "review_offset": (plan("review_epochs"), ["delta", "next"]),
        "moment": (plan("moment"), ["epoch_end", "epoch_start"]),
        "review_fraction": (steps, [1.0, 0.5]),
        "max_reviews": (plan("review_epochs"), [None, 4]),
        "review_window": (plan("review_epochs"), [None, [40, 100]]),
    },
    Attention: {
        "power": (loss("transform"), [1, 2, 3]),
        "reduce": (loss("transform", transform={"norm": "none"}), ["sum", "mean", "max"]),
        "norm": (loss("transform"), ["none", "l2", "l2_rms", "column_l2", "sum1"]),
    },
    Taps: {
        "layers": (loss("taps"), ["stages", "official", "last", ["stage2"]]),
        "point": (loss("taps"), ["post", "pre"]),
        "teacher_point": (loss("taps", taps={"layers": ["stem", "stage1"]}), ["post", "pre", "official"]),
        "size_match": (
            loss("taps", teacher_sizes=SMALL_TEACHER),
            ["pool_larger", "pool_teacher", "interp_student"],
        ),
    },
    KnowledgeSequence: {
        "sequence": (loss("sequence"), ["increment", "feature_map"]),
        "increment_kind": (loss("sequence"), ["abs", "signed", "squared"]),
        "sequence_order": (loss("sequence"), ["forward", "reversed", "shuffled", "repeat_last", "zeros"]),
        "include_current": (loss("sequence", sequence={"sequence": "feature_map"}), [True, False]),
        "sequence_gradient": (gradient("sequence"), ["attach", "detach"]),
    },
    Target: {
        "kind": (loss("target"), ["absolute_increment", "teacher_map"]),
        "gradient": (gradient("target"), ["attach", "detach"]),
        "prediction_scale": (loss("target"), [1.0, 0.5, 0.0]),
    },
    ConvLSTM: {
        "hidden": (parameters(ConvLSTM), [2, [3]]),
        "layers": (parameters(ConvLSTM), [1, 2, 3]),
        "kernel": (parameters(ConvLSTM), [1, 3, 5]),
        "peephole": (parameters(ConvLSTM), ["channel", "full", "none"]),
        "stem": (parameters(ConvLSTM, head="conv1x1"), ["none"]),
        "forecaster_input": (extractor_loss("conv_lstm"), ["zeros", "last"]),
        "readout": (parameters(ConvLSTM, forecast_steps=3), ["h", "h_c", "all_steps"]),
        "head": (parameters(ConvLSTM, stem="none"), ["conv1x1"]),
        "forecast_steps": (extractor_loss("conv_lstm"), [1, 2]),
        "out_activation": (extractor_loss("conv_lstm"), ["none", "relu", "softplus"]),
        "initialization": (extractor_loss("conv_lstm"), ["separate", "joint"]),
    },
    ConvGRU: {"hidden": (parameters(ConvGRU), [2, 3]), "kernel": (parameters(ConvGRU), [1, 3])},
    Conv3d: {"hidden": (parameters(Conv3d), [2, 3]), "kernel": (parameters(Conv3d), [1, 3])},
    TemporalAttention: {
        "hidden": (parameters(TemporalAttention), [2, 4]),
        "heads": (extractor_loss("temporal_attention"), [1, 2]),
        "kernel": (parameters(TemporalAttention), [1, 3]),
        "position": (extractor_loss("temporal_attention"), ["sinusoidal", "learned", "none"]),
    },
    Memory: {"batch_norm": (loss("memory"), ["eval", "train"])},
    ReviewLoss: {
        "reduction": (loss("review"), ["mean", "sum"]),
        "tap_reduction": (loss("review"), ["sum", "mean"]),
    },
}
# Values that no setting can tell from another here, and where they are observed instead.
ELSEWHERE = {
    (Taps, "size_match", "error"),  # refuses: test_taps
    (Taps, "layers", "pyramid"),  # for detectors: test_padding
    (KnowledgeSequence, "sequence_order", "random_memory"),  # changes what the memory holds: test_memory
    (ConvLSTM, "stem", "strided8"),  # goes with head: deconv, below
    (ConvLSTM, "head", "deconv"),
}
CASES = [(kind, option) for kind, options in CONTRACT.items() for option in options]


def keyword_only(kind):
    found = inspect.signature(kind).parameters.values()
    return {parameter.name: parameter.default for parameter in found if parameter.kind is parameter.KEYWORD_ONLY}


def choices(hint):
    """Return every value of every `Literal` in a type."""
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    if hint is NoneType or get_origin(hint) in (Annotated, list):
        return set()
    return {choice for part in get_args(hint) for choice in choices(part)}


@pytest.mark.parametrize(("kind", "option"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_every_flip_is_observed(kind, option):
    observe, values = CONTRACT[kind][option]
    seen = [observe({option: value}) for value in values]
    for i, first in enumerate(seen):
        for second in seen[:i]:
            assert first != second, f"{option}: {values[i]!r} changes nothing"


@pytest.mark.parametrize("kind", CONTRACT)
def test_the_contract_leaves_no_option_out(kind):
    assert set(keyword_only(kind)) == set(CONTRACT[kind])
    hints = get_type_hints(kind.__init__, include_extras=True)
    for option, (_, values) in CONTRACT[kind].items():
        elsewhere = {value for *place, value in ELSEWHERE if place == [kind, option]}
        named = {value for value in values if isinstance(value, str)}
        assert choices(hints[option]) == named | elsewhere, option


@pytest.mark.parametrize("kind", CONTRACT)
def test_options_are_read_from_the_signature(kind):
    adapter = TypeAdapter(Annotated[Any, Group(kind)])
    assert adapter.validate_python({}).options() == keyword_only(kind)
    for option, (_, values) in CONTRACT[kind].items():
        for value in values:
            assert adapter.validate_python({option: value}).options()[option] == value
    with pytest.raises(ValueError, match="unknown key"):
        adapter.validate_python({"kind_of": 1})


def test_the_strided_stem_and_its_head_change_the_loss():
    assert extractor_loss("conv_lstm")({}) != extractor_loss("conv_lstm")({"stem": "strided8", "head": "deconv"})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ReviewPlan, {"review_fraction": 0.0}),
        (ReviewPlan, {"review_fraction": 1.5}),
        (ReviewPlan, {"max_reviews": 0}),
        (ReviewPlan, {"first_memory": -1}),
        (ReviewPlan, {"first_memory": "start"}),
        (Attention, {"power": 0}),
        (ConvLSTM, {"kernel": 2}),
        (ConvLSTM, {"hidden": [4, 0]}),
        (Taps, {"layers": "all"}),
    ],
)
def test_bounds_stand_in_the_signature(kind, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TypeAdapter(Annotated[Any, Group(kind)]).validate_python(options)
