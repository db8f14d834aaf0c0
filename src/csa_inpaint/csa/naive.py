"""The CSA layer as the paper writes it: a double loop over hole and known patches.

The loop is slow on purpose. The tests compare outputs and gradients of every fast form with it.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from csa_inpaint.csa.mask import reduce_mask
from csa_inpaint.csa.search import rounding


def naive_csa(
    features: Tensor,
    mask: Tensor,
    patch_size: int = 1,
    stride: int = 1,
    threshold: float = 5 / 16,
    similarity: str = "cosine",
    detach_weights: bool = False,
    guarded: bool | None = None,
    across_gaps: bool = True,
) -> Tensor:
    """Do what ``CSALayer`` does, one sample and one patch at a time.

    Arguments and shapes are those of ``CSALayer``.
    """
    height, width = features.shape[-2:]
    holes = reduce_mask(mask, (height, width), threshold) > 0.5
    cosine = similarity == "cosine"
    guarded = cosine if guarded is None else guarded
    samples = [
        _inpaint(sample, hole[0], patch_size, stride, cosine, guarded, detach_weights, across_gaps)
        for sample, hole in zip(features, holes, strict=True)
    ]
    return torch.stack(samples)


def _inpaint(
    features: Tensor,
    hole: Tensor,
    size: int,
    stride: int,
    cosine: bool,
    guarded: bool,
    detach_weights: bool,
    across_gaps: bool,
) -> Tensor:
    """Fill the hole (H, W) of one sample's features (C, H, W)."""
    _, height, width = features.shape
    starts = list(itertools.product(_starts(height, size, stride), _starts(width, size, stride)))
    # A patch that reaches beyond the edge repeats the last row or column.
    beyond = (0, size, 0, size)
    padded = F.pad(features[None], beyond, mode="replicate")[0]
    padded_hole = F.pad(hole[None, None].double(), beyond, mode="replicate")[0, 0] > 0
    patches = [padded[:, top : top + size, left : left + size].flatten() for top, left in starts]
    is_hole = [
        bool(padded_hole[top : top + size, left : left + size].any()) for top, left in starts
    ]
    if all(is_hole) or not any(is_hole):
        return features

    known = torch.stack([patch for patch, is_h in zip(patches, is_hole, strict=True) if not is_h])
    known_unit = _unit(known)
    positions = list(features.flatten(1).unbind(1))
    written: dict[int, list[Tensor]] = {}
    previous = None
    for patch, (top, left), is_h in zip(patches, starts, is_hole, strict=True):
        if not across_gaps and (not is_h or left == 0):
            previous = None
        if not is_h:
            continue
        similarities = known_unit @ _unit(patch)
        equals = similarities >= similarities.max() - rounding(patch.dtype)
        best = int(equals.nonzero()[0])
        match = known[best]
        if previous is None:
            generated = match
        else:
            if cosine:
                d_max = similarities[best]
                d_ad = _unit(patch) @ _unit(previous)
            else:
                d_max = patch @ known_unit[best]
                d_ad = _unit(patch) @ previous
            if guarded:
                cosine_ad = _unit(patch) @ _unit(previous)
                at_least_zero = d_ad.detach().clamp(min=0)  # has no gradient
                d_ad = torch.where(cosine_ad > rounding(patch.dtype), d_ad, at_least_zero)
            if detach_weights:
                d_max, d_ad = d_max.detach(), d_ad.detach()
            if guarded and similarities[best] <= rounding(patch.dtype):
                generated = match
            else:
                # paper, Eq. 3: the previous generated patch and the match, by their similarity
                generated = (d_ad * previous + d_max * match) / (d_ad + d_max)
        previous = generated
        block = generated.view(-1, size, size)
        for i, j in itertools.product(range(size), range(size)):
            row, column = top + i, left + j
            if row < height and column < width and hole[row, column]:
                written.setdefault(row * width + column, []).append(block[:, i, j])
    for position, values in written.items():
        positions[position] = torch.stack(values).mean(0)
    return torch.stack(positions, 1).view_as(features)


def _starts(length: int, size: int, stride: int) -> range:
    """Where patches start along one axis. The last patch may reach beyond the edge."""
    last = length - size
    if stride <= size:  # The patches can cover every position.
        last += -last % stride
    return range(0, last + 1, stride)


def _unit(patches: Tensor) -> Tensor:
    """Scale patches to length one. A zero patch stays zero and has a zero gradient."""
    norm: Tensor = torch.linalg.vector_norm(patches, dim=-1, keepdim=True)
    return patches / torch.where(norm > 0, norm, 1) * (norm > 0)
