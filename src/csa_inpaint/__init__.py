"""Image inpainting with Coherent Semantic Attention (Liu et al., ICCV 2019).

The public names load when they are first used: ``from csa_inpaint import CSALayer`` needs torch
alone.
"""

from typing import TYPE_CHECKING

from csa_inpaint.cli.lazy import lazy_names

if TYPE_CHECKING:
    from csa_inpaint.adversaries import Adversary
    from csa_inpaint.csa import CSALayer
    from csa_inpaint.inference import inpaint
    from csa_inpaint.losses.terms import LossTerm
    from csa_inpaint.methods.csa import Generator, load_released
    from csa_inpaint.methods.generator import InpaintingGenerator
    from csa_inpaint.training.loading import load_model, load_pretrained
    from csa_inpaint.training.module import Inpainter
    from csa_inpaint.training.paper import CSAInpainter
    from csa_inpaint.types import Batch, Inpainting

_HOMES = {
    "Adversary": "adversaries",
    "Batch": "types",
    "CSAInpainter": "training.paper",
    "CSALayer": "csa",
    "Generator": "methods.csa",
    "Inpainter": "training.module",
    "Inpainting": "types",
    "InpaintingGenerator": "methods.generator",
    "LossTerm": "losses.terms",
    "inpaint": "inference",
    "load_model": "training.loading",
    "load_pretrained": "training.loading",
    "load_released": "methods.csa",
}

__all__ = [
    "Adversary",
    "Batch",
    "CSAInpainter",
    "CSALayer",
    "Generator",
    "Inpainter",
    "Inpainting",
    "InpaintingGenerator",
    "LossTerm",
    "inpaint",
    "load_model",
    "load_pretrained",
    "load_released",
]

__getattr__, __dir__ = lazy_names(globals(), _HOMES)
