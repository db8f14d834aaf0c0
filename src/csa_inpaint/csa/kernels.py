"""Triton kernels of search and propagate, chosen on CUDA for float16, bfloat16 and float32.

Nothing here waits for the device: the hole patches of each sample are put first by a stable sort,
and the kernels read their count. Nothing adds atomically, so results are deterministic.

Rows of patches are scaled by powers of two before they are squared, which rounds nothing and keeps
every finite input finite.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, misc"

import torch
import triton
import triton.language as tl
from torch import Tensor


def search(patches: Tensor, hole: Tensor) -> Tensor:
    """Triton form of ``search``: no similarity matrix, a running best per query.

    16-bit patches go to the tensor cores as they are: their products are exact in the float32
    accumulator, and the length of the key divides the sum. float32 patches are made unit vectors
    and multiplied in full float32 ("ieee"); TF32 would change which patch is the best.
    """
    patches = patches.contiguous()
    batch, count, size = patches.shape
    order, holes = _hole_order(hole)
    rows, norm = torch.empty_like(patches), torch.empty_like(hole, dtype=torch.float32)
    block = triton.next_power_of_2(size)
    is_half = patches.dtype != torch.float32
    _scale_rows[(count, batch)](
        patches, _row_scale(patches), rows, norm, count, size, UNIT=not is_half, BLOCK=block
    )
    match = torch.arange(count, device=hole.device).repeat(batch, 1)
    tile = (64, 64, 64) if is_half else (64, 64, 32)
    _search[(triton.cdiv(count, tile[0]), batch)](
        rows,
        norm,
        order,
        holes,
        match,
        count,
        size,
        BLOCK_M=tile[0],
        BLOCK_N=tile[1],
        BLOCK_D=tile[2],
        TIE=4 * torch.finfo(torch.float32).eps,
        num_warps=4,
    )
    return match


def propagate(
    patches: Tensor, hole: Tensor, linked: Tensor, match: Tensor, cosine: bool, guarded: bool
) -> tuple[Tensor, Tensor]:
    """Triton form of ``propagate``: one program per sample, the previous patch in registers."""
    patches = patches.contiguous()
    batch, count, size = patches.shape
    order, holes = _hole_order(hole)
    scale = _row_scale(patches)
    inverse_norm, d_max = torch.zeros_like(scale), torch.zeros_like(scale)
    block = triton.next_power_of_2(size)
    _similarity[(count, batch)](
        patches,
        scale,
        order,
        holes,
        match,
        inverse_norm,
        d_max,
        count,
        size,
        COSINE=cosine,
        GUARDED=guarded,
        BLOCK=block,
    )
    generated = patches.to(torch.float32, copy=True)
    weights = torch.zeros_like(scale)
    sample_scale = scale.amax(1) if cosine else torch.ones_like(scale[:, 0])
    _recurrence[(batch,)](
        patches,
        scale,
        sample_scale,
        order,
        holes,
        linked.contiguous(),
        match,
        inverse_norm,
        d_max,
        generated,
        weights,
        count,
        size,
        COSINE=cosine,
        GUARDED=guarded,
        BLOCK=block,
        num_warps=_warps(block),
    )
    return generated, weights


def propagate_backward(
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
    hole = hole.contiguous()
    batch, count, size = patches.shape
    order, holes = _hole_order(hole)
    block = triton.next_power_of_2(size)
    slopes = weights.new_zeros(5, batch, count)
    if not detach_weights:
        _slopes[(count, batch)](
            patches,
            generated,
            order,
            holes,
            linked.contiguous(),
            match,
            slopes,
            slopes.stride(0),
            count,
            size,
            COSINE=cosine,
            GUARDED=guarded,
            BLOCK=block,
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
        BLOCK=block,
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
        BLOCK=block,
    )
    return result


def _hole_order(hole: Tensor) -> tuple[Tensor, Tensor]:
    """Indices with the hole patches first, both in raster order (B, P), and their count (B,)."""
    return (~hole).to(torch.uint8).argsort(dim=1, stable=True), hole.sum(1)


def _row_scale(patches: Tensor) -> Tensor:
    """A power of two next to each patch's largest entry (B, P), itself and its inverse normal."""
    largest = torch.linalg.vector_norm(patches, float("inf"), dim=2).float()
    exponent = torch.frexp(largest.clamp(2.0**-125, 2.0**126)).exponent - 1
    return torch.pow(torch.full_like(largest, 2), exponent)


