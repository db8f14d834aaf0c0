"""The forward kernels: scale → search → similarities → recurrence."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, misc"

import torch
import triton
import triton.language as tl
from torch import Tensor

from csa_inpaint.csa.kernels.common import (
    TIE,
    holes_first,
    load_patch,
    per_patch,
    per_sample,
    scale_down,
    store_patch,
)


def attend(
    patches: Tensor, hole: Tensor, linked: Tensor, cosine: bool, guarded: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Triton form of ``attend``: no similarity matrix, a running best per hole patch.

    The tensor cores multiply 16-bit patches as they are. The products are exact in the float32
    accumulator, and the kernel divides each sum by the length of the known patch. float32 patches
    become unit vectors first, and the kernel multiplies them in full float32 ("ieee"), because TF32
    would change which patch is the best.
    """
    patches = patches.contiguous()
    batch, count, size = patches.shape
    unit = patches.dtype == torch.float32
    order, hole_counts = holes_first(hole)
    options = {"COSINE": cosine, "GUARDED": guarded}

    scaled, queries = torch.empty_like(patches), patches.new_empty(batch, size, count)
    scales, lengths = patches.new_empty(2, batch, count, dtype=torch.float32)
    _scale[count, batch](
        patches, order, hole_counts, scaled, queries, scales, lengths, UNIT=unit,
        **per_patch(count, size),
    )  # fmt: skip

    match = torch.arange(count, device=hole.device).repeat(batch, 1)
    tile = search_tile(unit)
    _search[triton.cdiv(count, tile["BLOCK_M"]), batch](
        scaled, queries, lengths, order, hole_counts, match, count, size, UNIT=unit, **tile
    )

    ordered_match = torch.empty_like(match)
    d_max, to_unit = scales.new_empty(2, batch, count)
    _similarity[count, batch](
        scaled, scales, lengths, order, hole_counts, linked, match, ordered_match, d_max, to_unit,
        UNIT=unit, **options, **per_patch(count, size),
    )  # fmt: skip

    generated = patches.to(torch.float32, copy=True)
    weights = torch.zeros_like(scales)
    _recurrence[(batch,)](
        patches, scaled, order, hole_counts, ordered_match, d_max, to_unit, generated, weights,
        **options, **per_sample(count, size),
    )  # fmt: skip
    return generated, match, weights


