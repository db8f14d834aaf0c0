"""The two-stage generator: rough prediction, refinement, composite."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from csa_inpaint.csa import CSALayer, reduce_mask
from csa_inpaint.networks.unet import RefinementNetwork, RoughNetwork
from csa_inpaint.types import Inpainting

FILL_RGB = (123, 104, 117)  # the paper's constant, of 255: about ImageNet's mean colour


class Generator(nn.Module):
    """Rough network, then refinement network with the CSA layer (paper, Sec. 3.1).

    Args:
        width: channels of the first level of both networks.
        depth: halvings in both networks.
        attention_level: halvings before the CSA layer; 3 puts it at 1/8 resolution.
        attention: the layer, called as ``attention(features, mask)``; a ``CSALayer`` by default.
        fill: RGB colour of 0 … 255 that hides the hole from the networks.
        detach_rough: True stops the refinement's gradient at the rough prediction, as the released
            code does.

    Shape:
        - image: (B, 3, H, W) in [-1, 1]; what it holds inside the hole is never seen.
        - mask: (B, 1, H, W), 1 in the hole.
        - returns ``Inpainting``; H and W multiples of ``2 ** depth``.

    Raises:
        ValueError: for an input size that ``depth`` does not divide or shapes that do not fit.
    """

    fill: Tensor

    def __init__(
        self,
        width: int = 64,
        depth: int = 8,
        attention_level: int = 3,
        attention: CSALayer | None = None,
        fill: Sequence[float] = FILL_RGB,
        detach_rough: bool = False,
    ) -> None:
        super().__init__()
        self.attention_level = attention_level
        self.detach_rough = detach_rough
        attention = attention if attention is not None else CSALayer()
        self.threshold = attention.threshold
        self.rough = RoughNetwork(width, depth)
        self.refinement = RefinementNetwork(attention, width, depth, attention_level)
        fill_colour = torch.tensor(tuple(fill))[:, None, None] * 2 / 255 - 1
        self.register_buffer("fill", fill_colour, persistent=False)

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        check_pair(image, mask)
        hole = mask > 0.5
        filled = torch.where(hole, self.fill.to(image.dtype), image)
        rough = self.rough(filled)
        first = rough.detach() if self.detach_rough else rough
        size = tuple(side // 2**self.attention_level for side in image.shape[-2:])
        feature_mask = reduce_mask(mask, size, self.threshold)
        refined, encoder_features, decoder_features = self.refinement(
            torch.cat([torch.where(hole, first.to(image.dtype), filled), filled], dim=1),
            feature_mask,
        )
        composite = torch.where(hole, refined.to(image.dtype), image)
        return Inpainting(
            rough, refined, composite, encoder_features, decoder_features, feature_mask
        )


def check_pair(image: Tensor, mask: Tensor) -> None:
    """Raise a ``ValueError`` unless this is a (B, 3, H, W) image with its (B, 1, H, W) mask."""
    if image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}, expected (B, 3, H, W)")
    expected = (image.shape[0], 1, *image.shape[-2:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, the image needs {expected}")
