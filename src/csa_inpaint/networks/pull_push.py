"""Smooth continuation of the known pixels into the hole, by a pyramid of weighted means."""

import torch
import torch.nn.functional as F
from torch import Tensor

HALVINGS = 16  # leave one pixel of an image of up to 65536 pixels on a side


def pull_push(image: Tensor, hole: Tensor) -> Tensor:
    """Fill the hole with colours that change smoothly from its border inwards.

    The pull halves the image until one pixel is left, and each pixel is the mean of the known ones
    below it. The push goes back, and where a pixel is not known it takes its colour from the
    coarser level (Gortler et al., "The Lumigraph", SIGGRAPH 1996, Sec. 3.4). An image without known
    pixels becomes 0. The means are computed in float32.

    Shape: (B, C, H, W), (B, 1, H, W) of truth values, True in the hole → (B, C, H, W)
    """
    known = ~hole
    # The last channel is 1 where the colours are known, and 0 where they are 0.
    level = torch.cat([image.float().where(known, 0), known.float()], dim=1)
    levels = [level]
    # The number of halvings is fixed, so that an exported graph serves images of any size. The
    # halving of one pixel leaves the pixel.
    for _ in range(HALVINGS):
        # The row and column of unknown zeros complete the windows at the border of odd sizes.
        mean = F.avg_pool2d(F.pad(level, (0, 1, 0, 1)), 2)
        level = mean / mean[:, -1:].clamp(min=1 / 4)  # 1/4 is the share of one known pixel
        levels.append(level)
    filled = levels.pop()[:, :-1]
    for level in reversed(levels):
        height, width = level.shape[-2:]
        # Twice the size, and then cut, so that each coarse pixel lies over those that it came from.
        coarse = F.interpolate(filled, scale_factor=2.0, mode="bilinear", align_corners=False)
        coarse = coarse[..., :height, :width]
        filled = level[:, :-1].where(level[:, -1:] > 0, coarse)
    return image.where(known, filled.to(image.dtype))
