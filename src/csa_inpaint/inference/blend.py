"""Joining a generated hole to the known pixels around it, by a correction inside the hole.

Networks know where the hole is, and may meet the known pixels outside it and miss them inside it.
So the error at the border is the step across it: the mean of the known pixels near a place less the
mean of the generated ones.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

BlendName = Literal["hard", "feather", "poisson"]
Meet = Callable[[Tensor, Tensor, Tensor, float], Tensor]

RIM = 5.0  # standard deviation of the Gaussian that measures the way into the hole, in pixels
RELAXATIONS = 12  # of the membrane at each resolution


def soften(generated: Tensor, image: Tensor, known: Tensor, near: float) -> Tensor:
    """The step at the border, which fades out over some pixels.

    Args:
        generated: the prediction; what it holds where the image is known is not used.
        image: what it holds where it is not known is not used.
        known: True where the image is known.
        near: standard deviation of the Gaussian that takes the means, in pixels.

    Shape: (3, H, W), (3, H, W), (1, H, W) → (3, H, W), to be added to the generated pixels
    """
    step, share = _step(generated, image, known, near)
    # Half of the Gaussian lies on known pixels at a straight border.
    return step * (2 * share).clamp(max=1)


def continue_step(generated: Tensor, image: Tensor, known: Tensor, near: float) -> Tensor:
    """The step at the border, which continues into the hole as a membrane; as ``soften``.

    The gradients within the hole stay, and the hole meets the known pixels (Pérez et al., "Poisson
    image editing", 2003).
    """
    step, share = _step(generated, image, known, near)
    border = known & (share < 0.9)
    return membrane(step.masked_fill(~border, 0), border)


def fade(generated: Tensor, image: Tensor, known: Tensor) -> Tensor:
    """What turns the generated pixels near the border into continued known ones.

    The known pixels continue as a membrane. It is the better guess in a scratch of a few pixels,
    which is thinner than the holes of a training, and it hides a border. Arguments and shapes as
    ``soften``.
    """
    # The weight of the generated pixels is 0 at a straight border, and in thin holes everywhere.
    weight = (1 - 2 * blur(known.float(), RIM)).clamp_min(0)
    return (1 - weight) * (membrane(image.masked_fill(~known, 0), known) - generated)


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
    return _weighted(_weighted(padded, kernel.tolist(), 1), kernel.tolist(), 2)


def _weighted(x: Tensor, weights: Sequence[float], axis: int) -> Tensor:
    """The weighted sum of neighbours along an axis, of which len(weights) - 1 places fewer stay.

    On a CPU this takes a tenth of the time of a convolution with one channel.
    """
    length = x.shape[axis] - len(weights) + 1
    total = x.narrow(axis, 0, length) * weights[0]
    for start, weight in enumerate(weights[1:], 1):
        total.add_(x.narrow(axis, start, length), alpha=weight)
    return total


def _step(generated: Tensor, image: Tensor, known: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """The known mean less the generated mean near each pixel, and the known share there.

    The step means something near a border, where there are pixels of both.
    """
    share = blur(known.float(), near)
    known_sum = blur(image.masked_fill(~known, 0), near)
    generated_sum = blur(generated.masked_fill(known, 0), near)
    step = known_sum / share.clamp_min(1e-6) - generated_sum / (1 - share).clamp_min(1e-6)
    return step, share


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x[None], 2, ceil_mode=True, count_include_pad=False)[0]


# How the step at the border is met; None leaves it and the rim as they are.
BLENDS: dict[BlendName, Meet | None] = {
    "hard": None,
    "feather": soften,
    "poisson": continue_step,
}


def find_blend(name: str) -> Meet | None:
    """The function of that name, or a ``ValueError`` that lists the names."""
    for known, meet in BLENDS.items():
        if known == name:
            return meet
    raise ValueError(f"blend={name!r}: expected {', '.join(get_args(BlendName))}")
