"""Validation metrics: L1, L2, PSNR and SSIM over the whole image and over the hole."""

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.functional.image import structural_similarity_index_measure

from csa_inpaint.types import Inpainting

MEASURES = ("l1", "l2", "psnr", "ssim")
SCORES = tuple(f"{region}{measure}" for region in ("", "hole_") for measure in MEASURES)
HIGHER_IS_BETTER = ("psnr", "ssim")
# Hole ratios (low, high], as Liu et al. (2018) bin their test masks.
BINS = ((0.01, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))
SSIM_SIGMA = 1.5  # of the Gaussian window, in pixels (Wang et al., 2004)


def image_scores(prediction: Tensor, truth: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Scores of each image, over the whole of it and (``hole_…``) over its hole.

    - ``l1``, ``l2``: mean absolute and squared error as per cent of the full range, the paper's
      unit.
    - ``psnr``: dB. Infinite where prediction and truth are equal.
    - ``ssim``: of Wang et al. (2004) as torchmetrics computes it: Gaussian window of 11 with sigma
      1.5, the mean over channels and positions; beyond the border the picture is continued by
      reflection. Over the hole: the mean of the similarity map's hole pixels.

    Errors are summed in float64 where ``prediction`` is float64, otherwise in float32. The
    similarity is computed in float32, which changes it by less than 1e-6.

    Shape: (B, 3, H, W) and (B, 3, H, W) in [-1, 1] (the prediction is clipped to it),
        (B, 1, H, W) → (B,) each. Over a hole without pixels the scores are NaN.
    """
    dtype = torch.float64 if prediction.dtype == torch.float64 else torch.float32
    prediction = (prediction.to(dtype).clamp(-1, 1) + 1) / 2
    truth, mask = (truth.to(dtype) + 1) / 2, mask.to(dtype)
    error = prediction - truth
    # Autocast would run the Gaussian window in 16 bits, whose variances are rounding alone; in
    # float64 the convolution of PyTorch takes ten times as long.
    with torch.autocast(prediction.device.type, enabled=False):
        _, similarity = structural_similarity_index_measure(
            prediction.float(),
            truth.float(),
            sigma=SSIM_SIGMA,
            data_range=1.0,
            reduction="none",
            return_full_image=True,
        )
    scores = {}
    for prefix, region in (("", torch.ones_like(mask)), ("hole_", mask)):
        squared = _mean_over(error.square(), region)
        scores[f"{prefix}l1"] = 100 * _mean_over(error.abs(), region)
        scores[f"{prefix}l2"] = 100 * squared
        scores[f"{prefix}psnr"] = -10 * squared.log10()
        scores[f"{prefix}ssim"] = _mean_over(similarity.to(dtype), region)
    return scores


def _mean_over(values: Tensor, region: Tensor) -> Tensor:
    """Mean of (B, C, H, W) values over each image's region and all channels: (B,)."""
    return (values * region).sum((1, 2, 3)) / (region.sum((1, 2, 3)) * values.shape[1])


class InpaintingMetrics(nn.Module):
    """Means over images of ``image_scores``, for the rough, refined and composited prediction.

    The composite's names carry no prefix: ``psnr``, ``hole_psnr``; the others are ``rough_psnr``,
    ``refined_hole_ssim`` and so on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.ModuleDict(
            {
                f"{prediction}{score}": MeanMetric()
                for prediction in ("rough_", "refined_", "")
                for score in SCORES
            }
        )

    def update(self, out: Inpainting, truth: Tensor, mask: Tensor) -> None:
        """Add a batch."""
        images = {"rough_": out.rough, "refined_": out.refined, "": out.composite}
        for prediction, image in images.items():
            for score, values in image_scores(image, truth, mask).items():
                self.means[prediction + score].update(values)  # type: ignore[operator]

    def compute(self) -> dict[str, Tensor]:
        """The means so far, over all processes."""
        return {name: mean.compute() for name, mean in self.means.items()}  # type: ignore[operator]

    def reset(self) -> None:
        """Forget all batches."""
        for mean in self.means.values():
            mean.reset()  # type: ignore[operator]
