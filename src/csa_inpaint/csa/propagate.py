"""Propagate: the recurrence that generates hole patches one after the other."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from csa_inpaint.csa.search import (
    in_range,
    normalize_,
    rounding,
    search_pytorch,
    take_columns,
)


def links(hole: Tensor, columns: int, across_gaps: bool) -> Tensor:
    """Mark the hole patches that blend with the hole patch before them.

    Hole patches form runs. The first hole patch of a run is not linked, the others are.

    Args:
        columns: number of patches in one row of the map.
        across_gaps: all hole patches of a sample form one run in raster order, also across gaps
            and row ends. False ends a run at every known patch and at the end of a row.

    Shape: (B, P) → (B, P), boolean.
    """
    if across_gaps:
        return hole & (hole.cumsum(1) > 1)
    rows = hole.view(len(hole), -1, columns)
    return (rows & F.pad(rows, (1, 0))[..., :-1]).flatten(1)


def attend_pytorch(
    patches: Tensor, hole: Tensor, linked: Tensor, cosine: bool, guarded: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The PyTorch form of ``attend``, without autograd."""
    match, unit, norm = search_pytorch(patches, hole)
    generated, weights = propagate_pytorch(
        patches, hole, linked, match, unit, norm, cosine, guarded
    )
    return generated, match, weights


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
    """Step through the hole patches of all samples at once, and return patches and weights.

    Arguments and results are those of ``attend``. ``unit`` (K, B, D) and ``norm`` (K, B, 1) are the
    directions and lengths of the hole patches, as ``search_pytorch`` returns them. The function
    overwrites ``unit``.

    A step needs two inner products of the previous patch: one with ``m_i`` and one with itself.
    ``pair`` holds both patches, so that one product and one sum compute both inner products. The
    time depends on the number of operations per step, not on the size of the operations.
    """
    dtype = torch.promote_types(patches.dtype, torch.float32)
    generated = torch.empty_like(patches, dtype=dtype).copy_(patches)
    weights = torch.zeros_like(hole, dtype=dtype)
    order, valid = hole_order(hole)
    if order.shape[1] == 0:
        return generated, weights

    matched = _rows(patches, match.gather(1, order))  # (K, B, D)
    norm_matched = torch.linalg.vecdot(matched, matched)[..., None].sqrt_()
    # Scaling by a power of two is exact: a sample has the same result in both branches, whichever
    # branch its batch takes.
    ordinary = bool(in_range(norm_matched).all())
    rescaled = cosine and not ordinary
    if ordinary:
        d_max = torch.linalg.vecdot(unit, matched)[..., None] / norm_matched  # (K, B, 1)
    else:
        rows = matched / _power_of_two(matched.abs().amax(2, keepdim=True))
        length = torch.linalg.vecdot(rows, rows)[..., None].sqrt_()
        d_max = torch.linalg.vecdot(unit, rows)[..., None] / torch.where(length > 0, length, 1)
    if rescaled:
        matched *= 0.25  # The difference of two patches stays in range.
    link = linked.gather(1, order).T[..., None]
    if guarded:  # A patch that resembles no known patch takes its match alone. NaN stays NaN.
        link = link & ~(d_max <= rounding(dtype))
    if not cosine:
        d_max *= norm
    # A patch that is not linked does not depend on the patch before it: Dad = 0, so w = 0.
    unit *= link
    d_max = torch.where(link, d_max, 1)

    # Each step overwrites the match with the generated patch.
    pair = torch.stack((matched[0], matched[0]), dim=1)  # (B, 2, D): m_i and m_{i-1}
    current, previous, wide_previous = pair[:, 0], pair[:, 1], pair[:, 1:]
    product = torch.empty_like(pair)
    inner = pair.new_empty(pair.shape[:2])
    d_ad, total = inner[:, :1], inner[:, 1:]
    blend = torch.zeros_like(d_max)
    smallest = torch.finfo(dtype).tiny
    last = matched[0]
    unlinked = ~link
    steps = zip(
        *(each[1:].unbind(0) for each in (unit, matched, d_max, blend, unlinked)), strict=True
    )
    for direction, best, similarity, weight, starts_anew in steps:
        current.copy_(direction)
        if rescaled:  # The weight does not depend on the scale of m_{i-1}.
            torch.div(last, _power_of_two(last.abs().amax(1, keepdim=True)), out=previous)
        else:
            previous.copy_(last)
        torch.mul(pair, wide_previous, out=product)
        torch.sum(product, 2, out=inner)  # ⟨m_i, m_{i-1}⟩ / ‖m_i‖ and ‖m_{i-1}‖²
        if guarded:
            d_ad.clamp_(min=0)
        if cosine:  # Dad / (Dad + Dmax) with ‖m_{i-1}‖ as a factor of both similarities
            total.clamp_(min=smallest)  # After a zero patch Dad is 0, so w is 0 and not 0 / 0.
            torch.addcmul(d_ad, similarity, total.sqrt_(), out=total)
        else:
            torch.add(d_ad, similarity, out=total)
        torch.div(d_ad, total, out=weight)
        if not guarded:  # NaN and infinity end with their run.
            weight.masked_fill_(starts_anew, 0)
            last = torch.where(starts_anew, best, last)
        last = torch.lerp(best, last, weight, out=best)

    _scatter(generated, order, valid, matched * 4 if rescaled else matched)
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

    The gradient at the generated patch m_i is g_i. The gradient at the weight w_i is
    ``s_i = ⟨g_i, m_{i-1} - m̄_i⟩``. A step adds ``w_i · g_i + s_i · ∂w_i/∂m_{i-1}`` to g_{i-1}. The
    other terms do not depend on each other and need no order.
    """
    order, valid = hole_order(hole)
    if order.shape[1] == 0:
        return torch.empty_like(patches).copy_(grad)
    best = match.gather(1, order)
    matched = _rows(patches, best)  # (K, B, D)
    weight = weights.gather(1, order).T[..., None]  # (K, B, 1)
    # Rows beyond the last hole patch of a sample are padding. Padding has no gradient.
    flow = _rows(grad, order) * valid.T[..., None]

    if detach_weights:
        for step, before, w in _backwards(flow[1:], flow[:-1], weight[1:]):
            before.addcmul_(w, step)
        return _gather_gradient(grad, patches, hole, [(best, flow * (1 - weight))])

    previous = _rows(generated, order).roll(1, 0)
    unit, unit_matched = _rows(patches, order), matched.clone()
    norm, norm_matched = normalize_(unit, dim=2), normalize_(unit_matched, dim=2)
    link = linked.gather(1, order).T[..., None]
    cosine_max = torch.linalg.vecdot(unit, unit_matched)[..., None]
    if guarded:
        link = link & ~(cosine_max <= rounding(unit.dtype))
    unit *= link  # The weight of a patch that is not linked is constant.
    unit_previous = previous.clone()
    norm_previous = normalize_(unit_previous, dim=2)
    cosine_ad = torch.linalg.vecdot(unit, unit_previous)[..., None]
    if cosine:
        d_ad, d_max = cosine_ad, cosine_max
    else:
        d_ad, d_max = torch.linalg.vecdot(unit, previous)[..., None], cosine_max * norm
    rising = link
    if guarded:
        rising = link & ~(cosine_ad <= rounding(unit.dtype))
        d_ad = d_ad.clamp(min=0)
    # Derivatives of w = Dad / (Dad + Dmax) by Dad and by Dmax.
    total = torch.where(link, d_ad + d_max, 1)
    by_ad = torch.where(rising, d_max / total / total, 0)
    by_max = torch.where(link, -d_ad / total / total, 0)
    if cosine:
        by_previous = by_ad * (_inverse(norm_previous) * (unit - d_ad * unit_previous))
        by_original = _inverse(norm) * (
            by_ad * unit_previous + by_max * unit_matched - (by_ad * d_ad + by_max * d_max) * unit
        )
        by_matched = by_max * (_inverse(norm_matched) * (unit - cosine_max * unit_matched))
    else:
        by_previous = by_ad * unit
        by_original = by_ad * (_inverse(norm) * (previous - d_ad * unit)) + by_max * unit_matched
        by_matched = by_max * (norm * _inverse(norm_matched)) * (unit - cosine_max * unit_matched)

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


def attention_matrix(hole: Tensor, match: Tensor, weights: Tensor) -> Tensor:
    """Write the generated patches as combinations of known ones: (B, P, P), rows sum to one.

    The row of a known patch is one at the patch itself. The row of a hole patch mixes the row of
    the previous hole patch with the match, as the recurrence mixes the patches. The matrix carries
    no gradient.
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
    """Return the indices of the hole patches in raster order (B, K), and which are valid (B, K).

    K is the largest number of hole patches in a sample. In a sample with fewer hole patches, the
    last indices are those of known patches and not valid.
    """
    count = int(hole.sum(1).amax()) if len(hole) else 0
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
    """Write the valid rows (K, B, D) into patches (B, P, D)."""
    for sample, count in enumerate(valid.sum(1).tolist()):
        columns, chosen = patches[sample].T, index[sample, :count]
        columns.scatter_(1, chosen.expand(len(columns), -1), rows[:count, sample].T)


