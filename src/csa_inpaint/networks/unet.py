"""The two U-Nets of the method: the rough network and the refinement network (paper, Sec. 3.1)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from csa_inpaint.networks.blocks import (
    Blocks,
    DilatedHalve,
    check_divisible,
    halve,
    level_channels,
)
from csa_inpaint.types import Features

PAPER_BLOCKS = Blocks()


class RoughNetwork(nn.Module):
    """The first stage: the pix2pix U-Net, from the filled image to a rough prediction.

    Args:
        width: channels of the first level; the deepest levels have eight times as many.
        depth: number of halvings; the paper's 8 reduce 256×256 to 1×1.
        inputs: channels of the input: 3, or 4 with the mask.
        blocks: what the layers are made of.

    Shape: (B, inputs, H, W) → (B, 3, H, W) in [-1, 1]; H and W multiples of ``2 ** depth``.

    Raises:
        ValueError: for an input size that ``depth`` does not divide.
    """

    def __init__(
        self, width: int = 64, depth: int = 8, inputs: int = 3, blocks: Blocks = PAPER_BLOCKS
    ) -> None:
        super().__init__()
        check_depth(depth)
        blocks.check()
        self.depth = depth
        channels = level_channels(width, depth)

        self.down = nn.ModuleList([nn.Sequential(halve(inputs, width))])
        for outer, inner in pairwise(channels[:-1]):
            self.down.append(
                nn.Sequential(nn.LeakyReLU(0.2), halve(outer, inner), blocks.normalise(inner))
            )
        # The innermost convolution may leave a single pixel, which has no variance to normalise.
        self.down.append(nn.Sequential(nn.LeakyReLU(0.2), halve(channels[-2], channels[-1])))

        self.up = nn.ModuleList()
        for level in reversed(range(1, depth)):
            inner = channels[level] if level == depth - 1 else 2 * channels[level]
            outer = channels[level - 1]
            self.up.append(
                nn.Sequential(nn.ReLU(), blocks.double(inner, outer), blocks.normalise(outer))
            )
        self.up.append(nn.Sequential(nn.ReLU(), blocks.double(2 * width, 3), nn.Tanh()))
        blocks.initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        check_divisible(image, self.depth)
        skips: list[Tensor] = []
        x = image
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = skips.pop()
        for up in self.up[:-1]:
            x = torch.cat([up(x), skips.pop()], dim=1)
        rough: Tensor = self.up[-1](x)
        return rough


class Refined(NamedTuple):
    """What the refinement network returns."""

    image: Tensor  # (B, 3, H, W), not bounded: there is no Tanh
    features: dict[int, Features]  # by level


def down_block(outer: int, inner: int, blocks: Blocks) -> nn.Sequential:
    """LeakyReLU, dilated 4×4 to half the size, norm, LeakyReLU, 3×3; the last norm is separate."""
    return nn.Sequential(
        nn.LeakyReLU(0.2),
        DilatedHalve(outer),
        blocks.normalise(outer),
        nn.LeakyReLU(0.2),
        nn.Conv2d(outer, inner, kernel_size=3, padding=1),
    )


def up_block(inner: int, outer: int, blocks: Blocks) -> nn.Sequential:
    """ReLU, 3×3 on the concatenation, norm, ReLU, 4×4 to twice the size, norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.ConvTranspose2d(2 * inner, outer, kernel_size=3, padding=1),
        blocks.normalise(outer),
        nn.ReLU(),
        blocks.double(outer, outer),
        blocks.normalise(outer),
    )


