"""Reconstruction loss (paper, Sec. 3.3), and its forms over a region."""

from typing import Literal

from torch import Tensor

from csa_inpaint.losses.processes import mean_over_processes

Region = Literal["all", "hole", "known"]


def reconstruction_loss(
    prediction: Tensor,
    truth: Tensor,
    mask: Tensor | None = None,
    region: Region = "all",
    power: int = 1,
    over: Literal["all", "region"] = "all",
) -> Tensor:
    """Mean absolute or squared difference, by default over the whole image, as in the paper.

    Args:
        prediction: the generated image.
        truth: the true image.
        mask: 1 in the hole; a region needs it.
        region: the pixels that count: ``"all"``, those in the ``"hole"``, or the ``"known"`` ones.
        power: 1 for absolute, 2 for squared differences.
        over: the sum over the region is divided by the number of ``"all"`` pixels, or of those in
            the ``"region"``, which gives small regions a larger weight. The number of pixels in a
            region is that of all processes' batches.

    Shape: two (B, 3, H, W) in [-1, 1], (B, 1, H, W) → scalar in [-1, 1] units (their square for
        power 2), twice (four times) those of [0, 1].

    Raises:
        ValueError: for another region, power or divisor, and for a region without a mask.
    """
    if region not in ("all", "hole", "known") or power not in (1, 2):
        raise ValueError(
            f"region={region!r} and power={power}: expected all, hole or known, and 1 or 2"
        )
    if over not in ("all", "region"):
        raise ValueError(f"over={over!r}, expected all or region")
    difference = prediction.float() - truth.float()
    values = difference.abs() if power == 1 else difference.square()
    if region == "all":
        return values.mean()
    if mask is None:
        raise ValueError(f"region={region!r} needs a mask")
    weight = mask.float() if region == "hole" else 1 - mask.float()
    if over == "all":
        return (values * weight).mean()
    pixels = mean_over_processes(weight.sum()) * values.shape[1]
    return (values * weight).sum() / pixels.clamp(min=1e-6)
