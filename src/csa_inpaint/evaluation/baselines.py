"""Fillings without a network, to compare with."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from csa_inpaint.types import Batch

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


def biharmonic(image: Tensor, mask: Tensor) -> Tensor:
    """Biharmonic inpainting (Damelin and Hoang, 2018) by scikit-image; shapes as ``mean_fill``.

    Each connected hole is filled by itself.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
    """
    try:
        from skimage.restoration import inpaint_biharmonic
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the baseline biharmonic needs scikit-image: pip install 'csa-inpaint[baselines]'"
        ) from error
    filled = [
        torch.from_numpy(
            inpaint_biharmonic(
                one.permute(1, 2, 0).double().numpy(),
                hole[0].bool().numpy(),
                split_into_regions=True,
                channel_axis=-1,
            )
        ).permute(2, 0, 1)
        for one, hole in zip(image.cpu(), mask.cpu(), strict=True)
    ]
    return torch.where(mask > 0.5, torch.stack(filled).to(image).clamp(-1, 1), image)


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
    "biharmonic": biharmonic,
}


def baseline(name: str) -> Callable[[Batch], Tensor]:
    """One of ``BASELINES`` as a function of a batch.

    Raises:
        ValueError: there is no such baseline.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name}: there are {', '.join(BASELINES)}")
    fill = BASELINES[name]
    return lambda batch: fill(batch.image, batch.mask)
