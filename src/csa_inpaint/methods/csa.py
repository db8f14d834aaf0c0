"""Coherent Semantic Attention (Liu et al., ICCV 2019): the two-stage generator of the paper.

The file also holds the first stage alone, and loads the weights of the authors' implementation.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from csa_inpaint.csa import CSALayer, reduce_mask
from csa_inpaint.methods.generator import InpaintingGenerator, check_pair, fill_colour
from csa_inpaint.networks.unet import RefinementNetwork, RoughNetwork
from csa_inpaint.types import Inpainting
from csa_inpaint.weights import released

FILL_RGB = (123, 104, 117)  # of 255; the paper's constant, about ImageNet's mean colour


class RoughGenerator(InpaintingGenerator):
    """The first stage alone: its prediction is the rough and the refined image, without features.

    Args:
        width: channels of the network's first level.
        depth: halvings in the network.
        fill: RGB colour of 0 … 255 that hides the hole from the network.

    Shape, Raises: see ``Generator``.
    """

    fill: Tensor
    refines = False

    def __init__(self, width: int = 64, depth: int = 8, fill: Sequence[float] = FILL_RGB) -> None:
        super().__init__()
        self.width = width
        self.multiple = 2**depth
        self.rough = RoughNetwork(width, depth)
        self.register_buffer("fill", fill_colour(fill), persistent=False)

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        hole, filled = self.hide(image, mask)
        rough = self.rough(filled)
        return Inpainting(rough, rough, torch.where(hole, rough.to(image.dtype), image), {})

    def hide(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The hole as truth values, and the image with the fill colour in the hole."""
        check_pair(image, mask)
        hole = mask > 0.5
        return hole, torch.where(hole, self.fill.to(image.dtype), image)


class Generator(RoughGenerator):
    """Rough network, then refinement network with the CSA layer (paper, Sec. 3.1).

    Args:
        width: channels of the first level of both networks.
        depth: halvings in both networks.
        attention_levels: halvings before each CSA layer; (3,) puts one at 1/8 resolution.
        feature_levels: halvings before the features that are returned; None for those of the
            CSA layers.
        attention: the layer, called as ``attention(features, mask)``; a ``CSALayer`` by default.
        fill: RGB colour of 0 … 255 that hides the hole from the networks.
        detach_rough: True stops the refinement's gradient at the rough prediction, as the released
            code does.

    Shape:
        - image: (B, 3, H, W) in [-1, 1]; the pixels inside the hole are never seen.
        - mask: (B, 1, H, W), 1 in the hole.
        - returns ``Inpainting``; H and W multiples of ``2 ** depth``.

    Raises:
        ValueError: for an input size that ``depth`` does not divide, shapes that do not fit, or
            levels that the networks lack.
    """

    refines = True

    def __init__(
        self,
        width: int = 64,
        depth: int = 8,
        attention_levels: Sequence[int] = (3,),
        attention: CSALayer | None = None,
        fill: Sequence[float] = FILL_RGB,
        detach_rough: bool = False,
        feature_levels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(width, depth, fill)
        self.detach_rough = detach_rough
        attention = attention if attention is not None else CSALayer()
        self.threshold = attention.threshold
        self.refinement = RefinementNetwork(
            attention, width, depth, attention_levels, feature_levels
        )
        self.feature_levels = self.refinement.feature_levels

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        hole, filled = self.hide(image, mask)
        rough = self.rough(filled)
        first = rough.detach() if self.detach_rough else rough
        height, width = image.shape[-2:]
        masks = {
            level: reduce_mask(mask, (height // 2**level, width // 2**level), self.threshold)
            for level in self.refinement.levels
        }
        refined, features = self.refinement(
            torch.cat([torch.where(hole, first.to(image.dtype), filled), filled], dim=1), masks
        )
        composite = torch.where(hole, refined.to(image.dtype), image)
        return Inpainting(rough, refined, composite, features)


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
