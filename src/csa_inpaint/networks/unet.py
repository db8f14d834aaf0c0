"""The two U-Nets of the method: the rough network and the refinement network (paper, Sec. 3.1)."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from csa_inpaint.networks.blocks import (
    DilatedHalve,
    check_divisible,
    double,
    halve,
    init_weights,
    level_channels,
    norm,
)


class RoughNetwork(nn.Module):
    """The first stage: the pix2pix U-Net, from the filled image to a rough prediction.

    Args:
        width: channels of the first level; the deepest levels have eight times as many.
        depth: number of halvings; the paper's 8 reduce 256×256 to 1×1.

    Shape: (B, 3, H, W) in [-1, 1] → the same; H and W multiples of ``2 ** depth``.

    Raises:
        ValueError: for an input size that ``depth`` does not divide.
    """

    def __init__(self, width: int = 64, depth: int = 8) -> None:
        super().__init__()
        check_depth(depth)
        self.depth = depth
        channels = level_channels(width, depth)

        self.down = nn.ModuleList([nn.Sequential(halve(3, width))])
        for outer, inner in pairwise(channels[:-1]):
            self.down.append(nn.Sequential(nn.LeakyReLU(0.2), halve(outer, inner), norm(inner)))
        # The innermost convolution may leave a single pixel, which has no variance to normalise.
        self.down.append(nn.Sequential(nn.LeakyReLU(0.2), halve(channels[-2], channels[-1])))

        self.up = nn.ModuleList()
        for level in reversed(range(1, depth)):
            inputs = channels[level] if level == depth - 1 else 2 * channels[level]
            outputs = channels[level - 1]
            self.up.append(nn.Sequential(nn.ReLU(), double(inputs, outputs), norm(outputs)))
        self.up.append(nn.Sequential(nn.ReLU(), double(2 * width, 3), nn.Tanh()))
        init_weights(self)

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
    encoder_features: Tensor  # (B, C, h, w), output of the CSA layer
    decoder_features: Tensor  # (B, C, h, w), the decoder's features at the same level


def down_block(outer: int, inner: int) -> nn.Sequential:
    """LeakyReLU, dilated 4×4 to half the size, norm, LeakyReLU, 3×3; its norm is set apart."""
    return nn.Sequential(
        nn.LeakyReLU(0.2),
        DilatedHalve(outer),
        norm(outer),
        nn.LeakyReLU(0.2),
        nn.Conv2d(outer, inner, kernel_size=3, padding=1),
    )


def up_block(inner: int, outer: int) -> nn.Sequential:
    """ReLU, 3×3 on the concatenation, norm, ReLU, 4×4 to twice the size, norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.ConvTranspose2d(2 * inner, outer, kernel_size=3, padding=1),
        norm(outer),
        nn.ReLU(),
        double(outer, outer),
        norm(outer),
    )


class RefinementNetwork(nn.Module):
    """The second stage: a U-Net with the CSA layer in its encoder.

    Args:
        attention: called as ``attention(features, mask)`` at ``attention_level``; returns features
            of the same shape. A ``CSALayer``.
        width: channels at full resolution; the deepest levels have eight times as many.
        depth: number of halvings.
        attention_level: halvings before the attention; the paper's 3 put it at 1/8 resolution.

    Shape:
        - image: (B, 6, H, W), the rough prediction in the hole of the input, then the input.
        - mask: (B, 1, H, W), 1 in the hole.
        - returns ``Refined``; H and W multiples of ``2 ** depth``.

    Raises:
        ValueError: for an input size that ``depth`` does not divide, or a level that is not there.
    """

    def __init__(
        self, attention: nn.Module, width: int = 64, depth: int = 8, attention_level: int = 3
    ) -> None:
        super().__init__()
        check_depth(depth)
        if not 1 <= attention_level < depth:
            raise ValueError(
                f"attention_level={attention_level} is not between 1 and {depth - 1}, "
                f"the levels of a network of depth {depth}"
            )
        self.depth = depth
        self.attention_level = attention_level
        self.attention = attention
        channels = level_channels(width, depth)
        levels = list(pairwise(channels))

        self.first = nn.Conv2d(6, width, kernel_size=3, padding=1)
        self.down = nn.ModuleList(down_block(outer, inner) for outer, inner in levels)
        # Apart from the convolutions, because the attention stands between them.
        self.down_norm = nn.ModuleList(norm(inner) for _, inner in levels)
        self.innermost = nn.Sequential(
            nn.LeakyReLU(0.2),
            DilatedHalve(channels[-1]),
            nn.ReLU(),
            double(channels[-1], channels[-1]),
            norm(channels[-1]),
        )
        self.up = nn.ModuleList(up_block(inner, outer) for outer, inner in reversed(levels))
        self.last = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(2 * width, 3, kernel_size=3, padding=1)
        )
        init_weights(self)

    def forward(self, image: Tensor, mask: Tensor) -> Refined:
        check_divisible(image, self.depth)
        x = self.first(image)
        skips = [x]
        for level, down, normalise in zip(
            range(1, self.depth), self.down, self.down_norm, strict=True
        ):
            x = down(x)
            if level == self.attention_level:
                x = encoder_features = self.attention(x, mask)
            x = normalise(x)
            skips.append(x)
        x = self.innermost(x)
        for level, up in zip(reversed(range(1, self.depth)), self.up, strict=True):
            if level == self.attention_level:
                decoder_features = x
            x = up(torch.cat([x, skips.pop()], dim=1))
        x = self.last(torch.cat([x, skips.pop()], dim=1))
        return Refined(x, encoder_features, decoder_features)


def check_depth(depth: int) -> None:
    """Raise a ``ValueError`` for a depth that leaves no level to refine at."""
    if depth < 2:
        raise ValueError(f"depth={depth}: a network needs at least 2 halvings")
