"""A small vision transformer, whose tokens are tapped as maps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.contracts import Batch, BatchNormStatistics, Classified, Features
from tskd_tune.errors import InputError
from tskd_tune.networks.base import NETWORKS, Network

# Frequencies of the positions fall to 1 / LONGEST.
LONGEST = 100.0


class Block(nn.Module):
    """Self-attention and a layer of two fully connected ones, each after a layer norm and around a shortcut.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words (2021), equations 2 and 3.
    """

    def __init__(self, width: int, heads: int) -> None:
        """Map tokens of ``width`` numbers, with so many heads."""
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        # Without biases: that of the keys changes nothing, because the softmax ignores it.
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width)
        self.expand, self.reduce = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, N, width]`` to tokens."""
        count, width = tokens.shape[1:]
        parts = self.qkv(self.norm1(tokens)).view(-1, count, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(-1, count, width)
        tokens = tokens + self.projection(attended)
        inner: Tensor = self.reduce(F.gelu(self.expand(self.norm2(tokens))))
        return tokens + inner


@NETWORKS.register("small_vit", source="Dosovitskiy et al. 2021, arXiv 2010.11929; sine positions of Beyer et al. 2022")
class SmallVit(Network):
    """A vision transformer for small images of any size; each block is a stage, whose tokens are a map.

    The positions are fixed sines, and the embedding is the mean of the normalized tokens. There are no
    ``preactivations`` and no batch norms: what needs them is refused.
    """

    cuttable = True

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        *,
        patch: PositiveInt = 4,
        width: PositiveInt = 64,
        depth: PositiveInt = 4,
        heads: PositiveInt = 4,
    ) -> None:
        """Build the network.

        Args:
            classes: the number of classes.
            channels: the channels of the images.
            patch: height and width of a patch, in pixels; the images are a multiple of it.
            width: numbers of a token, a multiple of 4 and of ``heads``.
            depth: number of blocks.
            heads: number of attention heads of a block.

        Raises:
            InputError: the width is not such a multiple.
        """
        super().__init__()
        if width % 4 or width % heads:
            raise InputError(f"small_vit: width is {width}, but must be a multiple of 4 and of heads ({heads})")
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Classified | Features:
        """Map images ``[B, channels, H, W]`` to their output, or to their features alone; the batch is not read."""
        embedded = self.patches(images)
        height, width = embedded.shape[2:]
        tokens = embedded.flatten(2).transpose(1, 2)
        tokens = tokens + positions(height, width, tokens.shape[2], tokens.device).to(tokens.dtype)
        features: dict[str, Tensor] = {}
        for place, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            features[f"stage{place}"] = tokens.transpose(1, 2).unflatten(2, (height, width))
        if not heads:
            return Features(features, {})
        embedding = self.norm(tokens).mean(1)
        return Classified(self.fc(embedding), features, {}, embedding)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return nothing: there are no batch norms."""
        return {}


def positions(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Return sines and cosines of row and column of each token, ``[height * width, channels]``, float32.

    They are computed on the device, because a GPU waits for what is sent to it, and a captured step must not wait.
    """
    places, down, across = (torch.arange(count, device=device) for count in (channels // 4, height, width))
    rates = torch.exp(-math.log(LONGEST) * places / max(1, channels // 4 - 1))
    rows, columns = torch.meshgrid(down, across, indexing="ij")
    angles = [place.flatten()[:, None] * rates for place in (rows, columns)]
    return torch.cat([turn(angle) for angle in angles for turn in (torch.sin, torch.cos)], dim=1)
