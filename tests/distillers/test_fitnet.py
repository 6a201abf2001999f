"""FitNet against its formula in float64, the convolutions as loops over pixels, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Probe, Shapes
from tskd_tune.errors import InputError

BATCH = Batch(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 2]), torch.arange(3))
Size = tuple[int, int]


def output(seed: int, size: Size, channels: int) -> Classified:
    source = torch.Generator().manual_seed(seed)
    stages = ("stem", "stage1", "stage2")
    features = {s: torch.randn(3, channels, *size, generator=source, dtype=torch.float64) for s in stages}
    return Classified(
        torch.zeros(3, 2), {s: map_.requires_grad_(seed == 0) for s, map_ in features.items()}, {}, Tensor()
    )


def probe(student: Classified, teacher: Classified) -> Probe:
    return Probe(Shapes.of(student), Shapes.of(teacher), 2, torch.zeros(3))


def made(student: Size, teacher: Size, **options: object) -> tuple[distillers.Distiller, Classified, Classified]:
    torch.manual_seed(0)
    outputs = output(0, student, 2), output(1, teacher, 3)
    return distillers.build("fitnet", probe(*outputs), **options).double(), *outputs


def gathered(maps: Tensor, layer: nn.Conv2d) -> Tensor:
    """A convolution, pixel by pixel of its output."""
    (height, width), step, padding = layer.kernel_size, layer.stride[0], int(layer.padding[0])
    maps = nn.functional.pad(maps, [padding] * 4)
    rows, columns = ((side - kernel) // step + 1 for side, kernel in zip(maps.shape[2:], (height, width), strict=True))
    assert layer.bias is not None
    found = [
        torch.einsum(
            "bchw,ochw->bo", maps[:, :, i * step : i * step + height, j * step : j * step + width], layer.weight
        )
        for i in range(rows)
        for j in range(columns)
    ]
    return torch.stack(found, 2).view(len(maps), -1, rows, columns) + layer.bias.view(1, -1, 1, 1)


def scattered(maps: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """A transposed 4x4 convolution with stride 2 and padding 1, pixel by pixel of its input."""
    _, _, rows, columns = maps.shape
    assert layer.bias is not None
    sums = torch.zeros(len(maps), len(layer.bias), 2 * rows + 2, 2 * columns + 2, dtype=maps.dtype)
    for i in range(rows):
        for j in range(columns):
            stamp = torch.einsum("bc,cohw->bohw", maps[:, :, i, j], layer.weight)
            sums = sums + nn.functional.pad(stamp, [2 * j, 2 * (columns - 1 - j), 2 * i, 2 * (rows - 1 - i)])
    return sums[:, :, 1:-1, 1:-1] + layer.bias.view(1, -1, 1, 1)


def activated(maps: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), correction=0, keepdim=True)
    normed = (maps - mean) / (variance + 1e-5).sqrt()
    return (normed * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)).clamp_min(0)


@pytest.mark.parametrize(
    ("student", "teacher", "kernel"),
    [
        ((4, 4), (4, 4), (1, 1)),
        ((8, 8), (4, 4), (3, 3)),
        ((4, 4), (8, 8), (4, 4)),
        ((4, 6), (8, 12), (4, 4)),
        ((7, 7), (4, 4), (4, 4)),
        ((6, 5), (2, 4), (5, 2)),
    ],
)
def test_it_is_the_mean_squared_gap_behind_the_regressor(student: Size, teacher: Size, kernel: Size) -> None:
    fitnet, given, wanted = made(student, teacher, weight=7.0)
    layer, norm, _ = fitnet.regressor
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias)
    loss = fitnet(given, wanted, BATCH)["fitnet"]
    assert layer.kernel_size == kernel
    convolve = scattered if isinstance(layer, nn.ConvTranspose2d) else gathered
    guess = activated(convolve(given.features["stage2"], layer), norm)
    assert guess.shape == wanted.features["stage2"].shape
    expected = 7.0 * (guess - wanted.features["stage2"]).square().sum() / guess.numel()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    # The bias of a convolution before a batch norm has no gradient.
    sources = [given.features["stage2"], layer.weight, norm.weight, norm.bias]
    found, hoped = torch.autograd.grad(loss, sources), torch.autograd.grad(expected, sources)
    for one, other in zip(found, hoped, strict=True):
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_a_teacher_that_is_guessed_right_leaves_no_loss() -> None:
    fitnet, given, wanted = made((4, 4), (4, 4))
    guess = fitnet.regressor(given.features["stage2"]).detach()
    right = Classified(wanted.logits, {"stage2": guess}, {}, Tensor())
    assert float(fitnet(given, right, BATCH)["fitnet"].detach()) == 0.0


def test_the_hint_stage_is_an_option() -> None:
    fitnet, given, wanted = made((4, 4), (4, 4), stage="stem")
    gradients = torch.autograd.grad(
        fitnet(given, wanted, BATCH)["fitnet"], list(given.features.values()), allow_unused=True
    )
    assert [gradient is not None for gradient in gradients] == [True, False, False]


def test_the_defaults_are_repdistillers() -> None:
    fitnet = made((4, 4), (4, 4))[0]
    assert (fitnet.stage, fitnet.weight, fitnet.task_weight) == ("stage2", 100.0, 1.0)


@pytest.mark.parametrize("teacher", [(12, 12), (5, 4), (4, 5), (8, 7)])
def test_a_student_that_is_smaller_but_not_half_is_refused(teacher: Size) -> None:
    said = rf"'fitnet' cannot regress 'stage2' of 4x4 pixels in the student to {teacher[0]}x{teacher[1]} in the teacher"
    with pytest.raises(InputError, match=said):
        made((4, 4), teacher)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_network_without_the_hint_stage_is_refused(who: str) -> None:
    whole = output(0, (4, 4), 2)
    poor = Classified(whole.logits, {"stem": whole.features["stem"]}, {}, whole.embedding)
    outputs = (poor, whole) if who == "student" else (whole, poor)
    with pytest.raises(InputError, match=f"'fitnet' compares the stage 'stage2', which the {who} lacks; .*known: stem"):
        distillers.build("fitnet", probe(*outputs))


def test_of_padded_images_only_their_cells_count() -> None:
    sizes = torch.tensor([[32, 16], [24, 32], [8, 24]])
    cells = (sizes // 8).tolist()
    fitnet, given, wanted = made((4, 4), (4, 4), activation="none", weight=3.0)
    batch = Batch(torch.zeros(3, 1, 32, 32), BATCH.targets, BATCH.indices, sizes)
    loss = fitnet(given, wanted, batch)["fitnet"]
    layer, norm, end = fitnet.regressor
    guesses = [
        gathered(given.features["stage2"][i : i + 1, :, :h, :w], layer).flatten(2) for i, (h, w) in enumerate(cells)
    ]
    whole = torch.cat(guesses, dim=2)
    mean, variance = whole.mean(2, keepdim=True), whole.var(2, correction=0, keepdim=True)
    expected = torch.zeros((), dtype=torch.float64)
    for i, (h, w) in enumerate(cells):
        hint = wanted.features["stage2"][i : i + 1, :, :h, :w].flatten(2)
        expected = expected + ((guesses[i] - mean) / (variance + 1e-5).sqrt() - hint).square().mean()
    torch.testing.assert_close(loss, 3.0 * expected / 3, rtol=1e-12, atol=0)
    found, hoped = (
        torch.autograd.grad(one, [given.features["stage2"], layer.weight]) for one in (loss, 3.0 * expected / 3)
    )
    assert isinstance(end, nn.Identity) and norm.training
    for one, other in zip(found, hoped, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("teacher", "allowed"), [((8, 8), True), ((4, 4), True), ((16, 16), True), ((5, 7), False)])
def test_a_regressor_for_one_size_is_refused_where_images_differ(teacher: Size, allowed: bool) -> None:
    outputs = output(0, (8, 8), 2), output(1, teacher, 3)
    varying = Probe(Shapes.of(outputs[0]), Shapes.of(outputs[1]), 2, torch.zeros(3), varying=True)
    if allowed:
        distillers.build("fitnet", varying)
        return
    with pytest.raises(InputError, match="for images of different sizes, with 8x8 cells .* 5x7 in the teacher"):
        distillers.build("fitnet", varying)
