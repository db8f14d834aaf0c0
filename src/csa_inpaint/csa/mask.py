"""The hole at the resolution of a feature map."""

import torch.nn.functional as F
from torch import Tensor


def reduce_mask(mask: Tensor, size: tuple[int, int], threshold: float = 5 / 16) -> Tensor:
    """Reduce a mask to the resolution of a feature map.

    The rule follows the stride-2 convolutions of the encoder, as the authors' implementation does.
    Each halving is a 4×4 mean filter with stride 2 and padding 1, and the mean counts the zero
    padding. A cell is hole where the last mean lies strictly above the threshold. For other whole
    ratios, and for two axes of different ratios, the hole's share of a cell's area takes the place
    of the last mean. A mask of the feature map's size is only made binary.

    Args:
        mask: above 0.5 in the hole, of any dtype; NaN counts as known.
        size: height and width of the feature map.
        threshold: share of hole above which a cell becomes hole.

    Shape:
        - mask: (B, 1, h, w), h and w whole multiples of the size.
        - returns (B, 1, H, W), 0 or 1 in the dtype of the mask.

    Raises:
        ValueError: for a mask of another rank or channel count, a size that does not divide it,
            or a threshold outside [0, 1).
    """
    if mask.dim() != 4 or mask.shape[1] != 1 or 0 in mask.shape[2:]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, expected (B, 1, h, w)")
    check_threshold(threshold)
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"a mask cannot be reduced to the size {size}")
    if mask.shape[2] % height or mask.shape[3] % width:
        raise ValueError(
            f"mask has size {tuple(mask.shape[2:])}, which is no whole multiple of the feature "
            f"map's {(height, width)}; resize or pad the mask first"
        )
    ratio = mask.shape[2] // height, mask.shape[3] // width
    hole = mask > 0.5
    if ratio == (1, 1):
        return hole.to(mask.dtype)
    share = hole.float()
    halvings, rest = 0, ratio[0]
    while rest % 2 == 0:
        halvings, rest = halvings + 1, rest // 2
    if ratio[0] == ratio[1] and rest == 1:
        for _ in range(halvings):
            share = F.avg_pool2d(share, kernel_size=4, stride=2, padding=1)
    else:
        share = F.avg_pool2d(share, kernel_size=ratio)
    return (share > threshold).to(mask.dtype)


def check_threshold(threshold: float) -> None:
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must lie in [0, 1), got {threshold}")
