"""Propagate: the recurrence that generates hole patches one after the other."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from csa_inpaint.csa.search import in_range, normalize_, take_columns


def links(hole: Tensor, columns: int, across_gaps: bool) -> Tensor:
    """The hole patches that follow on the hole patch before them, all but a run's first.

    Args:
        columns: patches in one row of the map.
        across_gaps: the one before is the last hole patch in raster order, whatever lies between,
            row ends too; otherwise only the left neighbour counts.

    Shape: (B, P) → (B, P), boolean.
    """
    if across_gaps:
        return hole & (hole.cumsum(1) > 1)
    rows = hole.view(len(hole), -1, columns)
    return (rows & F.pad(rows, (1, 0))[..., :-1]).flatten(1)


def propagate_pytorch(
    patches: Tensor,
    hole: Tensor,
    linked: Tensor,
    match: Tensor,
    unit: Tensor,
    norm: Tensor,
    cosine: bool,
    guarded: bool,
) -> tuple[Tensor, Tensor]:
    """Step through the hole patches, all samples at once; arguments and values as ``attend``'s.

    ``unit`` (K, B, D), which is overwritten, and ``norm`` (K, B, 1) are the directions and lengths
    of the hole patches that ``search_pytorch`` returns.

    A step needs two inner products of the previous patch, with ``m_i`` and with itself. Both stand
    in ``pair`` so that one product and one sum give them: the time goes into the number of
    operations per step, not into their size.
    """
    dtype = torch.promote_types(patches.dtype, torch.float32)
    generated = torch.empty_like(patches, dtype=dtype).copy_(patches)
    weights = torch.zeros_like(hole, dtype=dtype)
    order, valid = hole_order(hole)
    if order.shape[1] == 0:
        return generated, weights

    matched = _rows(patches, match.gather(1, order))  # (K, B, D)
    norm_matched = torch.linalg.vecdot(matched, matched)[..., None].sqrt_()
    scale = None
    if in_range(norm_matched).all():
        d_max = torch.linalg.vecdot(unit, matched)[..., None] / norm_matched  # (K, B, 1)
    else:
        unit_matched = matched.clone()
        normalize_(unit_matched, dim=2)
        d_max = torch.linalg.vecdot(unit, unit_matched)[..., None]
        if cosine:
            # The recurrence commutes with scaling: keep its squares in range, a power of two per
            # sample so that nothing is rounded.
            scale = _power_of_two(matched.abs().amax(dim=(0, 2), keepdim=True))
            matched = matched / scale
    if not cosine:
        d_max *= norm
    if guarded:
        d_max.clamp_(min=0)
    # A patch that is not linked sees nothing of the one before: Dad = 0, and w = 0 / Dmax.
    link = linked.gather(1, order).T[..., None]
    unit *= link
    d_max = torch.where(link, d_max, 1)

    # The generated patches take the place of their matches, one after the other.
    pair = torch.stack((matched[0], matched[0]), dim=1)  # (B, 2, D): of m_i and m_{i-1}
    current, previous, wide_previous = pair[:, 0], pair[:, 1], pair[:, 1:]
    product = torch.empty_like(pair)
    inner = pair.new_empty(pair.shape[:2])
    d_ad, total = inner[:, :1], inner[:, 1:]
    blend = torch.zeros_like(d_max)
    smallest = torch.finfo(dtype).tiny
    steps = zip(*(each[1:].unbind(0) for each in (unit, matched, d_max, blend)), strict=True)
    for direction, best, similarity, weight in steps:
        current.copy_(direction)
        torch.mul(pair, wide_previous, out=product)
        torch.sum(product, 2, out=inner)  # ⟨m_i, m_{i-1}⟩ / ‖m_i‖ and ‖m_{i-1}‖²
        if guarded:
            d_ad.clamp_(min=0)
        elif cosine:  # Dad is zero after a zero patch, and so is w, not 0 / 0
            total.clamp_(min=smallest)
        if cosine:  # Dad / (Dad + Dmax), both sides times ‖m_{i-1}‖
            torch.addcmul(d_ad, similarity, total.sqrt_(), out=total)
        else:
            torch.add(d_ad, similarity, out=total)
        if guarded:  # 0 / tiny is the fallback to the match
            total.clamp_(min=smallest)
        torch.div(d_ad, total, out=weight)
        previous.copy_(torch.lerp(best, previous, weight, out=best))

    _scatter(generated, order, valid, matched if scale is None else matched * scale)
    weights.scatter_(1, order, blend[..., 0].T * valid)
    return generated, weights


def propagate_backward_pytorch(
    grad: Tensor,
    patches: Tensor,
    hole: Tensor,
    linked: Tensor,
    match: Tensor,
    generated: Tensor,
    weights: Tensor,
    cosine: bool,
    guarded: bool,
    detach_weights: bool,
) -> Tensor:
    """Step back through the hole patches.

    With g_i the gradient at m_i, the weight's is s_i = ⟨g_i, m_{i-1} - m̄_i⟩, and
    ``g_{i-1} += w_i · g_i + s_i · ∂w_i/∂m_{i-1}``; the rest needs no order.
    """
    order, valid = hole_order(hole)
    if order.shape[1] == 0:
        return grad.to(patches.dtype, copy=True)
    best = match.gather(1, order)
    matched = _rows(patches, best)  # (K, B, D)
    weight = weights.gather(1, order).T[..., None]  # (K, B, 1)
    # beyond a sample's last hole patch there is no gradient, and none may enter
    flow = _rows(grad, order) * valid.T[..., None]

    if detach_weights:
        for step, before, w in _backwards(flow[1:], flow[:-1], weight[1:]):
            before.addcmul_(w, step)
        return _gather_gradient(grad, patches, hole, [(best, flow * (1 - weight))])

    previous = _rows(generated, order).roll(1, 0)
    unit, unit_matched = _rows(patches, order), matched.clone()
    norm, norm_matched = normalize_(unit, dim=2), normalize_(unit_matched, dim=2)
    link = linked.gather(1, order).T[..., None]
    unit *= link  # the weight of a patch that is not linked depends on nothing
    cosine_max = torch.linalg.vecdot(unit, unit_matched)[..., None]
    if cosine:
        unit_previous = previous.clone()
        norm_previous = normalize_(unit_previous, dim=2)
        d_ad, d_max = torch.linalg.vecdot(unit, unit_previous)[..., None], cosine_max
    else:
        d_ad, d_max = torch.linalg.vecdot(unit, previous)[..., None], cosine_max * norm
    by_ad, by_max = _weight_slopes(d_ad, d_max, link, guarded)
    if cosine:
        by_previous = (by_ad * _inverse(norm_previous)) * (unit - d_ad * unit_previous)
        by_original = _inverse(norm) * (
            by_ad * unit_previous + by_max * unit_matched - (by_ad * d_ad + by_max * d_max) * unit
        )
        by_matched = (by_max * _inverse(norm_matched)) * (unit - cosine_max * unit_matched)
    else:
        by_previous = by_ad * unit
        by_original = by_ad * _inverse(norm) * (previous - d_ad * unit) + by_max * unit_matched
        by_matched = by_max * norm * _inverse(norm_matched) * (unit - cosine_max * unit_matched)

    slope = torch.zeros_like(weight)
    difference = previous - matched
    product = torch.empty_like(matched[0])
    for step, before, w, s, apart, direction in _backwards(
        flow[1:], flow[:-1], weight[1:], slope[1:], difference[1:], by_previous[1:]
    ):
        torch.sum(torch.mul(step, apart, out=product), 1, keepdim=True, out=s)
        before.addcmul_(w, step).addcmul_(s, direction)
    return _gather_gradient(
        grad,
        patches,
        hole,
        [
            (best, flow * (1 - weight) + slope * by_matched),
            (order, slope * by_original),
        ],
    )


def _weight_slopes(
    d_ad: Tensor, d_max: Tensor, link: Tensor, guarded: bool
) -> tuple[Tensor, Tensor]:
    """Derivatives of ``Dad / (Dad + Dmax)`` by Dad and by Dmax, zero where there is no link."""
    if guarded:
        above_ad, above_max = d_ad >= 0, d_max >= 0
        d_ad, d_max = d_ad.clamp(min=0), d_max.clamp(min=0)
        link = link & (d_ad + d_max > 0)
        square = torch.where(link, (d_ad + d_max).square(), 1)
        by_ad = torch.where(link & above_ad, d_max / square, 0)
        by_max = torch.where(link & above_max, -d_ad / square, 0)
        return by_ad, by_max
    square = torch.where(link, (d_ad + d_max).square(), 1)
    return torch.where(link, d_max / square, 0), torch.where(link, -d_ad / square, 0)


def attention_matrix(hole: Tensor, match: Tensor, weights: Tensor) -> Tensor:
    """Write the generated patches as combinations of known ones: (B, P, P), rows sum to one.

    Row i of a known patch is one at itself; a hole patch's row mixes the previous hole patch's row
    with its match, as ``propagate`` mixes the patches. It carries no gradient.
    """
    attention: Tensor = _attention_matrix(hole, match, weights.detach())
    return attention


@torch.library.custom_op("csa_inpaint::attention_matrix", mutates_args=())
def _attention_matrix(hole: Tensor, match: Tensor, weights: Tensor) -> Tensor:
    batch, count = hole.shape
    attention = torch.zeros(batch, count, count, dtype=weights.dtype, device=hole.device)
    attention.scatter_(2, match[..., None], (1 - weights)[..., None])
    previous = torch.zeros_like(attention[:, 0])
    for i in range(count):
        is_hole = hole[:, i, None]
        attention[:, i] += torch.where(is_hole, weights[:, i, None] * previous, 0)
        previous = torch.where(is_hole, attention[:, i], previous)
    return attention


@_attention_matrix.register_fake
def _(hole: Tensor, match: Tensor, weights: Tensor) -> Tensor:
    return weights.new_empty(*hole.shape, hole.shape[1])


def hole_order(hole: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the hole patches in raster order, as many as the fullest sample has.

    Returns the indices (B, K) and which of them are hole patches; the others are known ones.
    """
    count = int(hole.sum(1).max())
    order = (~hole).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    return order, hole.gather(1, order)