class RefinementNetwork(nn.Module):
    """The second stage: a U-Net with the CSA layer in its encoder.

    A level is a number of halvings: at level 3 the features have 1/8 of the image's resolution.

    Args:
        attention: called as ``attention(features, mask)`` at each of ``attention_levels``; returns
            features of the same shape. All levels call the same module: a ``CSALayer`` has neither
            parameters nor state.
        width: channels at full resolution; the deepest levels have eight times as many.
        depth: number of halvings.
        attention_levels: levels at which the attention stands, (3,) in the paper; () for none.
        feature_levels: levels whose features are returned; None for ``attention_levels``.
        inputs: channels of the input: 6, or 7 with the mask.
        blocks: what the layers are made of.

    Shape:
        - image: (B, inputs, H, W), the rough prediction in the hole of the input, then the input.
        - masks: for each of ``levels`` (B, 1, h, w) at the level's resolution, 1 in the hole.
        - returns ``Refined``; H and W multiples of ``2 ** depth``.

    Raises:
        ValueError: for an input size that ``depth`` does not divide, and for a level that the
            network lacks.
    """

    def __init__(
        self,
        attention: nn.Module,
        width: int = 64,
        depth: int = 8,
        attention_levels: Sequence[int] = (3,),
        feature_levels: Sequence[int] | None = None,
        inputs: int = 6,
        blocks: Blocks = PAPER_BLOCKS,
    ) -> None:
        super().__init__()
        check_depth(depth)
        blocks.check()
        if feature_levels is None:
            feature_levels = attention_levels
        self.depth = depth
        self.attention_levels = known_levels("attention_levels", attention_levels, depth)
        self.feature_levels = known_levels("feature_levels", feature_levels, depth)
        self.attention = attention
        channels = level_channels(width, depth)
        levels = list(pairwise(channels))

        self.first = nn.Conv2d(inputs, width, kernel_size=3, padding=1)
        self.down = nn.ModuleList(down_block(outer, inner, blocks) for outer, inner in levels)
        # The norms are separate because the attention stands between convolution and norm.
        self.down_norm = nn.ModuleList(blocks.normalise(inner) for _, inner in levels)
        self.innermost = nn.Sequential(
            nn.LeakyReLU(0.2),
            DilatedHalve(channels[-1]),
            nn.ReLU(),
            blocks.double(channels[-1], channels[-1]),
            blocks.normalise(channels[-1]),
        )
        self.up = nn.ModuleList(up_block(inner, outer, blocks) for outer, inner in reversed(levels))
        self.last = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(2 * width, 3, kernel_size=3, padding=1)
        )
        blocks.initialise(self)

    @property
    def levels(self) -> list[int]:
        """The levels that need a mask."""
        return sorted({*self.attention_levels, *self.feature_levels})

    def forward(self, image: Tensor, masks: Mapping[int, Tensor]) -> Refined:
        check_divisible(image, self.depth)
        x = self.first(image)
        skips = [x]
        encoder, decoder = {}, {}
        for level, down, normalise in zip(
            range(1, self.depth), self.down, self.down_norm, strict=True
        ):
            x = down(x)
            if level in self.attention_levels:
                x = self.attention(x, masks[level])
            if level in self.feature_levels:
                encoder[level] = x
            x = normalise(x)
            skips.append(x)
        x = self.innermost(x)
        for level, up in zip(reversed(range(1, self.depth)), self.up, strict=True):
            if level in self.feature_levels:
                decoder[level] = x
            x = up(torch.cat([x, skips.pop()], dim=1))
        x = self.last(torch.cat([x, skips.pop()], dim=1))
        features = {
            level: Features(encoder[level], decoder[level], masks[level])
            for level in self.feature_levels
        }
        return Refined(x, features)


def check_depth(depth: int) -> None:
    """Raise a ``ValueError`` for a depth that leaves no level to refine at."""
    if depth < 2:
        raise ValueError(f"depth={depth}: a network needs at least 2 halvings")


def known_levels(name: str, levels: Sequence[int], depth: int) -> tuple[int, ...]:
    """The levels in order, each once; a ``ValueError`` for a level that the network lacks."""
    if isinstance(levels, int):
        raise ValueError(f"{name}={levels} is no list: write [{levels}]")
    wrong = [level for level in levels if not 1 <= level < depth]
    if wrong:
        raise ValueError(
            f"{name}={list(levels)}: {wrong[0]} is not between 1 and {depth - 1}, "
            f"the levels of a network of depth {depth}"
        )
    return tuple(sorted(set(levels)))
