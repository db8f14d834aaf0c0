"""Contextual attention in the place of the CSA layer."""

import torch
from torch import Tensor, nn

from csa_inpaint.csa import reduce_mask
from csa_inpaint.csa.mask import check_threshold
from csa_inpaint.networks.contextual_attention import ContextualAttention


class HoleContextualAttention(nn.Module):
    """Contextual attention that replaces hole features and keeps the known ones.

    The layer stands where a ``CSALayer`` stands.

    Args:
        threshold: share of hole above which a feature cell counts as hole, see ``reduce_mask``.
        exclude_hole: leaves keys that touch the hole out of the softmax.
        options: further arguments of ``ContextualAttention``.

    Shape: features (B, C, H, W) and mask (B, 1, h, w), h and w whole multiples → (B, C, H, W); H
        and W multiples of the attention's ``rate``.

    Raises:
        ValueError: for a threshold outside [0, 1), and where ``ContextualAttention`` raises one.
    """

    def __init__(
        self, threshold: float = 5 / 16, exclude_hole: bool = True, **options: float
    ) -> None:
        super().__init__()
        check_threshold(threshold)
        self.threshold = threshold
        self.attention = ContextualAttention(exclude_hole=exclude_hole, **options)  # type: ignore[arg-type]

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        hole = reduce_mask(mask, (features.shape[2], features.shape[3]), self.threshold)
        attended = self.attention(features, hole)
        return torch.where(hole > 0.5, attended, features)