def _warps(block: int) -> int:
    return min(16, max(1, block // 256))


@triton.jit
def _scale_rows(patches, scale, rows, norm, count, size, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """Scale one patch; ``UNIT`` divides by its length, otherwise that is kept in ``norm``."""
    row = tl.program_id(1).to(tl.int64) * count + tl.program_id(0)
    d = tl.arange(0, BLOCK)
    x = tl.load(patches + row * size + d, mask=d < size, other=0).to(tl.float32)
    x *= 1 / tl.load(scale + row)
    length = tl.sqrt_rn(tl.sum(x * x, 0))
    length = tl.where(length > 0, length, 1)
    if UNIT:
        x = tl.div_rn(x, tl.zeros_like(x) + length)
        length = tl.full((), 1, tl.float32)
    tl.store(rows + row * size + d, x.to(rows.dtype.element_ty), mask=d < size)
    tl.store(norm + row, length)


@triton.jit
def _search(
    rows,
    norm,
    order,
    holes,
    match,
    count,
    size,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TIE: tl.constexpr,
):
    """Best known patch of ``BLOCK_M`` hole patches of one sample."""
    sample = tl.program_id(1).to(tl.int64)
    hole_count = tl.load(holes + sample).to(tl.int32)
    start = tl.program_id(0) * BLOCK_M
    if start >= hole_count:
        return
    order += sample * count
    rows += sample * count * size
    m = start + tl.arange(0, BLOCK_M)
    query = tl.load(order + m, mask=m < hole_count, other=0)
    best = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    best_index = tl.zeros((BLOCK_M,), tl.int64) + tl.load(order + hole_count)
    for n_start in range(hole_count, count, BLOCK_N):
        n = n_start + tl.arange(0, BLOCK_N)
        key = tl.load(order + n, mask=n < count, other=0)
        similarity = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for d_start in range(0, size, BLOCK_D):
            d = d_start + tl.arange(0, BLOCK_D)
            q = tl.load(rows + query[:, None] * size + d[None, :], mask=d[None, :] < size, other=0)
            k = tl.load(rows + key[None, :] * size + d[:, None], mask=d[:, None] < size, other=0)
            similarity = tl.dot(q, k, similarity, input_precision="ieee")
        length = tl.load(norm + sample * count + key)
        similarity = tl.div_rn(similarity, tl.zeros_like(similarity) + length[None, :])
        similarity = tl.where(n[None, :] < count, similarity, float("-inf"))
        value = tl.max(similarity, 1)
        # the first of equals, where rounding counts as equal, as in the PyTorch form
        equal = similarity >= value[:, None] - TIE
        position = tl.min(tl.where(equal, n[None, :], count - 1), 1)
        better = value > best + TIE
        best_index = tl.where(better, tl.load(order + position), best_index)
        best = tl.where(better, value, best)
    tl.store(match + sample * count + query, best_index, mask=m < hole_count)


@triton.jit
def _similarity(
    patches,
    scale,
    order,
    holes,
    match,
    inverse_norm,
    d_max,
    count,
    size,
    COSINE: tl.constexpr,
    GUARDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Dmax of one hole patch, and the inverse length of its scaled row; both by hole order."""
    sample = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0)
    if i >= tl.load(holes + sample):
        return
    row = sample * count + tl.load(order + sample * count + i)
    best = sample * count + tl.load(match + row)
    d = tl.arange(0, BLOCK)
    row_scale = tl.load(scale + row)
    m = tl.load(patches + row * size + d, mask=d < size, other=0).to(tl.float32) * (1 / row_scale)
    k = tl.load(patches + best * size + d, mask=d < size, other=0).to(tl.float32)
    k *= 1 / tl.load(scale + best)
    m_inverse = _inverse(tl.sqrt(tl.sum(m * m, 0)))
    k_inverse = _inverse(tl.sqrt(tl.sum(k * k, 0)))
    similarity = tl.sum(m * k, 0) * k_inverse
    if COSINE:
        similarity *= m_inverse
    else:
        similarity *= row_scale
    if GUARDED:
        similarity = tl.maximum(similarity, 0)
    tl.store(inverse_norm + sample * count + i, m_inverse)
    tl.store(d_max + sample * count + i, similarity)


@triton.jit
def _recurrence(
    patches,
    scale,
    sample_scale,
    order,
    holes,
    linked,
    match,
    inverse_norm,
    d_max,
    generated,
    weights,
    count,
    size,
    COSINE: tl.constexpr,
    GUARDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Generate the hole patches of one sample."""
    sample = tl.program_id(0).to(tl.int64)
    hole_count = tl.load(holes + sample).to(tl.int32)
    first = sample * count
    d = tl.arange(0, BLOCK)
    unscale = tl.load(sample_scale + sample)
    previous = tl.zeros((BLOCK,), tl.float32)
    for i in range(0, hole_count):
        row = first + tl.load(order + first + i)
        best = first + tl.load(match + row)
        m = tl.load(patches + row * size + d, mask=d < size, other=0).to(tl.float32)
        k = tl.load(patches + best * size + d, mask=d < size, other=0).to(tl.float32)
        k *= 1 / unscale
        unit = m * (1 / tl.load(scale + row)) * tl.load(inverse_norm + first + i)
        similarity = tl.load(d_max + first + i)
        d_ad = tl.sum(unit * previous, 0)
        if GUARDED:
            d_ad = tl.maximum(d_ad, 0)
        if COSINE:  # both sides times ‖m_{i-1}‖
            similarity *= tl.sqrt(tl.sum(previous * previous, 0))
        total = d_ad + similarity
        link = tl.load(linked + row)
        if GUARDED:  # a zero sum falls back to the match
            link &= total > 0
        weight = tl.where(link, d_ad / tl.where(link, total, 1), 0)
        step = previous - k
        previous = tl.where(weight < 0.5, k + weight * step, previous - (1 - weight) * step)
        tl.store(generated + row * size + d, previous * unscale, mask=d < size)
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
    BLOCK: tl.constexpr,
):
    """Derivatives of one weight w, as coefficients of the three patches it depends on.

    With m the hole patch, k its match and y the patch generated before it:
    ∂w/∂y = a·m + b·y, ∂w/∂m = a·y + c·k + e·m, ∂w/∂k = c·m + f·k.
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
    m_inverse = _inverse(tl.sqrt(tl.sum(m * m, 0)))
    k_inverse = _inverse(tl.sqrt(tl.sum(k * k, 0)))
    if COSINE:
        y_inverse = _inverse(tl.sqrt(tl.sum(y * y, 0)))
        d_ad = tl.sum((m * m_inverse) * (y * y_inverse), 0)
        d_max = tl.sum((m * m_inverse) * (k * k_inverse), 0)
    else:
        d_ad = tl.sum((m * m_inverse) * y, 0)
        d_max = tl.sum(m * (k * k_inverse), 0)
    if GUARDED:
        ad, most = tl.maximum(d_ad, 0), tl.maximum(d_max, 0)
        total = ad + most
        square = tl.where(total > 0, total * total, 1)
        by_ad = tl.where((total > 0) & (d_ad >= 0), most / square, 0)
        by_max = tl.where((total > 0) & (d_max >= 0), -ad / square, 0)
    else:
        square = (d_ad + d_max) * (d_ad + d_max)
        by_ad, by_max = d_max / square, -d_ad / square
    if COSINE:
        a = by_ad * m_inverse * y_inverse
        b = -by_ad * d_ad * y_inverse * y_inverse
        c = by_max * m_inverse * k_inverse
        e = -(by_ad * d_ad + by_max * d_max) * m_inverse * m_inverse
        f = -by_max * d_max * k_inverse * k_inverse
    else:
        a = by_ad * m_inverse
        b = 0.0
        c = by_max * k_inverse
        e = -by_ad * d_ad * m_inverse * m_inverse
        f = -by_max * d_max * k_inverse * k_inverse
    tl.store(slopes + row, a)
    tl.store(slopes + stride + row, b)
    tl.store(slopes + 2 * stride + row, c)
    tl.store(slopes + 3 * stride + row, e)
    tl.store(slopes + 4 * stride + row, f)


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
    BLOCK: tl.constexpr,
):
    """Step back through one sample: the gradient at each hole patch and at its weight."""
    sample = tl.program_id(0).to(tl.int64)
    hole_count = tl.load(holes + sample).to(tl.int32)
    if hole_count == 0:
        return
    first = sample * count
    d = tl.arange(0, BLOCK)
    row = first + tl.load(order + first + hole_count - 1)
    g = tl.load(grad + row * size + d, mask=d < size, other=0)
    for step in range(1, hole_count):
        before = first + tl.load(order + first + hole_count - 1 - step)
        best = first + tl.load(match + row)
        m = tl.load(patches + row * size + d, mask=d < size, other=0).to(tl.float32)
        k = tl.load(patches + best * size + d, mask=d < size, other=0).to(tl.float32)
        y = tl.load(generated + before * size + d, mask=d < size, other=0)
        incoming = tl.load(grad + before * size + d, mask=d < size, other=0)
        weight = tl.load(weights + row)
        a = tl.load(slopes + row)
        b = tl.load(slopes + stride + row)
        s = tl.sum(g * (y - k), 0)
        tl.store(flow + row * size + d, g, mask=d < size)
        tl.store(at_weight + row, s)
        g = incoming + weight * g + s * (a * m + b * y)
        row = before
    tl.store(flow + row * size + d, g, mask=d < size)


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
    BLOCK: tl.constexpr,
):
    """The gradient of one patch, from its own role and from every patch it is the match of."""
    sample = tl.program_id(1).to(tl.int64)
    first = sample * count
    row = first + tl.program_id(0)
    d = tl.arange(0, BLOCK)
    x = tl.load(patches + row * size + d, mask=d < size, other=0).to(tl.float32)
    if tl.load(hole + row):
        y_row = first + tl.load(before + row)
        best = first + tl.load(match + row)
        y = tl.load(generated + y_row * size + d, mask=d < size, other=0)
        k = tl.load(patches + best * size + d, mask=d < size, other=0).to(tl.float32)
        a = tl.load(slopes + row)
        c = tl.load(slopes + 2 * stride + row)
        e = tl.load(slopes + 3 * stride + row)
        total = tl.load(at_weight + row) * (a * y + c * k + e * x)
    else:
        total = tl.load(grad + row * size + d, mask=d < size, other=0)
        user_base = sample * (count + 1) + tl.program_id(0)
        for j in range(tl.load(first_user + user_base), tl.load(first_user + user_base + 1)):
            user = first + tl.load(users + first + j)
            if tl.load(hole + user):
                g = tl.load(flow + user * size + d, mask=d < size, other=0)
                m = tl.load(patches + user * size + d, mask=d < size, other=0).to(tl.float32)
                c = tl.load(slopes + 2 * stride + user)
                f = tl.load(slopes + 4 * stride + user)
                s = tl.load(at_weight + user)
                total += (1 - tl.load(weights + user)) * g + s * (c * m + f * x)
    tl.store(result + row * size + d, total.to(result.dtype.element_ty), mask=d < size)


@triton.jit
def _inverse(norm):
    """1 / norm, and zero for a zero patch."""
    return tl.where(norm > 0, 1 / tl.where(norm > 0, norm, 1), 0)
