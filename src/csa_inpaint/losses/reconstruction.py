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
        mask: 1 in the hole; needed for every region but ``"all"``.
        region: the pixels that count: ``"all"``, those in the ``"hole"``, or the ``"known"`` ones.
        power: 1 for absolute, 2 for squared differences.
        over: divisor of the sum over the region: the number of ``"all"`` pixels, or of those in
            the ``"region"``, which gives small regions a larger weight. With several processes the
            number of pixels in the region is the mean over their batches.

    Shape: two (B, 3, H, W) in [-1, 1], (B, 1, H, W) → scalar. Differences are in units of [-1, 1]:
        twice those of [0, 1], or four times for squared differences.

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
