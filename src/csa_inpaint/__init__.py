"""Image inpainting with Coherent Semantic Attention (Liu et al., ICCV 2019)."""

from csa_inpaint.csa import CSALayer
from csa_inpaint.inference import inpaint
from csa_inpaint.module import CSAInpainter
from csa_inpaint.networks.generator import Generator
from csa_inpaint.networks.released import load_released
from csa_inpaint.types import Batch, Inpainting

__all__ = [
    "Batch",
    "CSAInpainter",
    "CSALayer",
    "Generator",
    "Inpainting",
    "inpaint",
    "load_released",
]
