"""Between the picture's pixels and cells: squares of pixels, which are what the network sees."""

from functools import lru_cache

import torch
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
    rows, columns = (_weights(length, factor) for length in cells.shape[-2:])
    return rows @ cells @ columns.T


@lru_cache(maxsize=32)
def _weights(length: int, factor: int) -> Tensor:
    """What each cell of a row adds to each pixel. Shape: (length·factor, length)

    For the small boxes that detail is taken from, two products take a tenth of the time of
    PyTorch's own interpolation.
    """
    with torch.inference_mode(mode=False):  # the weights outlive the caller's inference mode
        cells = torch.eye(length)[None, None]
        return F.interpolate(cells, size=(length * factor, length), mode="bicubic")[0, 0]


def _mean(x: Tensor, factor: int) -> Tensor:
    return F.avg_pool2d(x[None], factor, ceil_mode=True, count_include_pad=False)[0]
