from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional as vision

from tskd_tune.contracts import Batch
from tskd_tune.errors import InputError
from tskd_tune.tasks import images as module
from tskd_tune.tasks.images import Augmentation, Crops, Normalization, batch_bounds
from tskd_tune.tasks.resident import ResidentFeed, ResidentImages, ResidentParts, WholeImages
from tskd_tune.training.streams import Streams, generator

CPU = torch.device("cpu")
COLOR = Normalization((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
GRAY = Normalization((0.3,), (0.17,))
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(samples: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (samples, channels, height, width), dtype=torch.uint8, generator=seeded(9))


def resident(images: torch.Tensor, padding: int = 0, device: str | torch.device = CPU) -> ResidentImages:
    constants = COLOR if images.shape[1] == 3 else GRAY
    targets = torch.arange(len(images)) % 3
    return ResidentImages(images, targets, constants, padding=padding, device=torch.device(device))


def cropped(kept: ResidentImages, indices: torch.Tensor, crops: Crops) -> torch.Tensor:
    return kept.cut(kept.starts(crops)[indices].to(kept.device), crops.flips[indices].to(kept.device))


def batches_of(kept: ResidentImages, augmentation: Augmentation, batch_size: int, seed: int = 1) -> list[Batch]:
    feed = ResidentFeed(ResidentParts(kept, kept, kept), augmentation, batch_size)
    return [feed.batch(draw) for draw in feed.draws(Streams(seed, 0))]


def whole(kept: ResidentImages) -> list[Batch]:
    feed = WholeImages(ResidentParts(kept, kept, kept), "test")
    batches = [feed.batch(draw) for draw in feed.draws()]
    assert feed.steps() == len(batches)
    return batches


def torchvision_image(image: torch.Tensor, row: int, column: int, flip: bool, padding: int) -> torch.Tensor:
    """The reference: PIL all the way, as the field's loaders do."""
    height, width = image.shape[1:]
    array = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])
    picture = vision.crop(vision.pad(picture, padding, fill=0), row, column, height, width)
    if flip:
        picture = vision.hflip(picture)
    constants = COLOR if image.shape[0] == 3 else GRAY
    return vision.normalize(vision.to_tensor(picture), constants.mean, constants.std)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("shape", "padding"), [((3, 32, 32), 4), ((1, 8, 8), 1), ((3, 6, 9), 2), ((3, 5, 5), 0)])
def test_every_crop_has_the_bits_of_torchvision(shape: tuple[int, int, int], padding: int, device: str) -> None:
    images = random_images(40, *shape)
    crops = Augmentation(padding, flip=True).draw(40, seeded(1))
    order = torch.randperm(40, generator=seeded(2))
    ours = cropped(resident(images, padding, device), order, crops).cpu()
    for image, index in zip(ours, order.tolist(), strict=True):
        row, column = int(crops.rows[index]), int(crops.columns[index])
        theirs = torchvision_image(images[index], row, column, bool(crops.flips[index]), padding)
        assert torch.equal(image, theirs)


@pytest.mark.parametrize("device", DEVICES)
def test_every_byte_is_normalized_to_the_bits_of_torchvision(device: str) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    batch = whole(resident(images, device=device))[0]
    assert torch.equal(batch.images[0].cpu(), torchvision_image(images[0], 0, 0, False, 0))


