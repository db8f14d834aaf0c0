"""Published figures, to stand beside scores that were measured by the same protocol."""

from typing import NamedTuple

PUBLISHED_SCORES = ("l1", "l2", "psnr", "ssim")


class Figure(NamedTuple):
    """A row of a published table; L1 and L2 are per cent of the full range."""

    holes: str | None  # the bin of the hole's ratio, None for all
    method: str
    l1: float
    l2: float
    psnr: float
    ssim: float


# Liu et al. (ICCV 2019), Tables 1 and 2: CelebA, 500 random pictures. The paper does not say
# whether its figures are of raw or of composited results.
SOURCE = "Liu et al. (ICCV 2019), CelebA, 500 random pictures"
PUBLISHED: dict[str, tuple[Figure, ...]] = {
    "celeba_center": (
        Figure(None, "CA (contextual attention)", 2.64, 0.47, 23.93, 0.882),
        Figure(None, "SH (Shift-Net)", 1.97, 0.28, 26.38, 0.926),
        Figure(None, "CSA", 1.83, 0.27, 26.54, 0.931),
    ),
    "celeba_irregular": (
        Figure("(0.1, 0.2]", "PC (partial convolution)", 1.00, 0.12, 31.13, 0.970),
        Figure("(0.1, 0.2]", "GC (gated convolution)", 1.00, 0.08, 31.67, 0.977),
        Figure("(0.1, 0.2]", "CSA", 0.72, 0.04, 34.69, 0.989),
        Figure("(0.2, 0.3]", "PC (partial convolution)", 1.46, 0.19, 29.10, 0.956),
        Figure("(0.2, 0.3]", "GC (gated convolution)", 1.40, 0.12, 29.83, 0.964),
        Figure("(0.2, 0.3]", "CSA", 0.94, 0.07, 32.58, 0.982),
        Figure("(0.3, 0.4]", "PC (partial convolution)", 2.97, 0.58, 23.46, 0.897),
        Figure("(0.3, 0.4]", "GC (gated convolution)", 2.62, 0.44, 24.48, 0.910),
        Figure("(0.3, 0.4]", "CSA", 2.18, 0.37, 25.32, 0.926),
        Figure("(0.4, 0.5]", "PC (partial convolution)", 4.01, 0.76, 22.11, 0.839),
        Figure("(0.4, 0.5]", "GC (gated convolution)", 3.26, 0.50, 23.36, 0.860),
        Figure("(0.4, 0.5]", "CSA", 2.85, 0.44, 24.14, 0.883),
    ),
}
