"""Triton kernels of search and propagate, chosen on CUDA for float16, bfloat16 and float32.

Nothing here waits for the device: the hole patches of each sample are put first by a stable sort,
and the kernels read their count. Nothing adds atomically, so results are deterministic. The two
recurrences run one program per sample, whose loads are issued two steps ahead (patches of up to
2048 numbers).

Rows of patches are scaled by powers of two before they are squared, which keeps every finite input
finite and rounds nothing, but what is too small beside the row's largest entry to matter.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, misc"

import torch
import triton
import triton.language as tl
from torch import Tensor

from csa_inpaint.csa.search import rounding

TIE = rounding(torch.float32)
SEARCH_TILE = 32  # hole patches per program: few, so that a single small map fills many programs


def attend(
    patches: Tensor, hole: Tensor, linked: Tensor, cosine: bool, guarded: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Triton form of ``attend``: no similarity matrix, a running best per hole patch.

    16-bit patches go to the tensor cores as they are: their products are exact in the float32
    accumulator, and the length of the key divides the sum. float32 patches are made unit vectors
    and multiplied in full float32 ("ieee"); TF32 would change which patch is the best.
    """
    patches = patches.contiguous()
    batch, count, size = patches.shape
    block = triton.next_power_of_2(size)
    order, holes = _hole_order(hole)
    is_half = patches.dtype != torch.float32
    rows, queries = torch.empty_like(patches), patches.new_empty(batch, size, count)
    scale, length = rows.new_empty(2, batch, count, dtype=torch.float32)
    _scale_rows[(count, batch)](
        patches,
        order,
        holes,
        rows,
        queries,
        scale,
        length,
        count,
        size,
        UNIT=not is_half,
        BLOCK=block,
        num_warps=_parallel_warps(block),
    )
    match = torch.arange(count, device=hole.device).repeat(batch, 1)
    _search[(triton.cdiv(count, SEARCH_TILE), batch)](
        rows,
        queries,
        length,
        order,
        holes,
        match,
        count,
        size,
        UNIT=not is_half,
        BLOCK_M=SEARCH_TILE,
        BLOCK_N=64,
        BLOCK_D=64 if is_half else 32,
        TIE=TIE,
    )
    best = torch.empty_like(match)
    d_max, reach = scale.new_empty(2, batch, count)
    _similarity[(count, batch)](
        rows,
        scale,
        length,
        order,
        holes,
        linked,
        match,
        best,
        d_max,
        reach,
        count,
        size,
        COSINE=cosine,
        GUARDED=guarded,
        UNIT=not is_half,
        TIE=TIE,
        BLOCK=block,
        num_warps=_parallel_warps(block),
    )
    generated = patches.to(torch.float32, copy=True)
    weights = torch.zeros_like(scale)
    _recurrence[(batch,)](
        patches,
        rows,
        order,
        holes,
        best,
        d_max,
        reach,
        generated,
        weights,
        count,
        size,
        COSINE=cosine,
        GUARDED=guarded,
        BLOCK=block,
        STAGES=_stages(block),
        num_warps=_warps(block),
    )
    return generated, match, weights


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
    """Triton form of the backward: slopes in parallel, the chain per sample, then a gather."""
    grad, patches, generated = (x.contiguous() for x in (grad, patches, generated))
    batch, count, size = patches.shape
    order, holes = _hole_order(hole)
    block = triton.next_power_of_2(size)
    slopes = weights.new_zeros(7, batch, count)
    if not detach_weights:
        _slopes[(count, batch)](
            patches,
            generated,
            order,
            holes,
            linked,
            match,
            slopes,
            slopes.stride(0),
            count,
            size,
            COSINE=cosine,
            GUARDED=guarded,
            TIE=TIE,
            BLOCK=block,
            num_warps=_parallel_warps(block),
        )
    flow = torch.empty_like(generated)
    at_weight = torch.zeros_like(weights)
    _chain[(batch,)](
        grad,
        patches,
        generated,
        weights,
        order,
        holes,
        match,
        slopes,
        slopes.stride(0),
        flow,
        at_weight,
        count,
        size,
        COSINE=cosine,
        DETACH=detach_weights,
        BLOCK=block,
        STAGES=_stages(block),
        num_warps=_warps(block),
    )
    result = torch.empty_like(patches)
    # Every patch collects from those it is the match of, itself included where it is known.
    ordered, users = match.sort(dim=1, stable=True)
    every = torch.arange(count + 1, device=match.device).repeat(batch, 1)
    first = torch.searchsorted(ordered, every)
    # the hole patch before each hole patch, itself for the first one
    before = torch.empty_like(match).scatter_(
        1, order, torch.cat([order[:, :1], order[:, :-1]], dim=1)
    )
    _collect[(count, batch)](
        grad,
        patches,
        generated,
        weights,
        hole,
        match,
        slopes,
        slopes.stride(0),
        flow,
        at_weight,
        before,
        users,
        first,
        result,
        count,
        size,
        COSINE=cosine,
        DETACH=detach_weights,
        BLOCK=block,
        num_warps=_parallel_warps(block),
    )
    return result


