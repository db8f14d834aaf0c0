"""Adversaries: the callbacks that bring a discriminator, their objectives and their networks."""

from csa_inpaint.adversaries.context import ContextAdversary
from csa_inpaint.adversaries.contract import Adversary
from csa_inpaint.adversaries.critics import CriticAdversary
from csa_inpaint.adversaries.joint import JointAdversary
from csa_inpaint.adversaries.objectives import (
    WGANGP,
    Hinge,
    HoleWGANGP,
    LeastSquares,
    NonSaturating,
    Objective,
    RelativisticAverageLeastSquares,
)
from csa_inpaint.adversaries.patch import FeatureAdversary, PatchAdversary
from csa_inpaint.adversaries.sn_patch import SNPatchAdversary

__all__ = [
    "WGANGP",
    "Adversary",
    "ContextAdversary",
    "CriticAdversary",
    "FeatureAdversary",
    "Hinge",
    "HoleWGANGP",
    "JointAdversary",
    "LeastSquares",
    "NonSaturating",
    "Objective",
    "PatchAdversary",
    "RelativisticAverageLeastSquares",
    "SNPatchAdversary",
]