def _gather_gradient(
    grad: Tensor, patches: Tensor, hole: Tensor, parts: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """Add the values of each part, at its indices, to the gradient of the known patches."""
    result = torch.empty_like(patches)
    for sample, (columns, count) in enumerate(zip(result.mT, hole.sum(1).tolist(), strict=True)):
        rows = grad.new_zeros(patches.shape[1:])
        for index, values in parts:
            rows.index_add_(0, index[sample, :count], values[:count, sample])
        columns.copy_(torch.where(hole[sample], 0, grad[sample].mT).add_(rows.T.contiguous()))
    return result


def _backwards(*sequences: Tensor) -> Any:
    """Walk through sequences (K, …) together, from the last step to the first."""
    return zip(*(sequence.unbind(0)[::-1] for sequence in sequences), strict=True)


def _inverse(norm: Tensor) -> Tensor:
    """1 / norm, and zero for a zero patch, whose direction has no gradient."""
    return torch.where(norm > 0, 1 / norm, 0)


def _power_of_two(values: Tensor) -> Tensor:
    """The largest power of two up to each positive value, at least the smallest normal number."""
    exponent = torch.frexp(values.clamp(min=torch.finfo(values.dtype).tiny)).exponent - 1
    return torch.pow(torch.full_like(values, 2), exponent)
