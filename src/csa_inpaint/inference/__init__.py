"""Filling holes with a trained model, at any size."""

from csa_inpaint.inference.pictures import inpaint

__all__ = ["inpaint"]
