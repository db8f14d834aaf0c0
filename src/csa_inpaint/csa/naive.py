"""The CSA layer as the paper writes it: a double loop over hole and known patches.

It is slow on purpose. Every fast form is compared with it, outputs and gradients.
"""

import torch
from torch import Tensor

from csa_inpaint.csa.mask import reduce_mask


def naive_csa(
    features: Tensor,
    mask: Tensor,
    patch_size: int = 1,
    stride: int = 1,
    threshold: float = 5 / 16,
    similarity: str = "cosine",
    detach_weights: bool = False,
) -> Tensor:
    """Apply ``CSALayer`` one sample and one patch at a time; arguments and shapes are the same."""
    height, width = features.shape[-2:]
    holes = reduce_mask(mask, (height, width), threshold) > 0.5
    samples = [
        _inpaint(sample, hole[0], patch_size, stride, similarity, detach_weights)
        for sample, hole in zip(features, holes, strict=True)
    ]
    return torch.stack(samples)


def _inpaint(
    features: Tensor, hole: Tensor, size: int, stride: int, similarity: str, detach_weights: bool
) -> Tensor:
    """One sample: features (C, H, W), hole (H, W)."""
    _, height, width = features.shape
    windows = [
        (rows, columns)
        for rows in _windows(height, size, stride)
        for columns in _windows(width, size, stride)
    ]
    patches = [features[:, rows][:, :, columns].flatten() for rows, columns in windows]
    is_hole = [bool(hole[rows][:, columns].any()) for rows, columns in windows]
    if all(is_hole) or not any(is_hole):
        return features

    known = torch.stack([patch for patch, is_h in zip(patches, is_hole, strict=True) if not is_h])
    known_unit = _unit(known)
    total = torch.zeros_like(features)
    count = torch.zeros_like(features[0])
    previous = None
    for patch, (rows, columns), is_h in zip(patches, windows, is_hole, strict=True):
        if not is_h:
            continue
        similarities = known_unit @ _unit(patch)
        best = int(similarities.argmax())
        match = known[best]
        if previous is None:
            generated = match
        else:
            if similarity == "cosine":
                d_max = similarities[best].clamp(min=0)
                d_ad = (_unit(patch) @ _unit(previous)).clamp(min=0)
            else:
                d_max = patch @ known_unit[best]
                d_ad = _unit(patch) @ previous
            if detach_weights:
                d_max, d_ad = d_max.detach(), d_ad.detach()
            if similarity == "cosine" and d_ad + d_max == 0:
                generated = match
            else:
                # paper, Eq. 3: the previous generated patch and the match, by their similarity
                generated = (d_ad * previous + d_max * match) / (d_ad + d_max)
        previous = generated
        block = generated.view(-1, size, size)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                # the window's part beyond the edge repeats it: only its first copy is written
                if row in rows[:i] or column in columns[:j]:
                    continue
                place = torch.zeros_like(count)
                place[row, column] = 1
                total = total + place * block[:, i, j, None, None]
                count = count + place
    written = hole & (count > 0)
    return torch.where(written, total / count.clamp(min=1), features)


def _windows(length: int, size: int, stride: int) -> list[list[int]]:
    """Indices of each window along one axis; the last one may repeat the edge."""
    last = length - size
    if stride <= size:  # then windows can cover every position, the last one over the edge
        last += -last % stride
    return [
        [min(start + i, length - 1) for i in range(size)] for start in range(0, last + 1, stride)
    ]


def _unit(patches: Tensor) -> Tensor:
    """Patches of length one along the last dimension; zero stays zero, with a zero gradient."""
    norm = torch.linalg.vector_norm(patches, dim=-1, keepdim=True)
    return patches / torch.where(norm > 0, norm, 1) * (norm > 0)
