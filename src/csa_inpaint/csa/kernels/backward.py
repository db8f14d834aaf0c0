"""The backward kernels: slopes in parallel → the chain per sample → one gather per patch."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, misc"

import torch
import triton
import triton.language as tl
from torch import Tensor

from csa_inpaint.csa.kernels.common import (
    TIE,
    direction,
    holes_first,
    load_patch,
    per_patch,
    per_sample,
    store_patch,
)

# Slots of the slopes (7, B, P): both similarities of a hole patch, the derivatives of its weight by
# both similarities, and the inverse lengths of m, k and y.
D_AD, D_MAX, BY_AD, BY_MAX, INVERSE_M, INVERSE_K, INVERSE_Y = (tl.constexpr(i) for i in range(7))


def attend_backward(
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
    """Triton form of ``propagate_backward_pytorch``."""
    grad, patches, generated = (x.contiguous() for x in (grad, patches, generated))
    batch, count, size = patches.shape
    order, hole_counts = holes_first(hole)
    options = {"COSINE": cosine, "DETACH": detach_weights}

    slopes = weights.new_zeros(7, batch, count)
    if not detach_weights:
        _slopes[count, batch](
            patches, generated, order, hole_counts, linked, match, slopes, slopes.stride(0),
            COSINE=cosine, GUARDED=guarded, **per_patch(count, size),
        )  # fmt: skip

    flow, weight_grad = torch.empty_like(generated), torch.zeros_like(weights)
    _chain[(batch,)](
        grad, patches, generated, weights, order, hole_counts, match, slopes, slopes.stride(0),
        flow, weight_grad, **options, **per_sample(count, size),
    )  # fmt: skip

    # The users of a patch are the patches whose match it is. A known patch is its own user.
    sorted_match, users = match.sort(dim=1, stable=True)
    indices = torch.arange(count + 1, device=match.device).repeat(batch, 1)
    first_user = torch.searchsorted(sorted_match, indices)
    # The first hole patch has no hole patch before it and takes itself.
    before = torch.empty_like(match).scatter_(
        1, order, torch.cat([order[:, :1], order[:, :-1]], dim=1)
    )
    result = torch.empty_like(patches)
    _collect[count, batch](
        grad, patches, generated, weights, hole, match, slopes, slopes.stride(0),
        flow, weight_grad, before, users, first_user, result, **options, **per_patch(count, size),
    )  # fmt: skip
    return result


@triton.jit
def _slopes(
    p_patches, p_generated, p_order, p_hole_count, p_linked, p_match, p_slopes, stride,
    count, size, COSINE: tl.constexpr, GUARDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Store the slopes of one hole patch. The slopes stay zero where the weight is constant."""
    sample = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0)
    if (i >= tl.load(p_hole_count + sample)) | (i == 0):
        return
    base = sample * count
    row_m = base + tl.load(p_order + base + i)
    if not tl.load(p_linked + row_m):
        return
    row_y = base + tl.load(p_order + base + i - 1)
    row_k = base + tl.load(p_match + row_m)
    b_m = load_patch(p_patches, row_m, size, BLOCK)
    b_k = load_patch(p_patches, row_k, size, BLOCK)
    b_y = load_patch(p_generated, row_y, size, BLOCK)
    b_unit_m, inverse_m = direction(b_m)
    b_unit_k, inverse_k = direction(b_k)
    b_unit_y, inverse_y = direction(b_y)
    cosine_ad, cosine_max = tl.sum(b_unit_m * b_unit_y, 0), tl.sum(b_unit_m * b_unit_k, 0)
    if COSINE:
        d_ad, d_max = cosine_ad, cosine_max
    else:
        d_ad, d_max = tl.sum(b_unit_m * b_y, 0), tl.sum(b_m * b_unit_k, 0)
    is_rising = tl.full((), True, tl.int1)
    if GUARDED:
        if cosine_max <= TIE:
            return
        is_rising = not (cosine_ad <= TIE)
        d_ad = tl.maximum(d_ad, 0.0, propagate_nan=tl.PropagateNan.ALL)
    total = d_ad + d_max  # the weight is Dad / total
    by_ad, by_max = tl.where(is_rising, d_max / total / total, 0), -d_ad / total / total
    tl.store(p_slopes + D_AD * stride + row_m, d_ad)
    tl.store(p_slopes + D_MAX * stride + row_m, d_max)
    tl.store(p_slopes + BY_AD * stride + row_m, by_ad)
    tl.store(p_slopes + BY_MAX * stride + row_m, by_max)
    tl.store(p_slopes + INVERSE_M * stride + row_m, inverse_m)
    tl.store(p_slopes + INVERSE_K * stride + row_m, inverse_k)
    tl.store(p_slopes + INVERSE_Y * stride + row_m, inverse_y)


