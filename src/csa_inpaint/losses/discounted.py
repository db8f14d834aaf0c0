"""The discounted reconstruction loss (Yu et al., CVPR 2018, arXiv 1801.07892, Sec. 3.3)."""

from typing import Literal

import torch
from torch import Tensor

from csa_inpaint.losses.boxes import crop, hole_boxes
from csa_inpaint.losses.step import Step
from csa_inpaint.losses.terms import LossTerm


def discount(size: int, gamma: float) -> Tensor:
    """Weights ``max(γ^min(i, N - i), γ^min(j, N - j))`` of a square of N × N pixels.

    Pixels near the border of a hole have fewer possible contents than those inside, so they weigh
    more. Rows and columns count from 0, as in the authors' code: the first weighs 1, the last γ.

    Shape: (N, N).
    """
    index = torch.arange(size)
    weight = gamma ** torch.minimum(index, size - index).float()
    return torch.maximum(weight[:, None], weight)


class DiscountedReconstruction(LossTerm):
    """Mean absolute difference in a box around the hole, weighted by ``discount``.

    Args:
        name, weight: see ``LossTerm``.
        image: which image is compared.
        size: side of the box, in pixels.
        gamma: the discount γ of a step away from the box's border.

    Raises:
        ValueError: for another image, and for γ outside (0, 1].
    """

    def __init__(
        self,
        name: str,
        weight: float = 1.0,
        image: Literal["rough", "refined", "composite"] = "refined",
        size: int = 128,
        gamma: float = 0.9,
    ) -> None:
        super().__init__(name, weight)
        if image not in ("rough", "refined", "composite"):
            raise ValueError(f"{name}.image={image!r}, expected rough, refined or composite")
        if not 0 < gamma <= 1:
            raise ValueError(f"{name}.gamma={gamma}, expected a number above 0 and at most 1")
        self.image = image
        self.size = size
        self.weights = discount(size, gamma)

    def loss(self, step: Step) -> Tensor:
        boxes = hole_boxes(step.batch.mask, self.size)
        made, truth = (
            crop(image.float(), boxes, self.size)
            for image in (getattr(step.out, self.image), step.batch.image)
        )
        return ((made - truth).abs() * self.weights.to(made.device)).mean()
