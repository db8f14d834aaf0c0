"""Fillings without a network, to compare with."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Baseline = Callable[[Tensor, Tensor], Tensor]


def mean_fill(image: Tensor, mask: Tensor) -> Tensor:
    """Each image's hole in the mean colour of its known pixels.

    Shape: (B, 3, H, W) in [-1, 1], (B, 1, H, W) → (B, 3, H, W).
    """
    known = 1 - mask
    mean = (image * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
    return torch.where(mask > 0.5, mean, image)


def telea(image: Tensor, mask: Tensor) -> Tensor:
    """OpenCV's fast-marching inpainting (Telea, 2004), radius 3; shapes as ``mean_fill``.

    Raises:
        ModuleNotFoundError: OpenCV is not installed.
    """
    return _opencv(image, mask, "INPAINT_TELEA")


def navier_stokes(image: Tensor, mask: Tensor) -> Tensor:
    """OpenCV's Navier-Stokes inpainting (Bertalmio et al., 2001); otherwise as ``telea``."""
    return _opencv(image, mask, "INPAINT_NS")


def _opencv(image: Tensor, mask: Tensor, method: str) -> Tensor:
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "this baseline needs OpenCV: pip install 'csa-inpaint[baselines]'"
        ) from error
    filled = []
    for one, hole in zip(image.cpu(), mask.cpu(), strict=True):
        pixels = ((one.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
        result = cv2.inpaint(pixels, hole[0].byte().numpy(), 3, getattr(cv2, method))
        filled.append(torch.from_numpy(np.ascontiguousarray(result)).permute(2, 0, 1))
    generated = torch.stack(filled).to(image) / 127.5 - 1
    return torch.where(mask > 0.5, generated, image)


BASELINES: dict[str, Baseline] = {
    "mean_fill": mean_fill,
    "telea": telea,
    "navier_stokes": navier_stokes,
}