def _rows(patches: Tensor, index: Tensor) -> Tensor:
    """Take patches (B, P, D) by index (B, K) into (K, B, D), contiguous, at least in float32."""
    dtype = torch.promote_types(patches.dtype, torch.float32)
    rows = patches.new_empty(index.shape[1], len(patches), patches.shape[2], dtype=dtype)
    for sample, (columns, chosen) in enumerate(zip(patches.mT, index, strict=True)):
        rows[:, sample] = take_columns(columns, chosen).T
    return rows


def _scatter(patches: Tensor, index: Tensor, valid: Tensor, rows: Tensor) -> None:
    """Write rows (K, B, D) into patches (B, P, D) where they are valid."""
    for sample, count in enumerate(valid.sum(1).tolist()):
        columns, chosen = patches[sample].T, index[sample, :count]
        columns.scatter_(1, chosen.expand(len(columns), -1), rows[:count, sample].T)


def _gather_gradient(
    grad: Tensor, patches: Tensor, hole: Tensor, parts: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """Sum the gradient of the known patches with what the parts add at their indices."""
    result = torch.empty_like(patches)
    for sample, (columns, count) in enumerate(zip(result.mT, hole.sum(1).tolist(), strict=True)):
        rows = grad.new_zeros(patches.shape[1:])
        for index, values in parts:
            rows.index_add_(0, index[sample, :count], values[:count, sample])
        columns.copy_(torch.where(hole[sample], 0, grad[sample].mT).add_(rows.T.contiguous()))
    return result


def _backwards(*sequences: Tensor) -> Any:
    """Walk through sequences (K, …) from their last step to their first."""
    return zip(*(sequence.unbind(0)[::-1] for sequence in sequences), strict=True)


def _inverse(norm: Tensor) -> Tensor:
    """1 / norm, and zero for a zero patch, whose direction has no gradient."""
    return torch.where(norm > 0, 1 / norm, 0)


def _power_of_two(values: Tensor) -> Tensor:
    """The power of two next to each positive value, at least the smallest normal number."""
    exponent = torch.frexp(values.clamp(min=torch.finfo(values.dtype).tiny)).exponent - 1
    return torch.pow(torch.full_like(values, 2), exponent)
