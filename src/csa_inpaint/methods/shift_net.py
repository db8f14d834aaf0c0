"""Shift-Net (Yan et al., ECCV 2018, arXiv 1801.09392): a U-Net that shifts features."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from csa_inpaint.csa import reduce_mask
from csa_inpaint.methods.context_encoder import FILL_RGB
from csa_inpaint.methods.generator import InpaintingGenerator, check_pair, fill_colour
from csa_inpaint.networks.blocks import check_divisible, double, halve, init_weights, level_channels
from csa_inpaint.networks.shift import Shift
from csa_inpaint.networks.unet import RoughNetwork, known_levels
from csa_inpaint.types import Features, Inpainting


class Shifted(NamedTuple):
    """What the network returns."""

    image: Tensor  # (B, 3, H, W)
    decoder: Tensor  # (B, C, h, w) at the level of the shift, after the ReLU
    encoder: Tensor  # (B, C, h, w), the same


class ShiftNetwork(RoughNetwork):
    """The pix2pix U-Net whose decoder gets shifted encoder features at one level.

    Args:
        width: channels of the first level; the deepest levels have eight times as many.
        depth: number of halvings.
        level: halvings before the shift.
        channels: channels of the input.
        shift: the shift.

    Shape: input (B, channels, H, W) and the hole (B, 1, h, w) at the level's resolution →
        ``Shifted``; H and W multiples of ``2 ** depth``.

    Raises:
        ValueError: for a level that the network lacks.
    """

    def __init__(
        self, width: int = 64, depth: int = 8, level: int = 3, channels: int = 3,
        shift: Shift | None = None,
    ) -> None:  # fmt: skip
        super().__init__(width, depth)
        known_levels("level", [level], depth)
        self.level = level
        self.shift = shift if shift is not None else Shift()
        # Two layers differ from those of the U-Net: they take more channels.
        wide = level_channels(width, depth)
        first, last = halve(channels, width), double(3 * wide[level - 1], 3)
        if level > 1:
            last = double(3 * wide[level - 1], wide[level - 2])
        for layer, owner, place in ((first, self.down[0], 0), (last, self.up[depth - level], 1)):
            init_weights(layer)
            owner[place] = layer  # type: ignore[operator]

    def encode(self, input: Tensor) -> Tensor:
        """The encoder's features at the level of the shift, after the ReLU."""
        for down in self.down[: self.level]:
            input = down(input)
        return input.relu()

    def forward(self, input: Tensor, hole: Tensor) -> Shifted:  # type: ignore[override]
        check_divisible(input, self.depth)
        skips: list[Tensor] = []
        x = input
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = skips.pop()
        for level, up in zip(range(self.depth - 1, 0, -1), self.up[:-1], strict=True):
            x, skip = up(x), skips.pop()
            if level == self.level:
                # The next layer begins with a ReLU, which changes nothing here.
                decoder, encoder = x.relu(), skip.relu()
                x = torch.cat([decoder, encoder, self.shift(decoder, encoder, hole)], dim=1)
            else:
                x = torch.cat([x, skip], dim=1)
        return Shifted(self.up[-1](x), decoder, encoder)


class ShiftNetGenerator(InpaintingGenerator):
    """The generator of Shift-Net, one stage.

    ``Inpainting.features`` holds the decoder's and the encoder's features at the shift, before the
    shift, for the guidance loss.

    Args:
        width: channels of the first level.
        depth: halvings.
        level: halvings before the shift; 3 is 1/8 of the resolution.
        fill: RGB colour of 0 … 255 that hides the hole from the network.
        shows_hole: adds a channel that is 1 where the image is known, as the authors' PyTorch
            version does; the paper's network sees the filled image alone.
        threshold: share of hole above which a feature cell counts as hole, see ``reduce_mask``.
        nearest: takes every ``2 ** level``-th pixel of the mask instead, as the PyTorch version.
        gradient_weight: see ``Shift``.

    Shape:
        - image: (B, 3, H, W) in [-1, 1]; the pixels inside the hole are never seen.
        - mask: (B, 1, H, W), 1 in the hole.
        - returns ``Inpainting`` whose rough and refined image are the same; H and W multiples of
          ``2 ** depth``.

    Raises:
        ValueError: for a level that the network lacks, an input size that ``depth`` does not
            divide, and shapes that do not fit.
    """

    fill: Tensor
    refines = False

    def __init__(
        self,
        width: int = 64,
        depth: int = 8,
        level: int = 3,
        fill: Sequence[float] = FILL_RGB,
        shows_hole: bool = False,
        threshold: float = 5 / 16,
        nearest: bool = False,
        gradient_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.width = width
        self.multiple = 2**depth
        self.feature_levels = (level,)
        self.shows_hole = shows_hole
        self.threshold = threshold
        self.nearest = nearest
        channels = 4 if shows_hole else 3
        self.network = ShiftNetwork(width, depth, level, channels, Shift(gradient_weight))
        self.register_buffer("fill", fill_colour(fill), persistent=False)

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        check_pair(image, mask)
        check_divisible(image, self.network.depth)
        hole = mask > 0.5
        reduced = self.reduce(mask)
        filled = torch.where(hole, self.fill.to(image.dtype), image)
        made, decoder, encoder = self.network(self._input(filled, mask), reduced)
        features = {self.network.level: Features(encoder, decoder, reduced)}
        return Inpainting(made, made, torch.where(hole, made.to(image.dtype), image), features)

    def encode(self, image: Tensor, mask: Tensor) -> Tensor:
        """The encoder's features of the whole image at the level of the shift.

        A fourth channel shows the hole here too, as in the authors' PyTorch version.
        """
        return self.network.encode(self._input(image, mask))

    def reduce(self, mask: Tensor) -> Tensor:
        """The hole at the resolution of the shift: (B, 1, H, W) → (B, 1, h, w)."""
        step = 2**self.network.level
        if self.nearest:
            return (mask[..., ::step, ::step] > 0.5).to(mask.dtype)
        return reduce_mask(mask, (mask.shape[2] // step, mask.shape[3] // step), self.threshold)

    def _input(self, image: Tensor, mask: Tensor) -> Tensor:
        if not self.shows_hole:
            return image
        return torch.cat([image, (mask <= 0.5).to(image.dtype)], dim=1)
