"""A review of images of different sizes, padded to one, against the mean over the images taken one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tskd_tune.contracts import Batch, Features, Shapes
from tskd_tune.errors import InputError
from tskd_tune.method.extractors import EXTRACTORS, build_extractors
from tskd_tune.method.padding import Padding
from tskd_tune.method.review import ReviewLoss
from tskd_tune.method.sequences import KnowledgeSequence, Target
from tskd_tune.method.taps import Taps
from tskd_tune.method.transforms import Attention, Channels, PrincipalComponents, Transform

SIZES = torch.tensor([[64, 96], [96, 64], [80, 80]])
STRIDES = {"stage1": 8, "stage2": 16}
K = 2


class Plain(Transform):
    """A transform that knows nothing of padding, and maps zeros to one."""

    def forward(self, features):
        return features.square().mean(1) + 1


def drawn(seed, size, factor=1, channels=2, gradient=False):
    """Features of an image, or of a padded batch whose true parts they fill in: `factor` times as fine."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    return {
        name: torch.randn(
            1, channels, factor * height // stride, factor * width // stride, generator=generator, dtype=torch.float64
        ).requires_grad_(gradient)
        for name, stride in STRIDES.items()
    }


def padded(alone):
    """Pad the features of each image to the largest, with numbers that must not matter."""
    maps = {}
    for name in STRIDES:
        height, width = (max(one[name].shape[side] for one in alone) for side in (2, 3))
        rows = []
        for one in alone:
            below, beside = height - one[name].shape[2], width - one[name].shape[3]
            rows.append(nn.functional.pad(one[name], (0, beside, 0, below), value=7.0))
        maps[name] = torch.cat(rows)
    return maps


def output(maps):
    return Features(maps, {})


def review(shapes, teacher_shapes, *, extractor="last_step", options=None, **parts):
    taps = Taps(shapes, teacher_shapes, **parts.get("taps", {}))
    sequence = KnowledgeSequence(**parts.get("sequence", {}))
    torch.manual_seed(0)
    extractors = build_extractors(
        lambda site: EXTRACTORS.build(extractor, site, **(options or {})).double(), sequence.steps(K), taps.sites
    )
    for weight in (weight for one in extractors for weight in one.parameters()):
        nn.init.uniform_(weight, -0.5, 0.5)
    transform = parts.get("transform", Attention())
    return ReviewLoss(taps, transform, sequence, Target(), extractors, **parts.get("review", {}))


def compare(finer=1, **parts):
    """Compare loss, teacher gap and gradients of a padded batch with the mean over its images alone."""
    students = [drawn(i, size, gradient=True) for i, size in enumerate(SIZES.tolist())]
    teachers = [drawn(10 + i, size, finer, 3) for i, size in enumerate(SIZES.tolist())]
    pasts = [[drawn(20 + 5 * step + i, size) for i, size in enumerate(SIZES.tolist())] for step in range(K)]
    batch = [padded(one) for one in (students, teachers, *pasts)]
    ours, theirs, *past = map(output, batch)
    loss = review(Shapes.of(ours), Shapes.of(theirs), **parts)
    padding = Padding.of(Batch(torch.zeros(3, 3, 96, 96), torch.zeros(3), torch.arange(3), SIZES))
    terms = loss(ours, theirs, past, padding=padding)
    alone = [
        loss(output(students[i]), output(teachers[i]), [output(past[i]) for past in pasts]) for i in range(len(SIZES))
    ]
    wanted = [torch.stack(found).mean() for found in zip(*((one.loss, one.teacher_gap) for one in alone), strict=True)]
    torch.testing.assert_close(terms.loss, wanted[0], rtol=1e-11, atol=0)
    torch.testing.assert_close(terms.teacher_gap, wanted[1], rtol=1e-11, atol=0)
    sources = [map_ for student in students for map_ in student.values()] + list(loss.parameters())
    found, hoped = (torch.autograd.grad(one, sources, allow_unused=True) for one in (terms.loss, wanted[0]))
    for one, other in zip(found, hoped, strict=True):
        if one is None or other is None:
            assert one is other  # a peephole before the first step has no effect
            continue
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize(
    ("extractor", "options"),
    [
        *((name, {}) for name in EXTRACTORS.names() if name != "pixel_ar"),
        ("conv_lstm", {"layers": 3, "readout": "h_c", "hidden": 3}),
        ("conv_lstm", {"readout": "h_c", "forecaster_input": "last", "kernel": 5}),
        ("conv_lstm", {"readout": "all_steps", "forecast_steps": 3}),
    ],
)
def test_a_padded_batch_is_the_mean_over_its_images(extractor, options):
    compare(extractor=extractor, options=options)


def test_so_it_is_with_the_strided_stem_where_the_maps_are_even():
    # 96 and 64 pixels, at a stride of 8: 12 and 8 cells, 6 and 4 states
    compare(
        extractor="conv_lstm", options={"stem": "strided8", "head": "deconv", "hidden": 3}, taps={"layers": ["stage1"]}
    )