def search_tile(unit: bool) -> dict[str, int]:
    """Tile of ``_search``: hole patches, known patches, and entries of a patch read at once.

    A program takes few hole patches, so that a single small map fills many programs.
    """
    return {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_D": 32 if unit else 64}


@triton.jit
def _scale(
    p_patches, p_order, p_hole_count, p_scaled, p_queries, p_scale, p_length,
    count, size, UNIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Scale one patch down, and store the scale and the length of the scaled patch.

    ``UNIT`` also divides the patch by that length. A hole patch is stored a second time, as a
    column of the queries (D, P), in the order of the hole patches.
    """
    sample = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0)
    base = sample * count
    row = base + tl.load(p_order + base + i)
    b_scaled, scale, length = scale_down(load_patch(p_patches, row, size, BLOCK))
    if UNIT:
        b_scaled = tl.div_rn(b_scaled, tl.zeros_like(b_scaled) + length)
    b_scaled = b_scaled.to(p_scaled.dtype.element_ty)
    store_patch(p_scaled, row, size, b_scaled)
    tl.store(p_scale + row, scale)
    tl.store(p_length + row, length)
    if i < tl.load(p_hole_count + sample):
        o_d = tl.arange(0, BLOCK)
        tl.store(p_queries + (sample * size + o_d) * count + i, b_scaled, mask=o_d < size)


@triton.jit
def _search(
    p_scaled, p_queries, p_length, p_order, p_hole_count, p_match,
    count, size, UNIT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Find the best known patch of ``BLOCK_M`` hole patches of one sample.

    The program gathers keys as rows and reads queries as columns. The float32 product then has few
    bank conflicts in shared memory.
    """
    sample = tl.program_id(1).to(tl.int64)
    hole_count = tl.load(p_hole_count + sample).to(tl.int32)
    start = tl.program_id(0) * BLOCK_M
    if start >= hole_count:
        return
    # From here on the addresses are those of the sample.
    p_order += sample * count
    p_length += sample * count
    p_match += sample * count
    p_scaled += sample * count * size
    p_queries += sample * count * size
    o_m = start + tl.arange(0, BLOCK_M)
    b_query = tl.load(p_order + o_m, mask=o_m < hole_count, other=0)
    b_tie = tl.full((BLOCK_M,), TIE, tl.float32)
    if not UNIT:  # The similarities have the length of the query as a factor.
        b_tie *= tl.load(p_length + b_query)
    b_best = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    b_match = tl.zeros((BLOCK_M,), tl.int64) + tl.load(p_order + hole_count)
    for n_start in range(hole_count, count, BLOCK_N):
        o_n = n_start + tl.arange(0, BLOCK_N)
        b_key = tl.load(p_order + o_n, mask=o_n < count, other=0)
        b_similarity = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
        for d_start in range(0, size, BLOCK_D):
            o_d = d_start + tl.arange(0, BLOCK_D)
            p_k = p_scaled + b_key[:, None] * size + o_d[None, :]
            b_k = tl.load(p_k, mask=o_d[None, :] < size, other=0)
            p_m = p_queries + o_d[:, None] * count + o_m[None, :]
            b_m = tl.load(p_m, mask=(o_d[:, None] < size) & (o_m[None, :] < count), other=0)
            b_similarity = tl.dot(b_k, b_m, b_similarity, input_precision="ieee")
        if not UNIT:
            b_length = tl.load(p_length + b_key)
            b_similarity = tl.div_rn(b_similarity, tl.zeros_like(b_similarity) + b_length[:, None])
        b_similarity = tl.where(o_n[:, None] < count, b_similarity, float("-inf"))
        b_largest = tl.max(b_similarity, 0)
        # Similarities that differ by rounding alone are equal, and the first one wins. The kernel
        # decides this tile by tile. In a chain of near-ties over several tiles, another patch may
        # win than in the PyTorch form.
        b_is_equal = b_similarity >= (b_largest - b_tie)[None, :]
        o_first = tl.min(tl.where(b_is_equal, o_n[:, None], count - 1), 0)
        b_is_better = b_largest > b_best + b_tie
        b_match = tl.where(b_is_better, tl.load(p_order + o_first), b_match)
        b_best = tl.where(b_is_better, b_largest, b_best)
    tl.store(p_match + b_query, b_match, mask=o_m < hole_count)


@triton.jit
def _similarity(
    p_scaled, p_scale, p_length, p_order, p_hole_count, p_linked, p_match,
    p_ordered_match, p_d_max, p_to_unit,
    count, size, COSINE: tl.constexpr, GUARDED: tl.constexpr, UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Prepare one step of the recurrence, and store the values in the order of the hole patches.

    A step needs the match, Dmax, and the factor ``to_unit`` that makes the scaled hole patch a unit
    vector. The factor is zero where the hole patch is not linked.
    """
    sample = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0)
    if i >= tl.load(p_hole_count + sample):
        return
    base = sample * count
    row_m = base + tl.load(p_order + base + i)
    match = tl.load(p_match + row_m)
    row_k = base + match
    b_m = load_patch(p_scaled, row_m, size, BLOCK)
    b_k = load_patch(p_scaled, row_k, size, BLOCK)
    cosine_max = tl.sum(b_m * b_k, 0)
    to_unit = tl.full((), 1, tl.float32)
    if not UNIT:
        to_unit = 1 / tl.load(p_length + row_m)
        cosine_max = cosine_max * to_unit / tl.load(p_length + row_k)
    is_linked = tl.load(p_linked + row_m)
    if GUARDED:  # A hole patch that resembles no known patch takes its match alone. NaN stays NaN.
        is_linked &= not (cosine_max <= TIE)
    d_max = cosine_max
    if not COSINE:
        d_max *= tl.load(p_length + row_m) * tl.load(p_scale + row_m)
    tl.store(p_ordered_match + base + i, match)
    tl.store(p_d_max + base + i, d_max)
    tl.store(p_to_unit + base + i, tl.where(is_linked, to_unit, 0))


@triton.jit
def _recurrence(
    p_patches, p_scaled, p_order, p_hole_count, p_ordered_match, p_d_max, p_to_unit,
    p_generated, p_weights,
    count, size, COSINE: tl.constexpr, GUARDED: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Generate the hole patches of one sample, one after the other.

    The match and the generated patch are held as quarters: the difference of two quarters stays in
    the range of float32.
    """
    sample = tl.program_id(0).to(tl.int64)
    hole_count = tl.load(p_hole_count + sample).to(tl.int32)
    base = sample * count
    b_quarter_y = tl.zeros((BLOCK,), tl.float32)
    for i in tl.range(0, hole_count, num_stages=STAGES):
        row_m = base + tl.load(p_order + base + i)
        row_k = base + tl.load(p_ordered_match + base + i)
        d_max = tl.load(p_d_max + base + i)
        to_unit = tl.load(p_to_unit + base + i)
        b_m = load_patch(p_scaled, row_m, size, BLOCK)
        b_quarter_k = 0.25 * load_patch(p_patches, row_k, size, BLOCK)
        if COSINE:  # Dad / (Dad + Dmax) with the length of y as a factor of both similarities
            b_y, _, y_length = scale_down(b_quarter_y)
            d_max *= y_length
        else:
            b_y = 4 * b_quarter_y
        d_ad = to_unit * tl.sum(b_m * b_y, 0)
        if GUARDED:
            d_ad = tl.maximum(d_ad, 0.0, propagate_nan=tl.PropagateNan.ALL)
        is_linked = to_unit > 0
        weight = tl.where(is_linked, d_ad / tl.where(is_linked, d_ad + d_max, 1), 0)
        # A patch that is not linked starts from its match, so NaN and infinity end with their run.
        b_quarter_y = tl.where(is_linked, b_quarter_y, b_quarter_k)
        b_step = b_quarter_y - b_quarter_k
        b_quarter_y = tl.where(
            weight < 0.5, b_quarter_k + weight * b_step, b_quarter_y - (1 - weight) * b_step
        )
        store_patch(p_generated, row_m, size, 4 * b_quarter_y)
        tl.store(p_weights + row_m, weight)
