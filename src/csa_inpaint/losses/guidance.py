"""The guidance loss of Shift-Net (Yan et al., ECCV 2018, arXiv 1801.09392, eq. 3)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from csa_inpaint.losses.step import Step
from csa_inpaint.losses.terms import LossTerm


def guidance_loss(decoder: Tensor, target: Tensor, hole: Tensor) -> Tensor:
    """Squared difference of decoder features to the truth's features in the hole.

    The sum over the hole is divided by the number of all positions and channels, as in the authors'
    code. No gradient flows into the target.

    Shape: (B, C, h, w), (B, C, h, w), (B, 1, h, w) → scalar.
    """
    squares = (decoder.float() - target.detach().float()).square()
    return (squares * hole.float()).mean()


class Guidance(LossTerm):
    """Decoder features in the hole against the same encoder's features of the true image."""

    def check(self, generator: nn.Module) -> None:
        encode = getattr(generator, "encode", None)
        if encode is None:
            raise ValueError(
                f"loss term {self.name} needs a generator that encodes the true image, such as "
                f"Shift-Net's; {type(generator).__name__} has no `encode`"
            )
        self._encode: Callable[[Tensor, Tensor], Tensor] = encode

    def loss(self, step: Step) -> Tensor:
        with torch.no_grad():
            target = self._encode(step.batch.image, step.batch.mask)
        ((_, decoder, hole),) = step.out.features.values()
        return guidance_loss(decoder, target, hole)