@pytest.mark.parametrize("norm", ["none", "l2", "l2_rms", "column_l2", "sum1"])
@pytest.mark.parametrize("power", [2, 3])
def test_each_map_is_normalized_over_its_image(norm, power):
    compare(transform=Attention(norm=norm, power=power, reduce="max"), extractor="conv_gru")


class Pair(Plain):
    """The same, as two maps per image."""

    def forward(self, features):
        return super().forward(features).unsqueeze(1) * torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)


@pytest.mark.parametrize("transform", [Plain(), Pair()])
def test_a_transform_that_knows_nothing_of_padding_sees_none(transform):
    compare(transform=transform, extractor="conv3d")


@pytest.mark.parametrize(
    "transform",
    [
        *(Channels(groups=1, norm=norm) for norm in ("l2", "l2_rms", "map_l2")),
        PrincipalComponents(components=2, norm="l2_rms"),
        PrincipalComponents(components=2, center=False),
    ],
)
def test_several_maps_of_an_image_are_made_of_that_image(transform):
    compare(transform=transform, extractor="conv_gru")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("sequence", [{}, {"sequence": "feature_map"}, {"increment_kind": "squared"}])
def test_so_it_is_for_every_reduction_and_sequence(reduction, sequence):
    compare(extractor="conv_lstm", review={"reduction": reduction, "tap_reduction": "mean"}, sequence=sequence)


@pytest.mark.parametrize("match", ["pool_larger", "pool_teacher", "interp_student"])
def test_sizes_are_matched_without_the_padding(match):
    compare(2, extractor="conv_lstm", taps={"size_match": match})


def test_a_batch_without_padding_has_the_loss_of_one_that_says_nothing_of_sizes():
    student, teacher, *past = (output(drawn(seed, (64, 64))) for seed in range(2 + K))
    loss = review(Shapes.of(student), Shapes.of(teacher), extractor="conv_lstm")
    whole = Padding(torch.tensor([[64, 64]]), 64, 64)
    found, wanted = loss(student, teacher, past, padding=whole), loss(student, teacher, past)
    torch.testing.assert_close(found.loss, wanted.loss, rtol=1e-13, atol=0)


@pytest.mark.parametrize(("size", "stride"), [(50, 8), (64, 8), (33, 16), (96, 32), (1, 32)])
def test_an_image_has_the_cells_that_a_network_makes_of_it_alone(size, stride):
    layers = nn.Sequential(*(nn.Conv2d(1, 1, 3, 2, 1) for _ in range(stride.bit_length() - 1)))
    alone = layers(torch.zeros(1, 1, size, size)).shape[-1]
    padding = Padding(torch.tensor([[size, 96]]), 96, 96)
    assert padding.cells((96 // stride, 96 // stride)).tolist() == [[alone, 96 // stride]]
    assert padding.inside((96 // stride, 96 // stride)).sum().item() == alone * 96 // stride


def test_a_batch_without_sizes_has_no_padding():
    assert Padding.of(Batch(torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(1))) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"peephole": "full"}, "different sizes.*'full' weights were made for .* 8x8 pixels.*use peephole: channel"),
        ({"stem": "strided8", "head": "deconv"}, "different sizes.*keep the size of the maps"),
    ],
)
def test_an_extractor_of_one_size_is_refused_where_images_differ(options, said):
    def make(site):
        return EXTRACTORS.build("conv_lstm", site, **options)

    build_extractors(make, K, [(8, 8)])
    with pytest.raises(InputError, match=said):
        build_extractors(make, K, [(8, 8)], varying=True)


@pytest.mark.parametrize("share", [True, False])
def test_an_extractor_of_any_size_is_built_where_images_differ(share):
    made = build_extractors(
        lambda site: EXTRACTORS.build("conv_lstm", site), K, [(8, 8), (4, 4)], share=share, varying=True
    )
    assert len(made) == (1 if share else 2)


def test_the_levels_of_a_pyramid_are_tapped_by_name():
    maps = {name: torch.zeros(1, 2, 4, 4) for name in ("stem", "stage1", "stage2", "fpn0", "fpn1", "fpn_pool")}
    shapes = Shapes.of(output(maps))
    assert Taps(shapes, shapes).names == ("stage1", "stage2")
    assert Taps(shapes, shapes, layers="last").names == ("stage2",)
    assert Taps(shapes, shapes, layers="pyramid").names == ("fpn0", "fpn1", "fpn_pool")
    assert Taps(shapes, shapes, layers=["stage2", "fpn0"]).names == ("stage2", "fpn0")
    backbone = Shapes.of(output({name: maps[name] for name in ("stem", "stage1")}))
    with pytest.raises(InputError, match="no stage to tap, got 'pyramid'; give one or more of stem, stage1"):
        Taps(backbone, backbone, layers="pyramid")
