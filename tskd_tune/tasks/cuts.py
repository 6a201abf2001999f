"""How a worker makes the tensor of one sample from a few whole numbers, which the training's process draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tskd_tune.errors import InputError
from tskd_tune.plain import Json
from tskd_tune.tasks.base import Samples
from tskd_tune.tasks.file_samples import FileSamples
from tskd_tune.tasks.images import Augmentation

SEEDS = 2**62
"""Seeds of random crops are drawn below this number."""

ATTEMPTS = 10
"""So many random crops are drawn until one fits into the image."""


class Cut(Protocol):
    """Draws some whole numbers for each sample of an epoch; a worker makes the tensor of the sample from them."""

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Draw the numbers of an epoch ``[N, K]`` (int64), by sample."""

    def none(self, samples: int) -> Tensor:
        """Return the numbers ``[N, K]`` (int64) that show every sample as it is."""

    def of(self, samples: Samples, sample: int, drawn: Sequence[int]) -> Tensor:
        """Return the bytes ``[C, H, W]`` of one sample, from its K numbers.

        Raises:
            InputError: the sample cannot be read, or is of another kind than this cut needs.
            RunError: its file vanished.
        """

    def identity(self) -> Mapping[str, Json]:
        """Return plain data that differ where the tensors differ."""


@final
@dataclass(frozen=True)
class PaddedCut(Cut):
    """Cuts the crop of the original size out of the padded image; see `Augmentation`."""

    augmentation: Augmentation

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Draw row, column and flip of each sample, ``[N, 3]``."""
        crops = self.augmentation.draw(samples, generator)
        return torch.stack([crops.rows, crops.columns, crops.flips], dim=1)

    def none(self, samples: int) -> Tensor:
        """Return the middle of every padded image, ``[N, 3]``."""
        crops = self.augmentation.none(samples)
        return torch.stack([crops.rows, crops.columns, crops.flips], dim=1)

    def of(self, samples: Samples, sample: int, drawn: Sequence[int]) -> Tensor:
        """Return the crop of a sample, ``[C, H, W]``."""
        row, column, flip = drawn
        image = samples[sample]
        height, width = image.shape[1:]
        cut = F.pad(image, (self.augmentation.padding,) * 4)[:, row : row + height, column : column + width]
        return cut.flip(2) if flip else cut

    def identity(self) -> Mapping[str, Json]:
        """Return the padding, and whether crops are mirrored."""
        return asdict(self.augmentation)


@final
@dataclass(frozen=True)
class MiddleCut(Cut):
    """Scales the shorter side of an image file to ``shorter`` pixels, and cuts out the middle square of ``size``.

    These are torchvision's ``Resize`` and ``CenterCrop``.
    """

    shorter: int
    size: int

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Draw nothing: ``[N, 0]``."""
        return self.none(samples)

    def none(self, samples: int) -> Tensor:
        """Return ``[N, 0]``."""
        return torch.zeros(samples, 0, dtype=torch.int64)

    def of(self, samples: Samples, sample: int, drawn: Sequence[int]) -> Tensor:
        """Return the middle square ``[3, size, size]``."""
        return _files(samples).viewed(sample, self._view)

    def identity(self) -> Mapping[str, Json]:
        """Return both sizes."""
        return asdict(self)

    def _view(self, image: Image.Image) -> Image.Image:
        from torchvision.transforms import functional

        seen: Image.Image = functional.center_crop(functional.resize(image, [self.shorter]), [self.size])
        return seen


@final
@dataclass(frozen=True)
class ResizedCut(Cut):
    """A random part of an image file, scaled to ``[3, size, size]``, and mirrored half of the time.

    The pixels are those of torchvision's ``RandomResizedCrop`` followed by ``RandomHorizontalFlip``, after
    ``torch.manual_seed`` with the number drawn for the sample.

    Attributes:
        middle: what shows every sample as it is.
        scale: the least and the largest share of the image's area.
        ratio: the least and the largest ratio of width to height.
        flip: whether to mirror.
    """

    middle: MiddleCut
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: bool

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Draw a seed for each sample, ``[N, 1]``."""
        return torch.randint(0, SEEDS, (samples, 1), generator=generator)

    def none(self, samples: int) -> Tensor:
        """Return -1 for every sample, ``[N, 1]``."""
        return torch.full((samples, 1), -1)

    def of(self, samples: Samples, sample: int, drawn: Sequence[int]) -> Tensor:
        """Return the crop of a seed, ``[3, size, size]``; the middle of the image for -1."""
        (seed,) = drawn
        if seed < 0:
            return self.middle.of(samples, sample, ())
        return _files(samples).viewed(sample, lambda image: self._view(image, seed))

    def identity(self) -> Mapping[str, Json]:
        """Return the options of the cut, and those of evaluations."""
        scale, ratio = [*self.scale], [*self.ratio]
        return {"scale": scale, "ratio": ratio, "flip": self.flip, "evaluation": dict(self.middle.identity())}

    def _view(self, image: Image.Image, seed: int) -> Image.Image:
        from torchvision.transforms import functional

        random = torch.Generator().manual_seed(seed)
        place = self._place(image.width, image.height, random)
        part: Image.Image = functional.resized_crop(image, *place, [self.middle.size] * 2)
        flip = self.flip and bool(torch.rand(1, generator=random) < 0.5)
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else part

    def _place(self, width: int, height: int, random: torch.Generator) -> tuple[int, int, int, int]:
        """Return top row, left column, height and width of a crop.

        torchvision's ``RandomResizedCrop.get_params``, step for step, but with a generator: torchvision draws from
        torch's global one, which networks and other threads draw from too.
        """
        low, high = torch.log(torch.tensor(self.ratio)).tolist()
        for _ in range(ATTEMPTS):
            area = width * height * torch.empty(1).uniform_(*self.scale, generator=random).item()
            ratio = torch.exp(torch.empty(1).uniform_(low, high, generator=random)).item()
            columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < columns <= width and 0 < rows <= height:
                top = int(torch.randint(0, height - rows + 1, (1,), generator=random))
                return top, int(torch.randint(0, width - columns + 1, (1,), generator=random)), rows, columns
        # No crop fits: the middle, as large as the ratios allow.
        columns, rows = width, height
        if width / height < self.ratio[0]:
            rows = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            columns = round(height * self.ratio[1])
        return (height - rows) // 2, (width - columns) // 2, rows, columns


def _files(samples: Samples) -> FileSamples:
    if not isinstance(samples, FileSamples):
        raise InputError(
            f"task: random resized crops need image files of any size, but {type(samples).__name__} has images of one"
            " size; use a source that reads image files"
        )
    return samples
