"""The contracts of extractors and transforms."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from tskd_tune.method.extractors import EXTRACTORS, Extractor, ExtractorSite
from tskd_tune.method.transforms import TRANSFORMS
from tskd_tune.testing.base import Contract, check_description, own_options
from tskd_tune.testing.pretended_gpu import pretended_gpu
from tskd_tune.testing.tape import stands_for_all

HEIGHT, WIDTH = 8, 16
SIZES = ((8, 10), (6, 16))
"""The cells of two images of different sizes, padded to 8 x 16."""


def sequence(steps: int = 3, batch: int = 2) -> Tensor:
    """Return random maps ``[steps, batch, 1, 8, 16]``, the same at every call."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(steps, batch, 1, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)


class ExtractorContract(Contract):
    """The requirements for every extractor.

    Attributes:
        reads_the_past: whether the prediction depends on all maps of the sequence, and not only on the last map.
        flips: option -> options with which the prediction or the parameters differ; every option needs an entry.
    """

    reads_the_past: ClassVar[bool] = True

    def reads_the_past_of(self, name: str) -> bool:
        """Tell whether a component's prediction depends on all maps of the sequence."""
        return self.reads_the_past

    def made(self, name: str, steps: int = 3, **over: object) -> Extractor:
        """Return the extractor for sequences of ``steps`` maps, from the same seed at every call."""
        torch.manual_seed(0)
        site = ExtractorSite(steps, HEIGHT, WIDTH, 0, 1)
        return EXTRACTORS.build(name, site, **{**self.options_of(name), **over}).double()

    @pytest.mark.parametrize("steps", [1, 2, 4])
    def test_it_predicts_a_map_of_each_sample_alone(self, name: str, steps: int) -> None:
        """A prediction has the shape of a map and is finite; no sample depends on other samples of the batch."""
        extractor, given = self.made(name, steps), sequence(steps)
        found = extractor(given)
        assert found.shape == (2, 1, HEIGHT, WIDTH)
        assert bool(torch.isfinite(found).all())
        torch.testing.assert_close(found[1:], extractor(given[:, 1:]), msg="samples must not mix")

    @pytest.mark.parametrize("steps", [1, 2, 4])
    def test_gradients_reach_its_parameters_and_the_student(self, name: str, steps: int) -> None:
        """The last map, which is the student's, has a gradient. With earlier maps, every parameter has one, too."""
        extractor, given = self.made(name, steps), sequence(steps).requires_grad_()
        extractor(given).square().sum().backward()
        assert given.grad is not None
        assert given.grad[-1].abs().sum() > 0
        if steps > 1:
            for key, parameter in extractor.named_parameters():
                assert parameter.grad is not None and parameter.grad.abs().sum() > 0, f"{key}: no gradient"
        past = bool(given.grad[:-1].abs().sum() > 0)
        assert past == (steps > 1 and self.reads_the_past_of(name))

    def test_a_captured_step_stands_for_all_steps(self, name: str) -> None:
        """The operations of one forward pass, replayed, predict other maps too, unless ``capturable`` is False."""
        extractor = self.made(name)
        if not extractor.capturable:
            pytest.skip("the extractor says that it cannot be captured")
        assert stands_for_all(extractor, torch.zeros_like(sequence()), sequence())

    def test_on_a_gpu_it_stays_there_and_waits_for_nothing(self, name: str) -> None:
        """No operation mixes tensors of a GPU and of the CPU, or waits for the GPU, unless ``capturable`` is False."""
        with pretended_gpu() as gpu:
            extractor, given = self.made(name).to("cuda"), sequence().to("cuda").requires_grad_()
            with gpu.step(extractor.capturable):
                found = extractor(given)
                found.square().sum().backward()
            assert found.is_cuda

    def test_the_padding_has_no_effect_if_it_masks(self, name: str) -> None:
        """With ``masks = True``, the prediction for a padded image is the prediction for the image alone."""
        extractor = self.made(name)
        if not extractor.masks:
            pytest.skip("the extractor says that it knows nothing of padding")
        inside = torch.zeros(2, 1, HEIGHT, WIDTH, dtype=torch.float64)
        for number, (rows, columns) in enumerate(SIZES):
            inside[number, :, :rows, :columns] = 1
        found = extractor(sequence() * inside, inside)
        for number, (rows, columns) in enumerate(SIZES):
            alone = extractor(sequence()[:, number : number + 1, :, :rows, :columns])
            torch.testing.assert_close(found[number : number + 1, :, :rows, :columns], alone)

    def test_a_state_goes_round(self, name: str) -> None:
        """An extractor with a loaded state gives the same prediction."""
        first = self.made(name)
        for parameter in first.parameters():
            parameter.data.add_(0.1)
        second = self.made(name)
        second.load_state_dict(first.state_dict())
        assert torch.equal(first(sequence()), second(sequence()))

    def test_every_option_changes_something(self, name: str) -> None:
        """Every option has an effect: each entry of ``flips`` changes the prediction or the parameters."""
        flips = self.flips_of(name)
        assert set(flips) == own_options(EXTRACTORS, name), "flips needs an entry for every option"
        for option, other in flips.items():
            plain, flipped = self.made(name), self.made(name, **other)
            shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (plain, flipped)]
            assert shapes[0] != shapes[1] or not torch.equal(plain(sequence()), flipped(sequence())), option

    def test_it_is_described(self, name: str) -> None:
        """The extractor and its options have descriptions."""
        check_description(EXTRACTORS, name)


