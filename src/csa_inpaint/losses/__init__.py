"""The generator's losses without a discriminator, as pure functions of tensors."""

from csa_inpaint.losses.consistency import consistency_loss
from csa_inpaint.losses.reconstruction import reconstruction_loss

__all__ = ["consistency_loss", "reconstruction_loss"]
