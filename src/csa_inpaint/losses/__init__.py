"""The generator's losses without a discriminator: pure functions, and the terms made of them."""

from csa_inpaint.losses.consistency import consistency_loss
from csa_inpaint.losses.direction import FeatureDirection, direction_loss
from csa_inpaint.losses.discounted import DiscountedReconstruction
from csa_inpaint.losses.guidance import Guidance, guidance_loss
from csa_inpaint.losses.perceptual import (
    Perceptual,
    Style,
    TotalVariation,
    perceptual_loss,
    style_loss,
    total_variation,
)
from csa_inpaint.losses.reconstruction import reconstruction_loss
from csa_inpaint.losses.rim import RimReconstruction
from csa_inpaint.losses.step import Step
from csa_inpaint.losses.terms import Consistency, LossTerm, Reconstruction, Term

__all__ = [
    "Consistency",
    "DiscountedReconstruction",
    "FeatureDirection",
    "Guidance",
    "LossTerm",
    "Perceptual",
    "Reconstruction",
    "RimReconstruction",
    "Step",
    "Style",
    "Term",
    "TotalVariation",
    "consistency_loss",
    "direction_loss",
    "guidance_loss",
    "perceptual_loss",
    "reconstruction_loss",
    "style_loss",
    "total_variation",
]
