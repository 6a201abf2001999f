"""FGFI's mask and loss against their formulas, written out with loops in float64, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Boxes, Detected, Probe, Shapes
from tskd_tune.distillers.fgfi import anchor_grid, imitation_mask
from tskd_tune.errors import InputError
from tskd_tune.tasks.shards import part_of

SIDE, STRIDE = 64, 8
ANCHORS, RATIOS = [12.0, 24.0], [0.5, 1.0, 2.0]
SIZES = torch.tensor([[64, 48], [40, 64], [64, 64]])
CORNERS = [
    torch.tensor([[4.0, 4.0, 20.0, 12.0], [30.0, 10.0, 46.0, 60.0]]),
    torch.tensor([[0.0, 0.0, 64.0, 40.0], [50.0, 30.0, 62.0, 38.0], [10.0, 5.0, 11.0, 6.0]]),
    torch.zeros(0, 4),
]
CROWDS = [torch.tensor([False, False]), torch.tensor([True, False, False]), torch.zeros(0, dtype=torch.bool)]
TRUTH = Boxes.padded(CORNERS, crowd=CROWDS)
BATCH = Batch(torch.zeros(3, 3, SIDE, SIDE), TRUTH, torch.arange(3), SIZES)


def iou(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both)


def by_hand(anchors: Tensor, threshold: float, sizes: Tensor | None) -> Tensor:
    """The union over the objects of the cells with an anchor of more than a share of the object's largest IoU."""
    rows, columns, kinds = anchors.shape[:3]
    masks = torch.zeros(len(CORNERS), rows, columns, dtype=torch.bool)
    for image, (corners, crowd) in enumerate(zip(CORNERS, CROWDS, strict=True)):
        height, width = (SIDE, SIDE) if sizes is None else sizes[image].tolist()
        cells = [(i, j) for i in range(rows) for j in range(columns) if i * STRIDE < height and j * STRIDE < width]
        for box in corners[~crowd].tolist():
            overlaps = {(i, j): max(iou(anchors[i, j, kind].tolist(), box) for kind in range(kinds)) for i, j in cells}
            largest = max(overlaps.values())
            for (i, j), overlap in overlaps.items():
                if overlap > threshold * largest:
                    masks[image, i, j] = True
    return masks


