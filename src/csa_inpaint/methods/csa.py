"""Coherent Semantic Attention (Liu et al., ICCV 2019): the two-stage generator of the paper.

The file also holds the first stage alone, and loads the weights of the authors' implementation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from csa_inpaint.csa import CSALayer, reduce_mask
from csa_inpaint.methods.generator import InpaintingGenerator, check_pair, fill_colour
from csa_inpaint.networks.blocks import Blocks, Norm, Upsampling
from csa_inpaint.networks.pull_push import pull_push
from csa_inpaint.networks.unet import RefinementNetwork, RoughNetwork
from csa_inpaint.types import Inpainting
from csa_inpaint.weights import released

FILL_RGB = (123, 104, 117)  # of 255; the paper's constant, about ImageNet's mean colour
PULL_PUSH = "pull_push"
Fill = Sequence[float] | Literal["pull_push"]


class RoughGenerator(InpaintingGenerator):
    """The first stage alone: its prediction is the rough and the refined image, without features.

    Args:
        width: channels of the network's first level.
        depth: halvings in the network.
        fill: what hides the hole from the network: an RGB colour of 0 … 255, the paper's by
            default, or ``"pull_push"``, the surrounding colours; see ``pull_push``.
        mask_input: True gives the mask to the network as a further input channel.
        residual: True adds the output of each network to the filled image inside the hole, so that
            the networks learn what the fill lacks; known pixels stay. The outputs start at zero:
            before training both predictions are the fill.
        norm, upsampling: see ``Blocks``.

    Shape: see ``Generator``.

    Raises:
        ValueError: where ``Generator`` raises one.
    """

    fill: Tensor
    refines = False

    def __init__(
        self,
        width: int = 64,
        depth: int = 8,
        fill: Fill = FILL_RGB,
        mask_input: bool = False,
        residual: bool = False,
        norm: Norm = "instance",
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        self.width = width
        self.multiple = 2**depth
        self.mask_input = mask_input
        self.residual = residual
        self.blocks = Blocks(norm, upsampling)
        self.rough = RoughNetwork(width, depth, 3 + mask_input, self.blocks)
        if residual:
            zero_output(self.rough)
        self.continues = continues(fill)
        colour = FILL_RGB if isinstance(fill, str) else fill
        self.register_buffer("fill", fill_colour(colour), persistent=False)

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        hole, filled = self.hide(image, mask)
        rough = self.predict_rough(filled, hole)
        return Inpainting(rough, rough, torch.where(hole, rough.to(image.dtype), image), {})

    def hide(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The hole as truth values, and the image with the fill in the hole."""
        check_pair(image, mask)
        hole = mask > 0.5
        if self.continues:
            return hole, pull_push(image, hole)
        return hole, torch.where(hole, self.fill.to(image.dtype), image)

    def predict_rough(self, filled: Tensor, hole: Tensor) -> Tensor:
        """The first stage's image. Shape: (B, 3, H, W), (B, 1, H, W) → (B, 3, H, W)"""
        rough: Tensor = self.rough(self.with_mask(filled, hole))
        return filled + rough.where(hole, 0) if self.residual else rough

    def with_mask(self, input: Tensor, hole: Tensor) -> Tensor:
        """The input of a network, with the mask as its last channel where the network sees it."""
        return torch.cat([input, hole.to(input.dtype)], 1) if self.mask_input else input


