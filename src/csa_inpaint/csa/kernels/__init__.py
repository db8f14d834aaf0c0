"""Triton kernels of search and propagate, for float16, bfloat16 and float32 on CUDA.

The kernels never wait for the device. A stable sort puts the hole patches of each sample first, and
the kernels read the number of hole patches from device memory. No kernel adds atomically, so
results are deterministic. The two recurrences run one program per sample. The program loads patches
of up to 2048 numbers two steps ahead.

The kernels divide each patch by a power of two before they square it. Every finite input then stays
finite. The division is exact, except for entries that underflow: such an entry is too small beside
the largest entry of the patch to change the result.
"""

from csa_inpaint.csa.kernels.backward import attend_backward
from csa_inpaint.csa.kernels.forward import attend

__all__ = ["attend", "attend_backward"]
