"""The recurrence that generates hole patches one after the other."""

import torch
from torch import Tensor

from csa_inpaint.csa.search import normalize


def propagate(
    patches: Tensor, hole: Tensor, match: Tensor, similarity: str, detach_weights: bool
) -> tuple[Tensor, Tensor]:
    """Generate the hole patches in raster order (paper, Eq. 3).

    Shape:
        - patches: (B, P, D); hole, match: (B, P).
        - returns the patches with the hole ones generated (B, P, D), and what each takes from the
          hole patch before it (B, P), zero at known patches.
    """
    dtype = torch.promote_types(patches.dtype, torch.float32)
    count = int(hole.sum(1).max())
    order = hole.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
    valid = hole.gather(1, order)
    original = _take(patches, order).to(dtype)  # (B, K, D)
    matched = _take(patches, match.gather(1, order)).to(dtype)

    unit = normalize(original)
    if similarity == "cosine":
        d_max = (unit * normalize(matched)).sum(-1).clamp(min=0)
    else:
        d_max = (original * normalize(matched)).sum(-1)

    generated: list[Tensor] = []
    weights: list[Tensor] = []
    for i in range(count):
        if i == 0:
            weight = torch.zeros_like(d_max[:, 0])
            previous = matched[:, 0]
        else:
            previous = generated[-1]
            if similarity == "cosine":
                d_ad = (unit[:, i] * normalize(previous)).sum(-1).clamp(min=0)
                total = d_ad + d_max[:, i]
                weight = torch.where(total > 0, d_ad / torch.where(total > 0, total, 1), 0)
            else:
                d_ad = (unit[:, i] * previous).sum(-1)
                weight = d_ad / (d_ad + d_max[:, i])
            if detach_weights:
                weight = weight.detach()
        weights.append(weight)
        generated.append(weight[:, None] * previous + (1 - weight[:, None]) * matched[:, i])

    output = patches.clone()
    weight_map = torch.zeros_like(hole, dtype=dtype)
    if count:
        values = torch.where(
            valid[..., None], torch.stack(generated, 1).to(patches.dtype), _take(patches, order)
        )
        output = output.scatter(1, order[..., None].expand_as(values), values)
        weight_map = weight_map.scatter(1, order, torch.stack(weights, 1) * valid)
    return output, weight_map


@torch.no_grad()
def attention_matrix(hole: Tensor, match: Tensor, weights: Tensor) -> Tensor:
    """Write the generated patches as combinations of known ones: (B, P, P), rows sum to one.

    Row i of a known patch is one at itself; a hole patch's row mixes the previous hole patch's row
    with its match, as ``propagate`` mixes the patches.
    """
    batch, count = hole.shape
    attention = torch.zeros(batch, count, count, dtype=weights.dtype, device=hole.device)
    attention.scatter_(2, match[..., None], (1 - weights)[..., None])
    previous = torch.zeros_like(attention[:, 0])
    for i in range(count):
        is_hole = hole[:, i, None]
        attention[:, i] += torch.where(is_hole, weights[:, i, None] * previous, 0)
        previous = torch.where(is_hole, attention[:, i], previous)
    return attention


def _take(patches: Tensor, index: Tensor) -> Tensor:
    return patches.gather(1, index[..., None].expand(-1, -1, patches.shape[2]))
