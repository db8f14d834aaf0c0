"""``attend`` as plain operators and one scan, for graphs that other runtimes execute."""

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan

from csa_inpaint.csa.search import rounding


def attend_scanned(
    patches: Tensor,
    hole: Tensor,
    linked: Tensor,
    cosine: bool,
    guarded: bool,
    detach_weights: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what ``attend`` does, in operators that ``torch.export`` and ONNX know.

    The weight of a hole patch depends on the patch generated before it, so that no closed form
    replaces the recurrence. A scan steps through the hole patches of all samples at once; the
    search is one product of matrices. Samples may have different numbers of hole patches: the
    scan is as long as the largest number, at least one.

    Arguments and results are those of ``attend``. The squares of a patch must be in the range of
    its dtype, and the patches must be finite.
    """
    dtype = torch.promote_types(patches.dtype, torch.float32)
    columns = patches.to(dtype).mT  # (B, D, P)
    depth, count = columns.shape[1:]
    smallest = torch.finfo(dtype).tiny

    most = hole.sum(1).amax(0).clamp(min=1).item()
    torch._check(most >= 1)
    torch._check(most <= count)
    position = torch.arange(count, device=hole.device).expand(hole.shape)
    # The hole patches in raster order, then known patches, which are not valid.
    order = (position + count * (~hole).long()).argsort(1)[:, :most]  # (B, K)
    valid = hole.gather(1, order)

    def take(index: Tensor) -> Tensor:
        return columns.gather(2, index[:, None].expand(-1, depth, -1))  # (B, D, K)

    queries = take(order)
    norm = (queries * queries).sum(1, keepdim=True).sqrt()  # (B, 1, K)
    unit = queries / norm.clamp(min=smallest)
    keys = columns / (columns * columns).sum(1, keepdim=True).sqrt().clamp(min=smallest)
    similarity = (unit.mT @ keys).masked_fill(hole[:, None], -torch.inf)  # (B, K, P)
    best = similarity.amax(2, keepdim=True)
    found = (similarity >= best - rounding(dtype)).int().argmax(2)  # the first of equals

    matched = take(found)
    norm_matched = (matched * matched).sum(1, keepdim=True).sqrt()
    d_max = (unit * matched).sum(1, keepdim=True) / norm_matched.clamp(min=smallest)
    link = linked.gather(1, order)[:, None]
    if guarded:
        link = link & (d_max > rounding(dtype))
    if not cosine:
        d_max = d_max * norm
    d_max = torch.where(link, d_max, 1)
    unit = torch.where(link, unit, 0)

    def step(last: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        direction, best, similarity, starts_anew = now
        d_ad = (direction * last).sum(1, keepdim=True)
        if guarded:
            d_ad = d_ad.clamp(min=0)
        if cosine:
            length = (last * last).sum(1, keepdim=True).clamp(min=smallest).sqrt()
            weight = d_ad / (d_ad + similarity * length)
        else:
            weight = d_ad / (d_ad + similarity)
        if not guarded:  # NaN and infinity end with their run.
            weight = torch.where(starts_anew, 0, weight)
            last = torch.where(starts_anew, best, last)
        generated = best + weight * (last - best)
        return generated, (generated.clone(), weight)

    inputs = tuple(x.movedim(2, 0).contiguous() for x in (unit, matched, d_max, ~link))
    _, (rows, blend) = scan(step, inputs[1][0].clone(), inputs)  # (K, B, D), (K, B, 1)

    rows = torch.where(valid[:, None], rows.movedim(0, 2), queries)
    generated = columns.scatter(2, order[:, None].expand(-1, depth, -1), rows)
    match = position.scatter(1, order, torch.where(valid, found, order))
    weights = torch.zeros_like(position, dtype=dtype).scatter(
        1, order, torch.where(valid, blend.squeeze(2).T, 0)
    )
    return generated.mT, match, weights
