"""Smooth continuation of the known pixels into the hole, by a pyramid of weighted means."""

import torch.nn.functional as F
from torch import Tensor


def pull_push(image: Tensor, hole: Tensor) -> Tensor:
    """Fill the hole with colours that change smoothly from its border inwards.

    The pull halves the image until one pixel is left, and each pixel is the mean of the known ones
    below it. The push goes back, and where a pixel is not wholly known it takes the rest from the
    coarser level (Gortler et al., "The Lumigraph", SIGGRAPH 1996, Sec. 3.4). An image without known
    pixels becomes 0. The means are computed in float32.

    Shape: (B, C, H, W), (B, 1, H, W) of truth values, True in the hole → (B, C, H, W)
    """
    known = (~hole).float()
    colour = image.float().where(~hole, 0)
    levels = [(colour, known)]
    while max(colour.shape[-2:]) > 1:
        # The means over a pooling window of colour · weight and of the weight: their quotient is
        # the mean of the known pixels, whatever the size of a window at the image's border.
        total = F.avg_pool2d(colour * known, 2, ceil_mode=True)
        weight = F.avg_pool2d(known, 2, ceil_mode=True)
        colour = total / weight.clamp(min=1e-6)
        known = (4 * weight).clamp(max=1)
        levels.append((colour, known))
    filled = levels.pop()[0]
    for colour, known in reversed(levels):
        coarse = F.interpolate(filled, colour.shape[-2:], mode="bilinear", align_corners=False)
        filled = known * colour + (1 - known) * coarse
    return image.where(~hole, filled.to(image.dtype))
