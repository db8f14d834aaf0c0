"""The shift of Shift-Net (Yan et al., ECCV 2018, arXiv 1801.09392, Sec. 3.2)."""

import torch
from torch import Tensor, nn

from csa_inpaint.csa import reduce_mask
from csa_inpaint.csa.mask import check_threshold
from csa_inpaint.csa.search import search_pytorch


class Shift(nn.Module):
    """Move encoder features of the known region into the hole, where the decoder asks for them.

    Each hole position y takes the encoder's features of the known position whose encoder features
    have the largest cosine similarity with the decoder's features at y (eq. 4 and 5). The first of
    equals in raster order wins. The choice has no gradient: the gradient of what was shifted flows
    to the position that it came from, and none to the decoder.

    Args:
        gradient_weight: factor on the gradient that flows to the encoder's features.

    Shape:
        - decoder, encoder: (B, C, h, w).
        - hole: (B, 1, h, w), above 0.5 in the hole.
        - returns (B, C, h, w), 0 at known positions; 0 everywhere in a sample without a known one.
          The similarities are computed in float32.
    """

    def __init__(self, gradient_weight: float = 1.0) -> None:
        super().__init__()
        self.gradient_weight = gradient_weight

    def forward(self, decoder: Tensor, encoder: Tensor, hole: Tensor) -> Tensor:
        inside = hole > 0.5
        inside = inside & ~inside.flatten(1).all(1)[:, None, None, None]
        with torch.no_grad():
            # The search compares hole patches with known ones: queries there, keys elsewhere.
            both = torch.where(inside, decoder, encoder).flatten(2).mT
            match, _, _ = search_pytorch(both, inside.flatten(1))
        source = encoder.flatten(2)
        if self.gradient_weight != 1:
            fixed = source.detach()
            source = fixed + self.gradient_weight * (source - fixed)
        taken = source.gather(2, match[:, None].expand_as(source))
        return torch.where(inside, taken.reshape(encoder.shape), 0)


class ShiftAttention(nn.Module):
    """The shift as an attention layer: hole features become those of the most similar known ones.

    The layer stands where a ``CSALayer`` stands, but hole features do not depend on each other.
    Known features stay, and so does a sample without a known position.

    Args:
        threshold: share of hole above which a feature cell counts as hole, see ``reduce_mask``.

    Shape: features (B, C, H, W) and mask (B, 1, h, w), h and w whole multiples → (B, C, H, W).

    Raises:
        ValueError: for a threshold outside [0, 1), and for a mask that does not fit.
    """

    def __init__(self, threshold: float = 5 / 16) -> None:
        super().__init__()
        check_threshold(threshold)
        self.threshold = threshold
        self.shift = Shift()

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        size = (features.shape[2], features.shape[3])
        hole = reduce_mask(mask, size, self.threshold) > 0.5
        hole = hole & ~hole.flatten(1).all(1)[:, None, None, None]
        return torch.where(hole, self.shift(features, features, hole), features)