def grid() -> Tensor:
    return anchor_grid((SIDE // STRIDE, SIDE // STRIDE), (SIDE, SIDE), ANCHORS, RATIOS).double()


def test_anchors_are_placed_as_torchvision_places_them() -> None:
    anchors = anchor_grid((2, 3), (16, 24), [8.0], [0.5, 2.0])
    # of area 64, about the upper left corner of each cell; heights are half and twice the widths, rounded
    shapes = torch.tensor([[-6.0, -3.0, 6.0, 3.0], [-3.0, -6.0, 3.0, 6.0]])
    assert anchors.shape == (2, 3, 2, 4)
    for i in range(2):
        for j in range(3):
            assert torch.equal(anchors[i, j], shapes + torch.tensor([8.0 * j, 8.0 * i, 8.0 * j, 8.0 * i]))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("sizes", [None, SIZES])
def test_the_mask_is_the_union_over_objects_of_near_cells(threshold: float, sizes: Tensor | None) -> None:
    padding = None
    if sizes is not None:
        cells = torch.arange(SIDE // STRIDE) * STRIDE
        padding = (cells < sizes[:, 0, None])[:, :, None] & (cells < sizes[:, 1, None])[:, None, :]
    found, wanted = imitation_mask(grid(), TRUTH, threshold, padding), by_hand(grid(), threshold, sizes)
    assert torch.equal(found, wanted)
    assert found[0].any() and found[1].any() and not found[2].any() and not found.all()


def test_an_object_that_no_anchor_meets_marks_nothing_and_a_crowd_is_none() -> None:
    far = Boxes.padded([torch.tensor([[500.0, 500.0, 520.0, 520.0]])])
    assert not imitation_mask(grid(), far).any()
    crowd = Boxes.padded([CORNERS[0]], crowd=[torch.tensor([True, True])])
    assert not imitation_mask(grid(), crowd).any()


def features(seed: int, channels: int, sizes: tuple[int, int] = (8, 8)) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    maps = torch.randn(3, channels, *sizes, generator=source, dtype=torch.float64)
    return {"stage3": maps.requires_grad_(seed == 0)}


def output(maps: dict[str, Tensor]) -> Detected:
    none = Boxes.padded([torch.zeros(0, 4)] * 3)
    return Detected(maps, {}, {}, none, none, lambda boxes: torch.zeros(0, 3))


def made(student: Detected, teacher: Detected, **options: object) -> distillers.Distiller:
    torch.manual_seed(0)
    probe = Probe(Shapes.of(student), Shapes.of(teacher), 2, torch.zeros(0), varying=True)
    return distillers.build("fgfi", probe, **{"anchors": ANCHORS, "ratios": RATIOS, "warmup": 0, **options}).double()


STUDENT, TEACHER = output(features(0, 2)), output(features(1, 3))


def convolved(maps: Tensor, layer: nn.Conv2d, image: int, i: int, j: int) -> Tensor:
    """The ReLU of a 3x3 convolution at one cell, which sees zeros outside of the image."""
    height, width = (-(-side // STRIDE) for side in SIZES[image].tolist())
    assert layer.bias is not None
    total = layer.bias
    for y in range(3):
        for x in range(3):
            row, column = i + y - 1, j + x - 1
            if 0 <= row < height and 0 <= column < width:
                total = total + layer.weight[:, :, y, x] @ maps[image, :, row, column]
    return total.clamp_min(0)


def test_it_is_half_the_mean_square_gap_over_the_masked_cells() -> None:
    fgfi = made(STUDENT, TEACHER, weight=0.3, threshold=0.4)
    loss = fgfi(STUDENT, TEACHER, BATCH)["fgfi"]
    mask = by_hand(grid(), 0.4, SIZES)
    expected = torch.zeros((), dtype=torch.float64)
    for image, i, j in mask.nonzero().tolist():
        guess = convolved(STUDENT.features["stage3"], fgfi.adaptation[0], image, i, j)
        for channel in range(3):
            expected = expected + (TEACHER.features["stage3"][image, channel, i, j] - guess[channel]) ** 2
    expected = 0.3 * expected / (2 * int(mask.sum()))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    sources = [STUDENT.features["stage3"], *fgfi.parameters()]
    for found, hoped in zip(torch.autograd.grad(loss, sources), torch.autograd.grad(expected, sources), strict=True):
        assert found.abs().max() > 1e-4
        torch.testing.assert_close(found, hoped, rtol=1e-9, atol=1e-13)


def test_its_gradient_is_that_of_its_values() -> None:
    fgfi = made(STUDENT, TEACHER)

    def loss(maps: Tensor) -> Tensor:
        found: Tensor = fgfi(output({"stage3": maps}), TEACHER, BATCH)["fgfi"]
        return found

    assert torch.autograd.gradcheck(loss, features(0, 2)["stage3"])


def test_a_batch_is_that_of_its_images_alone_as_far_as_they_count() -> None:
    fgfi = made(STUDENT, TEACHER, weight=1.0)
    whole = fgfi(STUDENT, TEACHER, BATCH)["fgfi"]
    sums, cells = torch.zeros((), dtype=torch.float64), 0
    for image, (height, width) in enumerate(SIZES.tolist()):
        which = slice(image, image + 1)
        alone = [
            output({"stage3": one.features["stage3"][which, :, : height // STRIDE, : width // STRIDE]})
            for one in (STUDENT, TEACHER)
        ]
        batch = Batch(BATCH.images[which, :, :height, :width], Boxes.padded([CORNERS[image]], crowd=[CROWDS[image]]), 0)
        counted = int(by_hand(grid(), 0.5, SIZES)[image].sum())
        sums, cells = sums + 2 * counted * fgfi(*alone, batch)["fgfi"], cells + counted
    torch.testing.assert_close(whole, sums / (2 * cells), rtol=1e-12, atol=0)


def test_no_object_in_a_batch_is_no_loss() -> None:
    fgfi = made(STUDENT, TEACHER)
    empty = Batch(BATCH.images, Boxes.padded([torch.zeros(0, 4)] * 3), BATCH.indices, SIZES)
    loss = fgfi(STUDENT, TEACHER, empty)["fgfi"]
    assert float(loss.detach()) == 0.0
    assert torch.autograd.grad(loss, STUDENT.features["stage3"])[0].abs().max() == 0


def test_the_first_batches_have_no_loss_and_are_counted_across_a_resume() -> None:
    fgfi, again = made(STUDENT, TEACHER, warmup=3), made(STUDENT, TEACHER, warmup=3)
    plain = float(made(STUDENT, TEACHER)(STUDENT, TEACHER, BATCH)["fgfi"].detach())
    assert plain > 0
    found = [step(fgfi) for _ in range(2)]
    again.load_state_dict(fgfi.state_dict())
    found += [step(again) for _ in range(2)]
    assert found == [0.0, 0.0, 0.0, plain]
    again.load_state_dict(fgfi.state_dict())
    again.eval()
    assert [step(again) for _ in range(3)] == [0.0, 0.0, 0.0]


def step(fgfi: distillers.Distiller) -> float:
    fgfi.begin_step(None)
    return float(fgfi(STUDENT, TEACHER, BATCH)["fgfi"].detach())


@pytest.mark.parametrize("cut", [[slice(0, 1), slice(1, 2), slice(2, 3)], [slice(0, 2), slice(2, 3)], [slice(0, 3)]])
def test_micro_batches_count_by_the_cells_of_the_whole_batch(cut: list[slice]) -> None:
    fgfi = made(STUDENT, TEACHER, weight=0.3)
    sources = [STUDENT.features["stage3"], *fgfi.parameters()]
    whole = fgfi(STUDENT, TEACHER, BATCH)["fgfi"]
    wanted = torch.autograd.grad(whole, sources)
    fgfi.begin_step(BATCH)
    losses = []
    for which in cut:
        student, teacher = (output({"stage3": one.features["stage3"][which]}) for one in (STUDENT, TEACHER))
        loss = fgfi(student, teacher, part_of(BATCH, which.start, which.stop))["fgfi"]
        losses.append(loss * (which.stop - which.start) / 3)
    assert len(cut) == 1 or float(losses[-1].detach()) == 0  # the last image has no objects
    torch.testing.assert_close(sum(losses), whole, rtol=1e-12, atol=0)
    for found, hoped in zip(torch.autograd.grad(sum(losses, torch.zeros(())), sources), wanted, strict=True):
        torch.testing.assert_close(found, hoped, rtol=1e-10, atol=1e-13)


def test_micro_batches_without_any_object_are_no_loss() -> None:
    fgfi = made(STUDENT, TEACHER)
    empty = Batch(BATCH.images, Boxes.padded([torch.zeros(0, 4)] * 3), BATCH.indices, SIZES)
    fgfi.begin_step(empty)
    assert float(fgfi(STUDENT, TEACHER, empty)["fgfi"].detach()) == 0


def test_the_defaults_are_the_papers() -> None:
    torch.manual_seed(0)
    fgfi = distillers.build("fgfi", Probe(Shapes.of(STUDENT), Shapes.of(TEACHER), 2, torch.zeros(0)))
    assert (fgfi.stage, fgfi.threshold, fgfi.weight, fgfi.warmup) == ("stage3", 0.5, 0.01, 400)
    assert (fgfi.anchors, fgfi.ratios) == ([64.0, 128.0, 256.0, 512.0], [0.5, 1.0, 2.0])


def test_stages_of_different_size_or_name_are_refused() -> None:
    coarse = output(features(1, 3, (4, 4)))
    with pytest.raises(InputError, match="'fgfi' compares cells, but 'stage3' has 8x8 cells .* 4x4 in the teacher"):
        made(STUDENT, coarse)
    with pytest.raises(InputError, match="'fgfi' compares the stage 'stage9', which the student lacks"):
        made(STUDENT, TEACHER, stage="stage9")
