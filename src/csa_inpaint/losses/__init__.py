"""The generator's and the discriminators' losses, as pure functions of tensors."""

from csa_inpaint.losses.adversarial import (
    WGANGP,
    Hinge,
    LeastSquares,
    NonSaturating,
    Objective,
    RelativisticAverageLeastSquares,
)
from csa_inpaint.losses.consistency import consistency_loss
from csa_inpaint.losses.reconstruction import reconstruction_loss

__all__ = [
    "WGANGP",
    "Hinge",
    "LeastSquares",
    "NonSaturating",
    "Objective",
    "RelativisticAverageLeastSquares",
    "consistency_loss",
    "reconstruction_loss",
]