def test_padding_is_black_before_normalization() -> None:
    white = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    corner = Crops(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    image = cropped(resident(white, 2), torch.tensor([0]), corner)[0]
    for channel in range(3):
        black = -np.float32(COLOR.mean[channel]) / np.float32(COLOR.std[channel])
        assert image[channel, 0, 0].item() == black
        assert image[channel, 3, 3].item() > 0


def test_training_batches_are_the_crops_of_the_epoch() -> None:
    images = random_images(23, 3, 6, 6)
    kept = resident(images, 2)
    augmentation = Augmentation(2, flip=True)
    crops = augmentation.draw(23, generator(3, "augmentation", 0))
    order = torch.randperm(23, generator=generator(3, "order", 0))
    batches = batches_of(kept, augmentation, 8, seed=3)
    assert [len(batch.images) for batch in batches] == [8, 8, 7]
    assert torch.equal(torch.cat([batch.indices for batch in batches]), order)
    for batch in batches:
        assert torch.equal(batch.images, cropped(kept, batch.indices, crops))
        assert torch.equal(batch.targets, batch.indices % 3)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous()


def test_the_crop_of_a_sample_does_not_depend_on_the_batch_size() -> None:
    kept = resident(random_images(20, 3, 6, 6), 2)

    def by_sample(batch_size: int) -> torch.Tensor:
        batches = batches_of(kept, Augmentation(2, True), batch_size)
        indices = torch.cat([batch.indices for batch in batches])
        return torch.cat([batch.images for batch in batches])[indices.argsort()]

    assert torch.equal(by_sample(4), by_sample(7))


def test_everything_random_is_drawn_at_the_call() -> None:
    class Asked:
        def __init__(self) -> None:
            self.made = {purpose: generator(1, purpose, 0) for purpose in ("order", "augmentation")}

        def generator(self, purpose: str) -> torch.Generator:
            return self.made[purpose]

        def states(self) -> list[torch.Tensor]:
            return [made.get_state() for made in self.made.values()]

    asked, fresh = Asked(), Asked()
    kept = resident(random_images(6, 3, 4, 4), 1)
    draws = ResidentFeed(ResidentParts(kept, kept, kept), Augmentation(1, True), 2).draws(asked)
    states = asked.states()
    assert not any(map(torch.equal, states, fresh.states()))
    list(draws)
    assert all(map(torch.equal, states, asked.states()))


def test_draws_of_whole_batches_share_a_signature() -> None:
    kept = resident(random_images(8, 3, 4, 4), 1)
    feed = ResidentFeed(ResidentParts(kept, kept, kept), Augmentation(1, True), 3)
    first, second, last = (draw.signature for draw in feed.draws(Streams(1, 0)))
    whole = {"indices": torch.int64, "starts": torch.int32, "flips": torch.int64}
    assert first == second == tuple((name, (3,), kind) for name, kind in whole.items())
    assert last == tuple((name, (2,), kind) for name, kind in whole.items())


def test_crops_are_uniform_over_every_place_and_flips_are_fair() -> None:
    crops = Augmentation(2, flip=True).draw(50_000, seeded(1))
    places = torch.bincount(crops.rows * 5 + crops.columns, minlength=25)
    assert places.shape == (25,)
    assert (places - 2000).abs().max() < 6 * 2000**0.5
    assert abs(int(crops.flips.sum()) - 25_000) < 6 * 12_500**0.5


def test_an_option_moves_only_what_it_names() -> None:
    both, plain = (Augmentation(3, flip).draw(200, seeded(5)) for flip in (True, False))
    assert torch.equal(both.rows, plain.rows)
    assert torch.equal(both.columns, plain.columns)
    assert both.flips.sum() > 0
    assert plain.flips.sum() == 0
    unmoved = Augmentation(0, flip=True).draw(200, seeded(5))
    assert int(unmoved.rows.max()) == int(unmoved.columns.max()) == 0


@given(samples=st.integers(0, 200), batch_size=st.integers(1, 70))
@settings(max_examples=200, deadline=None)
def test_batches_cover_every_sample_once_and_none_is_left_alone(samples: int, batch_size: int) -> None:
    bounds = batch_bounds(samples, batch_size)
    assert [index for start, stop in bounds for index in range(start, stop)] == list(range(samples))
    sizes = [stop - start for start, stop in bounds]
    assert all(size == batch_size for size in sizes[:-1])
    if batch_size > 1 and samples > 1:
        assert min(sizes) > 1
        assert max(sizes) <= batch_size + 1


def test_a_single_left_over_sample_joins_the_batch_before_it() -> None:
    assert batch_bounds(9, 4) == [(0, 4), (4, 9)]
    assert batch_bounds(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert batch_bounds(3, 1) == [(0, 1), (1, 2), (2, 3)]
    assert batch_bounds(1, 4) == [(0, 1)]


def test_an_evaluation_shows_the_images_in_order_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CPU_EVALUATION_VALUES", 3 * 36 * 4)
    images = random_images(10, 3, 6, 6)
    batches = whole(resident(images, 2))
    assert [len(batch.images) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(10))
    assert torch.cat([batch.targets for batch in batches]).tolist() == [index % 3 for index in range(10)]
    plain = torch.stack([torchvision_image(image, 0, 0, False, 0) for image in images])
    assert torch.equal(torch.cat([batch.images for batch in batches]), plain)


def test_an_image_larger_than_an_evaluation_batch_comes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CPU_EVALUATION_VALUES", 10)
    assert [len(batch.images) for batch in whole(resident(random_images(2, 3, 6, 6)))] == [1, 1]


def test_normalization_is_measured_exactly() -> None:
    images = random_images(7, 3, 5, 4)
    constants = Normalization.of(images)
    pixels = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(constants.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(constants.std, pixels.std(axis=(0, 2, 3)), rtol=1e-13)
    assert Normalization.of(images.flip(0)) == constants


def test_a_channel_without_contrast_is_refused() -> None:
    images = random_images(4, 3, 5, 5)
    images[:, 1] = 17
    with pytest.raises(InputError, match="channel 1 has the same value in every training pixel"):
        Normalization.of(images)
