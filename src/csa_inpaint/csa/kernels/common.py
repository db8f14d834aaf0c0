"""What the kernels share: the order of the patches, launch arguments, patches in memory, scaling.

Names have one meaning in all kernels:

- ``p_`` starts the name of an address, ``b_`` the name of a block of numbers: a patch or a tile.
- ``o_`` starts the name of a block of offsets. ``i`` is a place in the order of the hole patches.
- ``m`` is a hole patch as it was given, ``k`` its match, ``y`` the patch generated before it.
- ``by_`` starts the name of a derivative of the weight of a hole patch: ``b_by_y`` is the one by y.
- ``count`` is the number of patches in a sample (P), ``size`` the number of entries in a patch (D).
- Tensors (B, P, …) are addressed as (B·P, …): ``row`` is an index into these rows, and ``base`` is
  the row of a sample's first patch.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, misc"

import torch
import triton
import triton.language as tl
from torch import Tensor

from csa_inpaint.csa.search import rounding

TIE = tl.constexpr(rounding(torch.float32))


def holes_first(hole: Tensor) -> tuple[Tensor, Tensor]:
    """Put the hole patches of each sample first, without waiting for the device.

    Returns:
        The indices of the hole patches and then of the known ones, each group in raster order
        (B, P), and the number of hole patches (B,).
    """
    return (~hole).to(torch.uint8).argsort(dim=1, stable=True), hole.sum(1)


def per_patch(count: int, size: int) -> dict[str, int]:
    """Launch arguments of a kernel that runs one program per patch."""
    block = triton.next_power_of_2(size)
    return {"count": count, "size": size, "BLOCK": block, "num_warps": max(4, _warps(block))}


def per_sample(count: int, size: int) -> dict[str, int]:
    """Launch arguments of a recurrence, which runs one program per sample.

    ``STAGES`` steps are in flight at once, and the patches of these steps have to fit on chip.
    """
    block = triton.next_power_of_2(size)
    stages = 3 if block <= 2048 else 1
    return {**per_patch(count, size), "STAGES": stages, "num_warps": _warps(block)}


def _warps(block: int) -> int:
    """Few warps, because a sum over several warps costs each step of a recurrence a barrier."""
    return min(16, max(1, block // 512))


@triton.jit
def load_patch(p_patches, row, size, BLOCK: tl.constexpr):
    """Read one patch as float32, with zeros from ``size`` to ``BLOCK``."""
    o_d = tl.arange(0, BLOCK)
    return tl.load(p_patches + row * size + o_d, mask=o_d < size, other=0).to(tl.float32)


@triton.jit
def store_patch(p_patches, row, size, b_patch):
    """Write one patch in the dtype of the address."""
    o_d = tl.arange(0, b_patch.shape[0])
    tl.store(p_patches + row * size + o_d, b_patch, mask=o_d < size)


@triton.jit
def scale_down(b_patch):
    """Divide a patch by a power of two near its largest entry, so that no square leaves float32.

    Returns the scaled patch, the power of two, and the length of the scaled patch. A zero patch
    gets the length one.
    """
    largest = tl.minimum(tl.maximum(tl.max(tl.abs(b_patch), 0), 2.0**-125), 2.0**126)
    exponent = largest.to(tl.int32, bitcast=True) & 0x7F800000
    scale = exponent.to(tl.float32, bitcast=True)
    b_patch *= (0x7F000000 - exponent).to(tl.float32, bitcast=True)  # 1 / scale, exactly
    length = tl.sqrt_rn(tl.sum(b_patch * b_patch, 0))
    return b_patch, scale, tl.where(length > 0, length, 1)


@triton.jit
def direction(b_patch):
    """Divide a patch by its length.

    Returns the direction and the inverse of the length. Both are zero for a zero patch.
    """
    b_scaled, scale, length = scale_down(b_patch)
    is_zero = tl.max(tl.abs(b_scaled), 0) == 0
    return b_scaled / length, tl.where(is_zero, 0, 1 / length / scale)