@triton.jit
def _chain(
    p_grad, p_patches, p_generated, p_weights, p_order, p_hole_count, p_match, p_slopes, stride,
    p_flow, p_weight_grad,
    count, size, COSINE: tl.constexpr, DETACH: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Step back through the hole patches of one sample.

    The kernel stores the gradient at each generated patch (``flow``) and at each weight.
    """
    sample = tl.program_id(0).to(tl.int64)
    hole_count = tl.load(p_hole_count + sample).to(tl.int32)
    if hole_count == 0:
        return
    base = sample * count
    row_last = base + tl.load(p_order + base + hole_count - 1)
    b_flow = load_patch(p_grad, row_last, size, BLOCK)
    for step in tl.range(1, hole_count, num_stages=STAGES):
        row_m = base + tl.load(p_order + base + hole_count - step)
        row_y = base + tl.load(p_order + base + hole_count - step - 1)
        weight = tl.load(p_weights + row_m)
        b_grad_y = load_patch(p_grad, row_y, size, BLOCK)
        store_patch(p_flow, row_m, size, b_flow)
        if DETACH:
            b_flow = b_grad_y + weight * b_flow
        else:
            row_k = base + tl.load(p_match + row_m)
            d_ad = tl.load(p_slopes + D_AD * stride + row_m)
            by_ad = tl.load(p_slopes + BY_AD * stride + row_m)
            inverse_m = tl.load(p_slopes + INVERSE_M * stride + row_m)
            inverse_y = tl.load(p_slopes + INVERSE_Y * stride + row_m)
            b_m = load_patch(p_patches, row_m, size, BLOCK)
            b_k = load_patch(p_patches, row_k, size, BLOCK)
            b_y = load_patch(p_generated, row_y, size, BLOCK)
            b_by_y = by_ad * (b_m * inverse_m)
            if COSINE:
                b_by_y = by_ad * (b_m * inverse_m - d_ad * (b_y * inverse_y)) * inverse_y
            weight_grad = tl.sum(b_flow * (b_y - b_k), 0)
            tl.store(p_weight_grad + row_m, weight_grad)
            b_flow = b_grad_y + weight * b_flow + weight_grad * b_by_y
    row_first = base + tl.load(p_order + base)
    store_patch(p_flow, row_first, size, b_flow)


@triton.jit
def _collect(
    p_grad, p_patches, p_generated, p_weights, p_hole, p_match, p_slopes, stride,
    p_flow, p_weight_grad, p_before, p_users, p_first_user, p_result,
    count, size, COSINE: tl.constexpr, DETACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of one patch.

    A hole patch has a gradient through its own weight. A known patch has the gradient that arrives
    at itself and one from each hole patch whose match it is.
    """
    sample = tl.program_id(1).to(tl.int64)
    base = sample * count
    row = base + tl.program_id(0)
    b_patch = load_patch(p_patches, row, size, BLOCK)
    b_total = tl.zeros((BLOCK,), tl.float32)
    if tl.load(p_hole + row):  # the patch is m
        if not DETACH:
            row_y = base + tl.load(p_before + row)
            row_k = base + tl.load(p_match + row)
            b_y = load_patch(p_generated, row_y, size, BLOCK)
            b_k = load_patch(p_patches, row_k, size, BLOCK)
            d_ad = tl.load(p_slopes + D_AD * stride + row)
            d_max = tl.load(p_slopes + D_MAX * stride + row)
            by_ad = tl.load(p_slopes + BY_AD * stride + row)
            by_max = tl.load(p_slopes + BY_MAX * stride + row)
            inverse_m = tl.load(p_slopes + INVERSE_M * stride + row)
            b_unit_k = b_k * tl.load(p_slopes + INVERSE_K * stride + row)
            if COSINE:
                b_unit_y = b_y * tl.load(p_slopes + INVERSE_Y * stride + row)
                b_along = (by_ad * d_ad + by_max * d_max) * (b_patch * inverse_m)
                b_by_m = inverse_m * (by_ad * b_unit_y + by_max * b_unit_k - b_along)
            else:
                b_by_m = by_ad * (inverse_m * (b_y - d_ad * (b_patch * inverse_m)))
                b_by_m += by_max * b_unit_k
            b_total = tl.load(p_weight_grad + row) * b_by_m
    else:  # the patch is k for each of its users
        b_total = load_patch(p_grad, row, size, BLOCK)
        p_range = p_first_user + sample * (count + 1) + tl.program_id(0)
        for j in range(tl.load(p_range), tl.load(p_range + 1)):
            row_m = base + tl.load(p_users + base + j)
            if tl.load(p_hole + row_m):
                b_flow = load_patch(p_flow, row_m, size, BLOCK)
                b_total += (1 - tl.load(p_weights + row_m)) * b_flow
                if not DETACH:
                    b_m = load_patch(p_patches, row_m, size, BLOCK)
                    d_max = tl.load(p_slopes + D_MAX * stride + row_m)
                    by_max = tl.load(p_slopes + BY_MAX * stride + row_m)
                    inverse_k = tl.load(p_slopes + INVERSE_K * stride + row_m)
                    if COSINE:
                        b_m *= tl.load(p_slopes + INVERSE_M * stride + row_m)
                    b_by_k = by_max * (inverse_k * (b_m - d_max * (b_patch * inverse_k)))
                    b_total += tl.load(p_weight_grad + row_m) * b_by_k
    store_patch(p_result, row, size, b_total)
