"""Joining a generated hole to the known pixels around it, by a correction inside the hole.

Networks know where the hole is, and may meet the known pixels outside it and miss them inside it.
So the error at the border is the step across it: the mean of the known pixels near a place less the
mean of the generated ones.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

BlendName = Literal["hard", "feather", "poisson"]
Blend = Callable[[Tensor, Tensor, Tensor], Tensor]

NEAR = 1.0  # standard deviation of the Gaussian that takes the means, in pixels
RELAXATIONS = 12  # of the membrane at each resolution


def hard(generated: Tensor, image: Tensor, known: Tensor) -> Tensor:
    """No correction: the generated pixels stay as they are.

    Args:
        generated: the prediction; what it holds where the image is known is not used.
        image: what it holds where it is not known is not used.
        known: True where the image is known.

    Shape: (3, H, W), (3, H, W), (1, H, W) → (3, H, W), to be added to the generated pixels
    """
    return torch.zeros_like(generated)


def feather(generated: Tensor, image: Tensor, known: Tensor) -> Tensor:
    """The step at the border, which fades out over some pixels; arguments as ``hard``."""
    step, weight = _step(generated, image, known)
    # Half of the Gaussian lies on known pixels at a straight border.
    return step * (2 * weight).clamp(max=1)


def poisson(generated: Tensor, image: Tensor, known: Tensor) -> Tensor:
    """The step at the border, which continues into the hole as a membrane; arguments as ``hard``.

    The gradients within the hole stay, and the hole meets the known pixels (Pérez et al., "Poisson
    image editing", 2003).
    """
    step, weight = _step(generated, image, known)
    border = known & (weight < 0.9)
    return membrane(step.masked_fill(~border, 0), border)


def membrane(values: Tensor, known: Tensor) -> Tensor:
    """Continue known values into the unknown so that each is the mean of its four neighbours.

    Laplace's equation, from coarse to fine: the solution at half the resolution starts the
    relaxation. There is no condition at the edges of the map. Where nothing is known, 0 stays.

    Shape: (C, H, W) with 0 where unknown, (1, H, W) → (C, H, W)
    """
    if known.all() or not known.any():
        return values
    height, width = known.shape[-2:]
    share = _halve(known.float())
    half = _halve(values) / share.clamp_min(1e-6)
    start = membrane(half, share > 0)
    enlarged = F.interpolate(start[None], scale_factor=2, mode="bilinear")[0, :, :height, :width]
    result = torch.where(known, values, enlarged)
    for _ in range(RELAXATIONS):
        padded = F.pad(result, (1, 1, 1, 1), mode="replicate")
        vertical = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
        horizontal = padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
        result = torch.where(known, values, (vertical + horizontal) / 4)
    return result


def blur(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur; beyond the edges the last values continue.

    Args:
        x: a map.
        sigma: standard deviation in pixels.

    Shape: (C, H, W) → (C, H, W)
    """
    radius = int(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(x[None], (radius,) * 4, mode="replicate")[0]
    rows = F.conv2d(padded[:, None], kernel[None, None, :, None])
    return F.conv2d(rows, kernel[None, None, None, :])[:, 0]


def _step(generated: Tensor, image: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The known mean less the generated mean near each pixel, and the known share there.

    Far from the border, where one of the means is of nothing, the step is 0.
    """
    share = blur(known.float(), NEAR)
    known_sum = blur(image.masked_fill(~known, 0), NEAR)
    generated_sum = blur(generated.masked_fill(known, 0), NEAR)
    step = known_sum / share.clamp_min(1e-6) - generated_sum / (1 - share).clamp_min(1e-6)
    return step.masked_fill((share < 0.01) | (share > 0.99), 0), share


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x[None], 2, ceil_mode=True, count_include_pad=False)[0]


BLENDS: dict[BlendName, Blend] = {"hard": hard, "feather": feather, "poisson": poisson}


def find_blend(name: str) -> Blend:
    """The function of that name, or a ``ValueError`` that lists the names."""
    for known, blend in BLENDS.items():
        if known == name:
            return blend
    raise ValueError(f"blend={name!r}: expected {', '.join(get_args(BlendName))}")
