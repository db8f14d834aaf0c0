"""Coherent Semantic Attention: the layer, its feature mask and the paper's loop."""

from csa_inpaint.csa.layer import CSALayer
from csa_inpaint.csa.mask import reduce_mask
from csa_inpaint.csa.naive import naive_csa

__all__ = ["CSALayer", "naive_csa", "reduce_mask"]