class TransformContract(Contract):
    """The requirements for every transform of feature maps.

    Attributes:
        flips: option -> options with which the maps differ; every option needs an entry.
    """

    def maps(self, name: str, features: Tensor, **over: object) -> Tensor:
        """Return the maps of features."""
        torch.manual_seed(0)
        found: Tensor = TRANSFORMS.build(name, **{**self.options_of(name), **over}).to(features.dtype)(features)
        return found

    def features(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return random features ``[2, 3, 8, 16]``, the same at every call."""
        generator = torch.Generator().manual_seed(5)
        return torch.randn(2, 3, HEIGHT, WIDTH, generator=generator, dtype=torch.float64).to(dtype)

    def test_it_gives_a_map_of_each_sample_alone(self, name: str) -> None:
        """``[B, C, H, W]`` becomes ``[B, H, W]`` or ``[B, M, H, W]``, finite; samples do not mix."""
        features = self.features()
        found = self.maps(name, features)
        assert found.dim() in (3, 4) and (len(found), *found.shape[-2:]) == (2, HEIGHT, WIDTH)
        assert bool(torch.isfinite(found).all())
        torch.testing.assert_close(found[1:], self.maps(name, features[1:]), msg="samples must not mix")

    def test_gradients_are_finite_also_where_nothing_is_active(self, name: str) -> None:
        """Features that are all zero, such as after a ReLU, give finite maps and gradients."""
        for features in (self.features(), torch.zeros_like(self.features())):
            given = features.requires_grad_()
            found = self.maps(name, given)
            found.square().sum().backward()  # type: ignore[no-untyped-call]
            assert bool(torch.isfinite(found).all())
            assert given.grad is not None and bool(torch.isfinite(given.grad).all())

    def test_a_captured_step_stands_for_all_steps(self, name: str) -> None:
        """The operations of one forward pass, replayed, give the maps of other features, unless it says otherwise."""
        transform = TRANSFORMS.build(name, **self.options_of(name)).double()
        if not transform.capturable:
            pytest.skip("the transform says that it cannot be captured")
        assert stands_for_all(transform, torch.zeros_like(self.features()), self.features())

    def test_on_a_gpu_it_stays_there_and_waits_for_nothing(self, name: str) -> None:
        """No operation mixes tensors of a GPU and of the CPU, or waits for the GPU, unless ``capturable`` is False."""
        with pretended_gpu() as gpu:
            transform = TRANSFORMS.build(name, **self.options_of(name)).to("cuda")
            features = self.features(torch.float32).to("cuda").requires_grad_()
            with gpu.step(transform.capturable):
                found = transform(features)
                found.sum().backward()
            assert found.is_cuda

    def test_the_padding_has_no_effect_if_it_masks(self, name: str) -> None:
        """With ``masks = True``, the map of a padded image is that of the image alone, and zero in the padding."""
        transform = TRANSFORMS.build(name, **self.options_of(name)).double()
        if not transform.masks:
            pytest.skip("the transform says that it knows nothing of padding")
        inside = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
        for number, (rows, columns) in enumerate(SIZES):
            inside[number, :rows, :columns] = True
        found = transform(self.features(), inside)
        outside = (~inside if found.dim() == 3 else ~inside.unsqueeze(1)).expand_as(found)
        assert not found[outside].any()
        for number, (rows, columns) in enumerate(SIZES):
            alone = transform(self.features()[number : number + 1, :, :rows, :columns])
            torch.testing.assert_close(found[number : number + 1, ..., :rows, :columns], alone)

    def test_maps_of_half_precision_stay_finite(self, name: str) -> None:
        """Large activations in bfloat16 give finite maps."""
        assert bool(torch.isfinite(self.maps(name, 100 * self.features(torch.bfloat16))).all())

    def test_every_option_changes_something(self, name: str) -> None:
        """Every option has an effect: each entry of ``flips`` changes the maps."""
        flips = self.flips_of(name)
        assert set(flips) == own_options(TRANSFORMS, name), "flips needs an entry for every option"
        plain = self.maps(name, self.features())
        for option, other in flips.items():
            found = self.maps(name, self.features(), **other)
            assert found.shape != plain.shape or not torch.equal(found, plain), f"{option} changes nothing"

    def test_it_is_described(self, name: str) -> None:
        """The transform and its options have descriptions."""
        check_description(TRANSFORMS, name)
