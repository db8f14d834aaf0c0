"""Propagate: the recurrence that generates hole patches one after the other."""

from typing import Any

import torch
from torch import Tensor

from csa_inpaint.csa.search import in_range, normalize_, triton_kernels


def propagate(
    patches: Tensor, hole: Tensor, match: Tensor, similarity: str, detach_weights: bool
) -> tuple[Tensor, Tensor]:
    """Generate the hole patches in raster order (paper, Sec. 3.2).

    Each is ``w_i · m_{i-1} + (1 - w_i) · m̄_i`` with ``w_i = Dad_i / (Dad_i + Dmax_i)``.

    Shape:
        - patches: (B, P, D); hole, match: (B, P).
        - returns the patches with the hole ones generated (B, P, D), and the weights ``w`` (B, P),
          zero at known patches; both float32, or float64 as the patches.
    """
    generated, weights = _propagate(patches, hole, match, similarity == "cosine", detach_weights)
    return generated, weights


@torch.library.custom_op("csa_inpaint::propagate", mutates_args=())
def _propagate(
    patches: Tensor, hole: Tensor, match: Tensor, cosine: bool, detach_weights: bool
) -> tuple[Tensor, Tensor]:
    if kernels := triton_kernels(patches):
        generated, weights = kernels.propagate(patches, hole, match, cosine)
        return torch.empty_like(patches, dtype=generated.dtype).copy_(generated), weights
    with torch.autocast(patches.device.type, enabled=False):
        return propagate_pytorch(patches, hole, match, cosine)


@_propagate.register_fake
def _(
    patches: Tensor, hole: Tensor, match: Tensor, cosine: bool, detach_weights: bool
) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(patches.dtype, torch.float32)
    return torch.empty_like(patches, dtype=dtype), torch.empty_like(hole, dtype=dtype)


@torch.library.custom_op("csa_inpaint::propagate_backward", mutates_args=())
def _propagate_backward(
    grad: Tensor,
    patches: Tensor,
    hole: Tensor,
    match: Tensor,
    generated: Tensor,
    weights: Tensor,
    cosine: bool,
    detach_weights: bool,
) -> Tensor:
    arguments = (grad, patches, hole, match, generated, weights, cosine, detach_weights)
    if kernels := triton_kernels(patches):
        return torch.empty_like(patches).copy_(kernels.propagate_backward(*arguments))
    with torch.autocast(patches.device.type, enabled=False):
        return propagate_backward_pytorch(*arguments)