class Generator(RoughGenerator):
    """Rough network, then refinement network with the CSA layer (paper, Sec. 3.1).

    Args:
        width: channels of the first level of both networks.
        depth: halvings in both networks.
        attention_levels: halvings before each CSA layer; (3,) puts one at 1/8 resolution.
        feature_levels: halvings before the features that are returned; None for those of the
            CSA layers.
        attention: the layer, called as ``attention(features, mask)``; a ``CSALayer`` by default.
        fill: what hides the hole from the networks; see ``RoughGenerator``.
        detach_rough: True stops the refinement's gradient at the rough prediction, as the released
            code does.
        mask_input, residual, norm, upsampling: see ``RoughGenerator``; for both networks.

    Shape:
        - image: (B, 3, H, W) in [-1, 1]; the pixels inside the hole are never seen.
        - mask: (B, 1, H, W), 1 in the hole.
        - returns ``Inpainting``; H and W multiples of ``2 ** depth``.

    Raises:
        ValueError: for an input size that ``depth`` does not divide, shapes that do not fit,
            levels that the networks lack, or an unknown fill, norm or upsampling.
    """

    refines = True

    def __init__(
        self,
        width: int = 64,
        depth: int = 8,
        attention_levels: Sequence[int] = (3,),
        attention: CSALayer | None = None,
        fill: Fill = FILL_RGB,
        detach_rough: bool = False,
        feature_levels: Sequence[int] | None = None,
        mask_input: bool = False,
        residual: bool = False,
        norm: Norm = "instance",
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__(width, depth, fill, mask_input, residual, norm, upsampling)
        self.detach_rough = detach_rough
        attention = attention if attention is not None else CSALayer()
        self.threshold = attention.threshold
        self.refinement = RefinementNetwork(
            attention,
            width,
            depth,
            attention_levels,
            feature_levels,
            6 + mask_input,
            self.blocks,
        )
        if residual:
            zero_output(self.refinement)
        self.feature_levels = self.refinement.feature_levels

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        hole, filled = self.hide(image, mask)
        rough = self.predict_rough(filled, hole)
        first = rough.detach() if self.detach_rough else rough
        first = torch.where(hole, first.to(image.dtype), filled)
        height, width = image.shape[-2:]
        masks = {
            level: reduce_mask(mask, (height // 2**level, width // 2**level), self.threshold)
            for level in self.refinement.levels
        }
        refined, features = self.refinement(
            self.with_mask(torch.cat([first, filled], dim=1), hole), masks
        )
        if self.residual:
            refined = filled + refined.where(hole, 0)
        composite = torch.where(hole, refined.to(image.dtype), image)
        return Inpainting(rough, refined, composite, features)


def zero_output(network: nn.Module) -> None:
    """Set the last convolution of a network to zero."""
    *_, last = (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))
    for parameter in last.parameters():
        nn.init.zeros_(parameter)


def continues(fill: Fill) -> bool:
    """Whether the fill continues the surrounding colours; a ``ValueError`` for an unknown name."""
    if isinstance(fill, str) and fill != PULL_PUSH:
        raise ValueError(f"fill={fill!r}, expected red, green and blue of 0 … 255, or {PULL_PUSH}")
    return isinstance(fill, str)


def load_released(rough: str | Path, refine: str | Path) -> Generator:
    """The generator of the authors' implementation, in evaluation mode, on the CPU.

    The generator computes what that implementation computes: the similarities are the released ones
    without a guard, and the refinement's gradient stops at the rough prediction. The width of the
    networks is read from the shapes.

    Args:
        rough: state dict of the rough network, ``<epoch>_net_P.pth`` or ``.safetensors``.
        refine: state dict of the refinement network, ``<epoch>_net_G.pth`` or ``.safetensors``.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is damaged, or its keys or shapes are not those of its network; the
            message lists them.
    """
    generator = Generator(
        released.generator_width(rough),
        released.DEPTH,
        (released.ATTENTION_LEVEL,),
        CSALayer(similarity="released"),
        detach_rough=True,
    )
    load_networks(generator, rough, refine)
    return generator.eval()


def load_networks(generator: Generator, rough: str | Path, refine: str | Path) -> None:
    """Fill both networks of a generator that has the released size."""
    released.load_into(generator.rough, released.rough_layers(), rough, "rough network")
    layers = released.refinement_layers()
    released.load_into(generator.refinement, layers, refine, "refinement network")
