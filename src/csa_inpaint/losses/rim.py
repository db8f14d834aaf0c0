"""The context encoder's reconstruction loss (Pathak et al., CVPR 2016, arXiv 1604.07379)."""

from torch import Tensor, nn

from csa_inpaint.losses.step import Step
from csa_inpaint.losses.terms import LossTerm


class RimReconstruction(LossTerm):
    """Mean squared difference in the predicted window, where known pixels weigh more.

    The window is that of ``ContextEncoderGenerator``. In the authors' setting the known pixels of
    the window are a rim of 4 pixels around the hole. Their larger weight makes the prediction meet
    the surroundings.

    Args:
        name, weight: see ``LossTerm``.
        known_weight: weight of a known pixel; a hole pixel weighs 1.
    """

    def __init__(self, name: str, weight: float = 1.0, known_weight: float = 10.0) -> None:
        super().__init__(name, weight)
        self.known_weight = known_weight

    def check(self, generator: nn.Module) -> None:
        window = getattr(generator, "window", None)
        if window is None:
            raise ValueError(
                f"loss term {self.name} compares the window that a context encoder predicts; for "
                f"{type(generator).__name__} use csa_inpaint.losses.Reconstruction with power=2"
            )
        self.window = window

    def loss(self, step: Step) -> Tensor:
        image, mask = step.batch.image, step.batch.mask
        rows, columns = self.window(*image.shape[-2:])
        squares = (step.out.refined.float() - image.float()).square()[..., rows, columns]
        hole = mask.float()[..., rows, columns]
        return (squares * (hole + self.known_weight * (1 - hole))).mean()