@_propagate_backward.register_fake
def _(grad: Tensor, patches: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(patches)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    patches, hole, match, ctx.cosine, ctx.detach_weights = inputs
    generated, weights = output
    ctx.save_for_backward(patches, hole, match, generated, weights)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    arguments = (*ctx.saved_tensors, ctx.cosine, ctx.detach_weights)
    return _propagate_backward(grad, *arguments), None, None, None, None


_propagate.register_autograd(_backward, setup_context=_save)


def propagate_pytorch(
    patches: Tensor, hole: Tensor, match: Tensor, cosine: bool
) -> tuple[Tensor, Tensor]:
    """Step through the hole patches, all samples at once.

    A step needs two inner products of the previous patch, with ``m_i`` and with itself. Both are
    kept in ``pairs`` so that one product and one sum give them: the time goes into the number of
    operations per step, not into their size.
    """
    dtype = torch.promote_types(patches.dtype, torch.float32)
    generated = torch.empty_like(patches, dtype=dtype).copy_(patches)
    weights = torch.zeros_like(hole, dtype=dtype)
    order, valid = hole_order(hole)
    if order.shape[1] == 0:
        return generated, weights

    unit = _rows(patches, order)  # (K, B, D)
    norm = normalize_(unit, dim=2)
    matched = _rows(patches, match.gather(1, order))
    unit_matched = matched.clone()
    norm_matched = normalize_(unit_matched, dim=2)
    d_max = (unit * unit_matched).sum(2, keepdim=True)  # (K, B, 1)
    scale = None
    if cosine:
        d_max.clamp_(min=0)
        if not in_range(norm_matched).all():
            # The recurrence commutes with scaling: keep its squares in range, a power of two per
            # sample so that nothing is rounded.
            scale = _power_of_two(matched.abs().amax(dim=(0, 2), keepdim=True))
            matched = matched / scale
    else:
        d_max *= norm

    count, batch, size = matched.shape
    pairs = matched.new_empty(count, batch, 2, size)
    pairs[:-1, :, 0] = unit[1:]
    pairs[0, :, 1] = matched[0]
    blend = weights.new_zeros(count, batch, 1)
    product = torch.empty_like(pairs[0])
    inner = pairs.new_empty(batch, 2)
    d_ad, total = inner[:, :1], inner[:, 1:]
    smallest = torch.finfo(dtype).tiny
    steps = zip(
        pairs.unbind(0),
        pairs[:, :, 1].unbind(0),
        pairs[:, :, 1:].unbind(0),
        pairs[1:, :, 1].unbind(0),
        matched[1:].unbind(0),
        d_max[1:].unbind(0),
        blend[1:].unbind(0),
        strict=False,
    )
    for pair, previous, wide_previous, current, best, similarity, weight in steps:
        torch.mul(pair, wide_previous, out=product)
        torch.sum(product, 2, out=inner)  # ⟨m_i, m_{i-1}⟩ / ‖m_i‖ and ‖m_{i-1}‖²
        if cosine:
            # Dad / (Dad + Dmax), both sides times ‖m_{i-1}‖; 0 / tiny is the fallback to the match
            d_ad.clamp_(min=0)
            torch.addcmul(d_ad, similarity, total.sqrt_(), out=total).clamp_(min=smallest)
        else:
            torch.add(d_ad, similarity, out=total)
        torch.div(d_ad, total, out=weight)
        torch.lerp(best, previous, weight, out=current)

    values = pairs[:, :, 1] if scale is None else pairs[:, :, 1] * scale
    _scatter(generated, order, valid, values)
    weights.scatter_(1, order, blend[..., 0].T * valid)
    return generated, weights


def propagate_backward_pytorch(
    grad: Tensor,
    patches: Tensor,
    hole: Tensor,
    match: Tensor,
    generated: Tensor,
    weights: Tensor,
    cosine: bool,
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
        grad_matched = flow * (1 - weight)
        return _gather_gradient(grad, patches, hole, [(best, grad_matched)])

    previous = _rows(generated, order).roll(1, 0)
    unit, unit_matched = _rows(patches, order), matched.clone()
    norm, norm_matched = normalize_(unit, dim=2), normalize_(unit_matched, dim=2)
    cosine_max = (unit * unit_matched).sum(2, keepdim=True)
    if cosine:
        unit_previous = previous.clone()
        norm_previous = normalize_(unit_previous, dim=2)
        cosine_ad = (unit * unit_previous).sum(2, keepdim=True)
        d_ad, d_max = cosine_ad.clamp(min=0), cosine_max.clamp(min=0)
        total = d_ad + d_max
        square = torch.where(total > 0, total * total, 1)
        by_ad = torch.where(cosine_ad >= 0, d_max / square, 0)
        by_max = torch.where(cosine_max >= 0, -d_ad / square, 0)
        by_previous = (by_ad * _inverse(norm_previous)) * (unit - cosine_ad * unit_previous)
        by_original = _inverse(norm) * (
            by_ad * unit_previous
            + by_max * unit_matched
            - (by_ad * cosine_ad + by_max * cosine_max) * unit
        )
        by_matched = (by_max * _inverse(norm_matched)) * (unit - cosine_max * unit_matched)
    else:
        d_ad, d_max = (unit * previous).sum(2, keepdim=True), cosine_max * norm
        square = (d_ad + d_max).square()
        by_ad, by_max = d_max / square, -d_ad / square
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
        rows[:, sample] = columns.index_select(1, chosen).T
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
    return zip(*(sequence.unbind(0)[::-1] for sequence in sequences), strict=True)


def _inverse(norm: Tensor) -> Tensor:
    """1 / norm, and zero for a zero patch, whose direction has no gradient."""
    return torch.where(norm > 0, 1 / norm, 0)


def _power_of_two(values: Tensor) -> Tensor:
    """The power of two next to each positive value, at least the smallest normal number."""
    exponent = torch.frexp(values.clamp(min=torch.finfo(values.dtype).tiny)).exponent - 1
    return torch.pow(torch.full_like(values, 2), exponent)
