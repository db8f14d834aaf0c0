"""Between the picture's pixels and cells: squares of pixels, which are what the network sees."""

import torch.nn.functional as F
from torch import Tensor


def reduce(image: Tensor, known: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The mean of each cell's known pixels; a cell is known where at least half of it is.

    Cells at the bottom and right may reach beyond the picture.

    Args:
        image: whatever it holds where it is not known is not used.
        known: True where the image is known.
        factor: side of a cell in pixels.

    Shape: (3, H, W), (1, H, W) → (3, h, w), (1, h, w); h and w rounded up
    """
    if factor == 1:
        return image, known
    share = _mean(known.float(), factor)
    mean = _mean(image.masked_fill(~known, 0), factor) / share.clamp_min(1e-6)
    return mean, share >= 0.5


def any_pixel(mask: Tensor, factor: int) -> Tensor:
    """Cells that hold a pixel of the mask. Shape: (1, H, W) → (1, h, w), rounded up."""
    return F.max_pool2d(mask[None].float(), factor, ceil_mode=True)[0] > 0


def enlarge(cells: Tensor, factor: int) -> Tensor:
    """Cells to pixels, bicubic. Shape: (3, h, w) → (3, h·factor, w·factor)."""
    if factor == 1:
        return cells
    return F.interpolate(cells[None], scale_factor=factor, mode="bicubic")[0]


def _mean(x: Tensor, factor: int) -> Tensor:
    return F.avg_pool2d(x[None], factor, ceil_mode=True, count_include_pad=False)[0]
