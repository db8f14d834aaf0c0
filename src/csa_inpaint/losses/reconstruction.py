"""Reconstruction loss (paper, Sec. 3.3)."""

import torch.nn.functional as F
from torch import Tensor


def reconstruction_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference over the whole image, hole and known pixels alike.

    Shape: two (B, 3, H, W) in [-1, 1] → scalar in [-1, 1] units, twice those of [0, 1].
    """
    return F.l1_loss(prediction.float(), truth.float())
