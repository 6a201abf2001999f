"""ReviewKD against its modules and its hierarchical context loss, written out in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Features, Probe, Shapes
from tskd_tune.distillers import Need, padded
from tskd_tune.distillers.review_kd import hierarchical_context_loss
from tskd_tune.errors import InputError

BATCH = Batch(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 2]), torch.arange(3))
STAGES = ("stage1", "stage2")
EPOCHS = torch.Generator()


def output(
    seed: int, sizes: tuple[int, ...] = (8, 8, 4), channels: tuple[int, ...] = (2, 2, 3), width: int = 3
) -> Classified:
    source = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(3, *shape, generator=source, dtype=torch.float64).requires_grad_(seed == 0)

    layout = list(zip(("stem", *STAGES), channels, sizes, strict=True))
    features, before = ({name: drawn(count, size, size) for name, count, size in layout} for _ in range(2))
    return Classified(torch.zeros(3, 2), features, before, drawn(width))


def probe(student: Classified, teacher: Classified) -> Probe:
    return Probe(Shapes.of(student), Shapes.of(teacher), 2, torch.zeros(3))


def made(student: Classified, teacher: Classified, epoch: int = 50, **options: object) -> distillers.Distiller:
    torch.manual_seed(0)
    review_kd = distillers.build("review_kd", probe(student, teacher), **options).double()
    review_kd.begin_epoch(epoch, EPOCHS)
    return review_kd


def normed(maps: Tensor, layers: Any) -> Tensor:
    """A convolution without bias, of 1x1 or 3x3, and a batch norm in training."""
    convolution, norm = layers
    side = convolution.kernel_size[0]
    height, width = maps.shape[2:]
    maps = nn.functional.pad(maps, [side // 2] * 4)
    parts = [
        torch.einsum("bchw,oc->bohw", maps[:, :, i : i + height, j : j + width], convolution.weight[:, :, i, j])
        for i in range(side)
        for j in range(side)
    ]
    maps = sum(parts[1:], parts[0])
    mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), correction=0, keepdim=True)
    return (maps - mean) / (variance + 1e-5).sqrt() * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def nearest(maps: Tensor, side: int) -> Tensor:
    places = torch.arange(side) * maps.shape[-1] // side
    return maps[:, :, places][:, :, :, places]


def fused(features: Tensor, deeper: Tensor | None, fusion: Any, side: int) -> tuple[Tensor, Tensor]:
    inner = normed(features, fusion.entry)
    if deeper is not None:
        deeper = nearest(deeper, inner.shape[-1])
        both = torch.cat([inner, deeper], 1)
        shares = torch.einsum("bchw,oc->bohw", both, fusion.attention.weight[:, :, 0, 0])
        shares = 1 / (1 + torch.exp(-shares - fusion.attention.bias.view(1, -1, 1, 1)))
        inner = inner * shares[:, :1] + deeper * shares[:, 1:]
    inner = nearest(inner, side)
    return normed(inner, fusion.exit), inner


def context_loss(given: Tensor, wanted: Tensor) -> Tensor:
    side = given.shape[-1]
    loss, weight, total = (given - wanted).square().mean(), 1.0, 1.0
    for cells in (4, 2, 1):
        if cells >= side:
            continue
        assert side % cells == 0
        step, gaps = side // cells, given - wanted
        pooled = [
            gaps[:, :, i * step : (i + 1) * step, j * step : (j + 1) * step].mean((2, 3))
            for i in range(cells)
            for j in range(cells)
        ]
        weight /= 2
        loss = loss + weight * torch.stack(pooled).square().mean()
        total += weight
    return loss / total


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((8, 8, 4), (8, 8, 4)), ((8, 8, 4), (8, 4, 2)), ((4, 4, 2), (8, 8, 4)), ((8, 8, 2), (8, 16, 4))],
)
def test_it_is_the_context_loss_of_fused_stages_in_value_and_gradient(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    given, wanted = output(0, student), output(1, teacher, (4, 4, 6), 5)
    review_kd = made(given, wanted, weight=0.6)
    for module in review_kd.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias)
    loss = review_kd(given, wanted, BATCH)["review_kd"]

    first, second, third = review_kd.fusions
    expected = torch.zeros((), dtype=torch.float64)
    guess, deeper = fused(given.embedding[:, :, None, None], None, third, 1)
    expected = expected + context_loss(guess, wanted.embedding[:, :, None, None])
    for stage, fusion in (("stage2", second), ("stage1", first)):
        target = wanted.preactivations[stage]
        guess, deeper = fused(given.features[stage], deeper, fusion, target.shape[-1])
        expected = expected + context_loss(guess, target)
    expected = 0.6 * expected
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    sources = [given.embedding, *(given.features[stage] for stage in STAGES), *review_kd.parameters()]
    for found, hoped in zip(torch.autograd.grad(loss, sources), torch.autograd.grad(expected, sources), strict=True):
        assert found.abs().max() > 1e-8
        torch.testing.assert_close(found, hoped, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 8, 16])
def test_equal_maps_have_no_context_loss_and_a_constant_gap_has_its_square(side: int) -> None:
    wanted = torch.randn(2, 3, side, side, dtype=torch.float64)
    assert float(hierarchical_context_loss(wanted, wanted)) == 0.0
    # Every context sees the same gap, and the weights sum to 1.
    assert float(hierarchical_context_loss(wanted + 0.3, wanted)) == pytest.approx(0.09, rel=1e-12)


@pytest.mark.parametrize(("side", "total"), [(1, 1.0), (2, 1.5), (4, 1.75), (8, 1.875), (16, 1.875)])
def test_a_gap_without_context_weighs_what_the_full_size_weighs(side: int, total: float) -> None:
    rows = torch.arange(side).view(-1, 1)
    gap = torch.where((rows + torch.arange(side)) % 2 == 0, 1.0, -1.0).expand(2, 3, side, side)
    found = float(hierarchical_context_loss(gap, torch.zeros_like(gap)))
    assert found == pytest.approx(1 / total if side > 1 else 1.0, rel=1e-6)


@pytest.mark.parametrize(
    ("warmup", "shares"), [(20, {0: 0.0, 5: 0.25, 19: 0.95, 20: 1.0, 100: 1.0}), (1, {0: 0.0, 1: 1.0}), (0, {0: 1.0})]
)
def test_the_weight_rises_with_the_epochs(warmup: int, shares: dict[int, float]) -> None:
    given, wanted = output(0), output(1)
    review_kd = made(given, wanted, warmup=warmup)
    whole = float(review_kd(given, wanted, BATCH)["review_kd"].detach())
    assert whole > 0
    for epoch, share in shares.items():
        review_kd.begin_epoch(epoch, EPOCHS)
        found = float(review_kd(given, wanted, BATCH)["review_kd"].detach())
        assert found == pytest.approx(share * whole, rel=1e-12, abs=0)


@pytest.mark.parametrize(("most", "inner"), [(512, 3), (2, 2)])
def test_maps_are_fused_in_the_channels_of_the_embedding_with_a_limit(most: int, inner: int) -> None:
    given, wanted = output(0), output(1, channels=(4, 4, 6), width=5)
    fusions = made(given, wanted, max_channels=most).fusions
    shapes = [(fusion.entry[0].weight.shape[:2], fusion.exit[0].weight.shape[:2]) for fusion in fusions]
    assert shapes == [((inner, 2), (4, inner)), ((inner, 3), (6, inner)), ((inner, 3), (5, inner))]
    assert [fusion.attention is not None for fusion in fusions] == [True, True, False]


def test_the_first_weights_are_uniform_as_the_authors_draw_them() -> None:
    given, wanted = output(0, channels=(2, 64, 64)), output(1, channels=(2, 64, 64))
    fusion = made(given, wanted, max_channels=3).fusions[0]
    for convolution, inputs in ((fusion.entry[0], 64), (fusion.exit[0], 3 * 9)):
        bound = math.sqrt(3 / inputs)
        assert 0.9 * bound < float(convolution.weight.detach().abs().max()) <= bound


def test_stems_and_the_teachers_features_are_not_read() -> None:
    given, wanted = output(0), output(1)
    review_kd = made(given, wanted)
    bare = [
        Classified(Tensor(), {stage: given.features[stage] for stage in STAGES}, {}, given.embedding),
        Classified(Tensor(), {}, {stage: wanted.preactivations[stage] for stage in STAGES}, wanted.embedding),
    ]
    found, expected = review_kd(*bare, BATCH)["review_kd"], review_kd(given, wanted, BATCH)["review_kd"]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_defaults_are_the_authors() -> None:
    review_kd = made(output(0), output(1))
    assert (review_kd.weight, review_kd.warmup, review_kd.task_weight) == (1.0, 20, 1.0)


def test_a_teacher_without_preactivations_is_refused() -> None:
    whole = output(0)
    poor = Classified(whole.logits, whole.features, {}, whole.embedding)
    said = "'review_kd' reads the teacher's stages before their activation, but .* no such map of 'stage1' .known: none"
    with pytest.raises(InputError, match=said):
        distillers.build("review_kd", probe(whole, poor))
    distillers.build("review_kd", probe(poor, whole))


def test_a_teacher_without_a_stage_is_refused() -> None:
    whole = output(0)
    poor = Classified(whole.logits, {"stage1": whole.features["stage1"]}, whole.preactivations, whole.embedding)
    with pytest.raises(InputError, match="'review_kd' compares .* which lacks stage2; choose a teacher"):
        distillers.build("review_kd", probe(whole, poor))


SIZES = torch.tensor([[32, 24], [24, 32], [16, 16]])
LEVELS = {"fpn0": 4, "fpn1": 8, "fpn_pool": 16}


def level(image: int, seed: int, stride: int, channels: int = 4) -> Tensor:
    height, width = SIZES[image].tolist()
    source = torch.Generator().manual_seed(10 * seed + image)
    return torch.randn(1, channels, -(-height // stride), -(-width // stride), generator=source, dtype=torch.float64)


def levels_of(image: int, seed: int, channels: int = 4) -> dict[str, Tensor]:
    return {name: level(image, seed, stride, channels).requires_grad_(seed == 0) for name, stride in LEVELS.items()}


def joined(alone: list[dict[str, Tensor]]) -> Features:
    whole = {}
    for name, stride in LEVELS.items():
        side = 32 // stride
        padded = [
            nn.functional.pad(one[name], (0, side - one[name].shape[3], 0, side - one[name].shape[2]), value=9.0)
            for one in alone
        ]
        whole[name] = torch.cat(padded)
    return Features(whole, {})


def test_the_levels_of_a_pyramid_are_fused_and_compared_image_by_image() -> None:
    """With fixed statistics of the batch norms, a padded batch has the mean loss of its images."""
    students, teachers = ([levels_of(i, seed, channels) for i in range(3)] for seed, channels in ((0, 4), (1, 5)))
    ours, theirs = joined(students), joined(teachers)
    pair = Probe(Shapes.of(ours), Shapes.of(theirs), 2, torch.zeros(0), varying=True)
    torch.manual_seed(0)
    review_kd = distillers.build("review_kd", pair, stages=list(LEVELS), warmup=0).double().eval()
    assert review_kd.needs == {Need.FEATURES} and review_kd.smallest_batch == 1
    batch = Batch(torch.zeros(3, 3, 32, 32), torch.zeros(0), torch.arange(3), SIZES)
    loss = review_kd(ours, theirs, batch)["review_kd"]
    alone = [
        review_kd(
            Features(one, {}), Features(other, {}), Batch(torch.zeros(1, 3, 1, 1), torch.zeros(0), torch.zeros(1))
        )
        for one, other in zip(students, teachers, strict=True)
    ]
    expected = torch.stack([one["review_kd"] for one in alone]).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    sources = [map_ for one in students for map_ in one.values()] + list(review_kd.parameters())
    for found, hoped in zip(torch.autograd.grad(loss, sources), torch.autograd.grad(expected, sources), strict=True):
        assert found.abs().max() > 1e-8
        torch.testing.assert_close(found, hoped, rtol=1e-8, atol=1e-11)


def test_the_statistics_of_batch_norms_are_those_of_the_images() -> None:
    norm, source = nn.BatchNorm2d(3).double(), torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 4, generator=source, dtype=torch.float64)
    inside = torch.rand(2, 4, 4, generator=source) > 0.4
    found = padded.normed(norm, maps, inside)
    for channel in range(3):
        cells = maps[:, channel][inside]
        wanted = (cells - cells.mean()) / (cells.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(found[:, channel][inside], wanted, rtol=1e-10, atol=1e-12)
        assert float(norm.running_mean[channel]) == pytest.approx(0.1 * float(cells.mean()), rel=1e-12)
    assert not found.movedim(1, -1)[~inside].any()
    one = torch.zeros(2, 4, 4, dtype=torch.bool)
    one[0, 0, 0] = True
    with pytest.raises(InputError, match="one cell, of which a batch norm has no statistics; raise task.batch_size"):
        padded.normed(norm, maps, one)


def test_levels_of_one_size_need_no_padding_and_a_level_that_is_missing_is_refused() -> None:
    whole = Features({name: torch.randn(2, 4, side, side) for name, side in (("fpn0", 8), ("fpn1", 4))}, {})
    both = Probe(Shapes.of(whole), Shapes.of(whole), 2, torch.zeros(0))
    review_kd = distillers.build("review_kd", both, stages=["fpn0", "fpn1"], warmup=0)
    batch = Batch(torch.zeros(2, 3, 32, 32), torch.zeros(0), torch.arange(2))
    assert float(review_kd(whole, whole, batch)["review_kd"].detach()) > 0
    with pytest.raises(InputError, match="'review_kd' compares the stage 'fpn2', which the student lacks"):
        distillers.build("review_kd", both, stages=["fpn0", "fpn2"])
