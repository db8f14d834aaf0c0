"""Adversaries: the callbacks that bring a discriminator, their objectives and their networks."""

from csa_inpaint.adversaries.adversary import Adversary, FeatureAdversary, PatchAdversary
from csa_inpaint.adversaries.objectives import (
    WGANGP,
    Hinge,
    LeastSquares,
    NonSaturating,
    Objective,
    RelativisticAverageLeastSquares,
)

__all__ = [
    "WGANGP",
    "Adversary",
    "FeatureAdversary",
    "Hinge",
    "LeastSquares",
    "NonSaturating",
    "Objective",
    "PatchAdversary",
    "RelativisticAverageLeastSquares",
]