def _hole_order(hole: Tensor) -> tuple[Tensor, Tensor]:
    """Indices with the hole patches first, both in raster order (B, P), and their count (B,)."""
    return (~hole).to(torch.uint8).argsort(dim=1, stable=True), hole.sum(1)


def _warps(block: int) -> int:
    """For the recurrences: few, since a sum over several of them costs every step a barrier."""
    return min(16, max(1, block // 512))


def _parallel_warps(block: int) -> int:
    return max(4, _warps(block))


def _stages(block: int) -> int:
    """How many steps of a recurrence are in flight; what is loaded ahead has to fit on chip."""
    return 3 if block <= 2048 else 1


@triton.jit
def _scale_rows(
    patches,
    order,
    holes,
    rows,
    queries,
    scale,
    length,
    count,
    size,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Scale one patch, and keep the scale and the length that is left.

    ``UNIT`` divides the row by that length too. A hole patch becomes a column of ``queries`` (D, P)
    as well, by hole order.
    """
    sample = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0)
    row = sample * count + tl.load(order + sample * count + i)
    d = tl.arange(0, BLOCK)
    x = tl.load(patches + row * size + d, mask=d < size, other=0).to(tl.float32)
    x, row_scale, row_length = _scaled(x)
    if UNIT:
        x = tl.div_rn(x, tl.zeros_like(x) + row_length)
    x = x.to(rows.dtype.element_ty)
    tl.store(rows + row * size + d, x, mask=d < size)
    tl.store(scale + row, row_scale)
    tl.store(length + row, row_length)
    if i < tl.load(holes + sample):
        tl.store(queries + (sample * size + d) * count + i, x, mask=d < size)


@triton.jit
def _search(
    rows,
    queries,
    length,
    order,
    holes,
    match,
    count,
    size,
    UNIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TIE: tl.constexpr,
):
    """Best known patch of ``BLOCK_M`` hole patches of one sample.

    Keys are gathered as rows and queries read as columns, which leaves the float32 product few bank
    conflicts in shared memory.
    """
    sample = tl.program_id(1).to(tl.int64)
    hole_count = tl.load(holes + sample).to(tl.int32)
    start = tl.program_id(0) * BLOCK_M
    if start >= hole_count:
        return
    order += sample * count
    length += sample * count
    rows += sample * count * size
    queries += sample * count * size
    m = start + tl.arange(0, BLOCK_M)
    query = tl.load(order + m, mask=m < hole_count, other=0)
    tie = tl.full((BLOCK_M,), TIE, tl.float32)
    if not UNIT:  # then similarities are as many times larger as the query is longer
        tie *= tl.load(length + query)
    best = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    best_index = tl.zeros((BLOCK_M,), tl.int64) + tl.load(order + hole_count)
    for n_start in range(hole_count, count, BLOCK_N):
        n = n_start + tl.arange(0, BLOCK_N)
        key = tl.load(order + n, mask=n < count, other=0)
        similarity = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
        for d_start in range(0, size, BLOCK_D):
            d = d_start + tl.arange(0, BLOCK_D)
            k = tl.load(rows + key[:, None] * size + d[None, :], mask=d[None, :] < size, other=0)
            inside = (d[:, None] < size) & (m[None, :] < count)
            q = tl.load(queries + d[:, None] * count + m[None, :], mask=inside, other=0)
            similarity = tl.dot(k, q, similarity, input_precision="ieee")
        if not UNIT:
            key_length = tl.load(length + key)
            similarity = tl.div_rn(similarity, tl.zeros_like(similarity) + key_length[:, None])
        similarity = tl.where(n[:, None] < count, similarity, float("-inf"))
        value = tl.max(similarity, 0)
        # The first of equals, where rounding counts as equal: tile by tile, so that a chain of
        # near-ties over several tiles may end at another of them than in the PyTorch form.
        equal = similarity >= (value - tie)[None, :]
        position = tl.min(tl.where(equal, n[:, None], count - 1), 0)
        better = value > best + tie
        best_index = tl.where(better, tl.load(order + position), best_index)
        best = tl.where(better, value, best)
    tl.store(match + sample * count + query, best_index, mask=m < hole_count)


@triton.jit
def _similarity(
    rows,
    scale,
    length,
    order,
    holes,
    linked,
    match,
    best,
    d_max,
    reach,
    count,
    size,
    COSINE: tl.constexpr,
    GUARDED: tl.constexpr,
    UNIT: tl.constexpr,
    TIE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What the recurrence needs of one hole patch, by hole order: its match, and Dmax.

    And ``reach``, by which its scaled row becomes its direction, zero where it is not linked.
    """
    sample = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0)
    if i >= tl.load(holes + sample):
        return
    first = sample * count
    row = first + tl.load(order + first + i)
    best_index = tl.load(match + row)
    key = first + best_index
    d = tl.arange(0, BLOCK)
    m = tl.load(rows + row * size + d, mask=d < size, other=0).to(tl.float32)
    k = tl.load(rows + key * size + d, mask=d < size, other=0).to(tl.float32)
    similarity = tl.sum(m * k, 0)
    inverse = tl.full((), 1, tl.float32)
    if not UNIT:
        inverse = 1 / tl.load(length + row)
        similarity = similarity * inverse / tl.load(length + key)
    link = tl.load(linked + row)
    if GUARDED:  # nothing known resembles it: it takes its match alone; NaN stays
        link &= not (similarity <= TIE)
    if not COSINE:
        similarity *= tl.load(length + row) * tl.load(scale + row)
    tl.store(best + first + i, best_index)
    tl.store(d_max + first + i, similarity)
    tl.store(reach + first + i, tl.where(link, inverse, 0))


@triton.jit
def _recurrence(
    patches,
    rows,
    order,
    holes,
    best,
    d_max,
    reach,
    generated,
    weights,
    count,
    size,
    COSINE: tl.constexpr,
    GUARDED: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Generate the hole patches of one sample."""
    sample = tl.program_id(0).to(tl.int64)
    hole_count = tl.load(holes + sample).to(tl.int32)
    first = sample * count
    d = tl.arange(0, BLOCK)
    previous = tl.zeros((BLOCK,), tl.float32)
    for i in tl.range(0, hole_count, num_stages=STAGES):
        row = first + tl.load(order + first + i)
        key = first + tl.load(best + first + i)
        similarity = tl.load(d_max + first + i)
        to_unit = tl.load(reach + first + i)
        m = tl.load(rows + row * size + d, mask=d < size, other=0).to(tl.float32)
        k = tl.load(patches + key * size + d, mask=d < size, other=0).to(tl.float32)
        k *= 0.25  # the difference of two patches stays in range
        if COSINE:  # Dad / (Dad + Dmax), both sides times the length of m_{i-1}
            scaled, _, scaled_length = _scaled(previous)
            d_ad = to_unit * tl.sum(m * scaled, 0)
            similarity *= scaled_length
        else:
            d_ad = to_unit * tl.sum(m * (4 * previous), 0)
        if GUARDED:
            d_ad = tl.maximum(d_ad, 0.0, propagate_nan=tl.PropagateNan.ALL)
        link = to_unit > 0
        weight = tl.where(link, d_ad / tl.where(link, d_ad + similarity, 1), 0)
        previous = tl.where(link, previous, k)  # what is not finite ends with its run
        step = previous - k
        previous = tl.where(weight < 0.5, k + weight * step, previous - (1 - weight) * step)
        tl.store(generated + row * size + d, 4 * previous, mask=d < size)
        tl.store(weights + row, weight)


@triton.jit
def _slopes(
    patches,
    generated,
    order,
    holes,
    linked,
    match,
    slopes,
    stride,
    count,
    size,
    COSINE: tl.constexpr,
    GUARDED: tl.constexpr,
    TIE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Both similarities of one hole patch, the derivatives of its weight by them, and lengths.

    The seven of them describe how the weight depends on the hole patch m, its match k and the
    patch y generated before it; all are zero where it is not linked.
    """
    sample = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0)
    if (i >= tl.load(holes + sample)) | (i == 0):
        return
    first = sample * count
    row = first + tl.load(order + first + i)
    if not tl.load(linked + row):
        return
    before = first + tl.load(order + first + i - 1)
    best = first + tl.load(match + row)
    d = tl.arange(0, BLOCK)
    m = tl.load(patches + row * size + d, mask=d < size, other=0).to(tl.float32)
    k = tl.load(patches + best * size + d, mask=d < size, other=0).to(tl.float32)
    y = tl.load(generated + before * size + d, mask=d < size, other=0)
    m_unit, m_inverse = _unit(m)
    k_unit, k_inverse = _unit(k)
    y_unit, y_inverse = _unit(y)
    cosine_ad, cosine_max = tl.sum(m_unit * y_unit, 0), tl.sum(m_unit * k_unit, 0)
    if COSINE:
        d_ad, d_max = cosine_ad, cosine_max
    else:
        d_ad, d_max = tl.sum(m_unit * y, 0), tl.sum(m * k_unit, 0)
    rises = tl.full((), True, tl.int1)
    if GUARDED:
        if cosine_max <= TIE:
            return
        rises = not (cosine_ad <= TIE)
        d_ad = tl.maximum(d_ad, 0.0, propagate_nan=tl.PropagateNan.ALL)
    total = d_ad + d_max
    by_ad, by_max = tl.where(rises, d_max / total / total, 0), -d_ad / total / total
    tl.store(slopes + row, d_ad)
    tl.store(slopes + stride + row, d_max)
    tl.store(slopes + 2 * stride + row, by_ad)
    tl.store(slopes + 3 * stride + row, by_max)
    tl.store(slopes + 4 * stride + row, m_inverse)
    tl.store(slopes + 5 * stride + row, k_inverse)
    tl.store(slopes + 6 * stride + row, y_inverse)


@triton.jit
def _chain(
    grad,
    patches,
    generated,
    weights,
    order,
    holes,
    match,
    slopes,
    stride,
    flow,
    at_weight,
    count,
    size,
    COSINE: tl.constexpr,
    DETACH: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Step back through one sample: the gradient at each hole patch and at its weight."""
    sample = tl.program_id(0).to(tl.int64)
    hole_count = tl.load(holes + sample).to(tl.int32)
    if hole_count == 0:
        return
    first = sample * count
    d = tl.arange(0, BLOCK)
    last = first + tl.load(order + first + hole_count - 1)
    g = tl.load(grad + last * size + d, mask=d < size, other=0)
    for step in tl.range(1, hole_count, num_stages=STAGES):
        row = first + tl.load(order + first + hole_count - step)
        before = first + tl.load(order + first + hole_count - step - 1)
        weight = tl.load(weights + row)
        incoming = tl.load(grad + before * size + d, mask=d < size, other=0)
        tl.store(flow + row * size + d, g, mask=d < size)
        if DETACH:
            g = incoming + weight * g
        else:
            best = first + tl.load(match + row)
            d_ad = tl.load(slopes + row)
            by_ad = tl.load(slopes + 2 * stride + row)
            m_inverse = tl.load(slopes + 4 * stride + row)
            y_inverse = tl.load(slopes + 6 * stride + row)
            m = tl.load(patches + row * size + d, mask=d < size, other=0).to(tl.float32)
            k = tl.load(patches + best * size + d, mask=d < size, other=0).to(tl.float32)
            y = tl.load(generated + before * size + d, mask=d < size, other=0)
            by_previous = by_ad * (m * m_inverse)
            if COSINE:
                by_previous = by_ad * (m * m_inverse - d_ad * (y * y_inverse)) * y_inverse
            s = tl.sum(g * (y - k), 0)
            tl.store(at_weight + row, s)
            g = incoming + weight * g + s * by_previous
    earliest = first + tl.load(order + first)
    tl.store(flow + earliest * size + d, g, mask=d < size)


@triton.jit
def _collect(
    grad,
    patches,
    generated,
    weights,
    hole,
    match,
    slopes,
    stride,
    flow,
    at_weight,
    before,
    users,
    first_user,
    result,
    count,
    size,
    COSINE: tl.constexpr,
    DETACH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradient of one patch, from its own role and from every patch it is the match of."""
    sample = tl.program_id(1).to(tl.int64)
    first = sample * count
    row = first + tl.program_id(0)
    d = tl.arange(0, BLOCK)
    x = tl.load(patches + row * size + d, mask=d < size, other=0).to(tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    if tl.load(hole + row):
        if not DETACH:
            y_row = first + tl.load(before + row)
            best = first + tl.load(match + row)
            y = tl.load(generated + y_row * size + d, mask=d < size, other=0)
            k = tl.load(patches + best * size + d, mask=d < size, other=0).to(tl.float32)
            d_ad = tl.load(slopes + row)
            d_max = tl.load(slopes + stride + row)
            by_ad = tl.load(slopes + 2 * stride + row)
            by_max = tl.load(slopes + 3 * stride + row)
            inverse = tl.load(slopes + 4 * stride + row)
            k_unit = k * tl.load(slopes + 5 * stride + row)
            if COSINE:
                y_unit = y * tl.load(slopes + 6 * stride + row)
                along = (by_ad * d_ad + by_max * d_max) * (x * inverse)
                by_original = inverse * (by_ad * y_unit + by_max * k_unit - along)
            else:
                by_original = by_ad * (inverse * (y - d_ad * (x * inverse))) + by_max * k_unit
            total = tl.load(at_weight + row) * by_original
    else:
        total = tl.load(grad + row * size + d, mask=d < size, other=0)
        user_base = sample * (count + 1) + tl.program_id(0)
        for j in range(tl.load(first_user + user_base), tl.load(first_user + user_base + 1)):
            user = first + tl.load(users + first + j)
            if tl.load(hole + user):
                g = tl.load(flow + user * size + d, mask=d < size, other=0)
                total += (1 - tl.load(weights + user)) * g
                if not DETACH:
                    m = tl.load(patches + user * size + d, mask=d < size, other=0).to(tl.float32)
                    d_max = tl.load(slopes + stride + user)
                    by_max = tl.load(slopes + 3 * stride + user)
                    inverse = tl.load(slopes + 5 * stride + user)
                    if COSINE:
                        m *= tl.load(slopes + 4 * stride + user)
                    by_match = by_max * (inverse * (m - d_max * (x * inverse)))
                    total += tl.load(at_weight + user) * by_match
    tl.store(result + row * size + d, total.to(result.dtype.element_ty), mask=d < size)


@triton.jit
def _scaled(x):
    """Divide x by a power of two next to its largest entry; the scale, and the length then.

    That length is one for zero; no square leaves the range.
    """
    largest = tl.minimum(tl.maximum(tl.max(tl.abs(x), 0), 2.0**-125), 2.0**126)
    exponent = largest.to(tl.int32, bitcast=True) & 0x7F800000
    scale = exponent.to(tl.float32, bitcast=True)
    x *= (0x7F000000 - exponent).to(tl.float32, bitcast=True)  # 1 / scale, exactly
    length = tl.sqrt_rn(tl.sum(x * x, 0))
    return x, scale, tl.where(length > 0, length, 1)


@triton.jit
def _unit(x):
    """The direction of x and the inverse of its length, both zero for zero."""
    x, scale, length = _scaled(x)
    is_zero = tl.max(tl.abs(x), 0) == 0
    return x / length, tl.where(is_zero, 0, 1 / length / scale)
