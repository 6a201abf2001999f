from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tskd_tune.contracts import Classified, Shapes
from tskd_tune.errors import InputError
from tskd_tune.method.taps import Taps

SIZES = {"stem": 8, "stage1": 8, "stage2": 4, "stage3": 2}


def output(channels=2, sizes=SIZES, pre=tuple(SIZES), seed=0):
    generator = torch.Generator().manual_seed(seed)
    before = {
        name: torch.randn(2, channels, size, size + 2, generator=generator, dtype=torch.float64)
        for name, size in sizes.items()
    }
    return Classified(
        logits=torch.zeros(2, 3),
        features={name: map_.relu() for name, map_ in before.items()},
        preactivations={name: map_ for name, map_ in before.items() if name in pre},
        embedding=torch.zeros(2, channels),
    )


def taps(student, teacher, **options):
    return Taps(Shapes.of(student), Shapes.of(teacher), **options)


STUDENT, TEACHER = output(), output(channels=5, seed=1)


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("stages", ("stage1", "stage2", "stage3")),
        ("official", ("stem", "stage1", "stage2")),
        ("last", ("stage3",)),
        (["stage3", "stem"], ("stage3", "stem")),
    ],
)
def test_layers(layers, names):
    bound = taps(STUDENT, TEACHER, layers=layers)
    assert bound.names == names
    assert bound.sites == tuple((SIZES[name], SIZES[name] + 2) for name in names)
    for name, (ours, theirs) in zip(names, bound.pairs(STUDENT, TEACHER), strict=True):
        assert ours is STUDENT.features[name]
        assert theirs is TEACHER.features[name]


@pytest.mark.parametrize(
    ("options", "ours", "theirs"),
    [
        ({}, ["post", "post"], ["post", "post"]),
        ({"point": "pre"}, ["pre", "pre"], ["pre", "pre"]),
        ({"teacher_point": "pre"}, ["post", "post"], ["pre", "pre"]),
        ({"point": "pre", "teacher_point": "post"}, ["pre", "pre"], ["post", "post"]),
        ({"teacher_point": "official"}, ["post", "post"], ["post", "pre"]),
    ],
)
def test_points(options, ours, theirs):
    names = ["stem", "stage2"]
    pairs = taps(STUDENT, TEACHER, layers=names, **options).pairs(STUDENT, TEACHER)
    table = {"post": "features", "pre": "preactivations"}
    for name, pair, mine, other in zip(names, pairs, ours, theirs, strict=True):
        assert pair[0] is getattr(STUDENT, table[mine])[name]
        assert pair[1] is getattr(TEACHER, table[other])[name]


BIG = output(channels=5, sizes={"stem": 16, "stage1": 16, "stage2": 8, "stage3": 4})
ODD = output(channels=5, sizes={"stem": 13, "stage1": 13, "stage2": 7, "stage3": 3})


@pytest.mark.parametrize("teacher", [BIG, ODD])
def test_a_larger_teacher_is_pooled(teacher):
    for size_match in ("pool_larger", "pool_teacher"):
        bound = taps(STUDENT, teacher, size_match=size_match)
        assert bound.sites == ((8, 10), (4, 6), (2, 4))
        for name, (ours, theirs) in zip(bound.names, bound.pairs(STUDENT, teacher), strict=True):
            assert ours is STUDENT.features[name]
            size = ours.shape[-2:]
            torch.testing.assert_close(theirs, F.adaptive_avg_pool2d(teacher.features[name], size))


def test_a_larger_student_is_pooled_or_the_teacher_repeated():
    ours, theirs = taps(BIG, STUDENT, layers="last").pairs(BIG, STUDENT)[0]
    assert theirs is STUDENT.features["stage3"]
    torch.testing.assert_close(ours, F.adaptive_avg_pool2d(BIG.features["stage3"], (2, 4)))
    ours, theirs = taps(BIG, STUDENT, layers="last", size_match="pool_teacher").pairs(BIG, STUDENT)[0]
    assert ours is BIG.features["stage3"]
    assert theirs.shape[-2:] == (4, 6)
    assert torch.equal(theirs[..., 0, 0], STUDENT.features["stage3"][..., 0, 0])


def test_each_side_is_pooled_where_it_is_the_larger():
    flat, tall = output(sizes={"stage1": 4}), output(sizes={"stage1": 6})
    tall.features["stage1"] = tall.features["stage1"][..., :3]
    bound = taps(flat, tall)
    assert bound.sites == ((4, 3),)
    assert [map_.shape[-2:] for map_ in bound.pairs(flat, tall)[0]] == [(4, 3), (4, 3)]


def test_the_student_is_interpolated():
    bound = taps(STUDENT, BIG, size_match="interp_student")
    assert bound.sites[0] == (16, 18)
    ours, theirs = bound.pairs(STUDENT, BIG)[0]
    assert theirs is BIG.features["stage1"]
    expected = F.interpolate(STUDENT.features["stage1"], (16, 18), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("size_match", ["pool_larger", "pool_teacher", "interp_student"])
@pytest.mark.parametrize(("student", "teacher"), [(STUDENT, BIG), (BIG, STUDENT), (STUDENT, TEACHER)])
def test_memories_are_treated_as_today(student, teacher, size_match):
    bound = taps(student, teacher, size_match=size_match)
    today = [ours for ours, _ in bound.pairs(student, teacher)]
    for ours, remembered in zip(today, bound.of_student(student, today), strict=True):
        assert torch.equal(ours, remembered)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        (STUDENT, BIG, {"size_match": "error"}, "stage 'stage1' is 8x10 in the student but 16x18 in the teacher"),
        (STUDENT, TEACHER, {"layers": ["stage4"]}, "the student has no stage 'stage4'; did you mean 'stage"),
        (STUDENT, output(sizes={"stage1": 8}), {}, "the teacher has no stage 'stage2'"),
        (STUDENT, TEACHER, {"layers": []}, r"no stage to tap, got \[\]; give one or more of stem, stage1"),
        (output(sizes={"stem": 8}), TEACHER, {}, "no stage to tap, got 'stages'; give one or more of stem"),
        (STUDENT, TEACHER, {"layers": ["stem", "stem"]}, "a stage is tapped once"),
        (
            output(pre=("stage1", "stage2", "stage3")),
            TEACHER,
            {"layers": "official", "point": "pre"},
            "the student has no pre-activation of stage 'stem'; known: stage1, stage2, stage3; leave 'stem' out",
        ),
        (STUDENT, output(pre=()), {"teacher_point": "official"}, "the teacher has no pre-activation of .*'stage1'"),
    ],
)
def test_refusals(student, teacher, options, message):
    with pytest.raises(InputError, match=message):
        taps(student, teacher, **options)


def test_the_official_teacher_needs_no_pre_activation_of_the_stem():
    teacher = output(pre=("stage1", "stage2"))
    assert taps(STUDENT, teacher, layers="official", teacher_point="official").names[0] == "stem"


def test_only_maps_can_be_tapped():
    tokens = Classified(torch.zeros(2, 3), {"stage1": torch.zeros(2, 9, 4)}, {}, torch.zeros(2, 4))
    with pytest.raises(InputError, match=r"'stage1' of the student has the shape \[9, 4\]"):
        taps(tokens, TEACHER)
