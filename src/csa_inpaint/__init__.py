"""Image inpainting with Coherent Semantic Attention (Liu et al., ICCV 2019).

The public names load when they are first used: ``from csa_inpaint import CSALayer`` needs torch
alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csa_inpaint.adversaries import Adversary
    from csa_inpaint.csa import CSALayer
    from csa_inpaint.inference import inpaint
    from csa_inpaint.methods.csa import Generator
    from csa_inpaint.training.module import CSAInpainter
    from csa_inpaint.types import Batch, Inpainting
    from csa_inpaint.weights.released import load_released

_HOMES = {
    "Adversary": "adversaries",
    "Batch": "types",
    "CSAInpainter": "training.module",
    "CSALayer": "csa",
    "Generator": "methods.csa",
    "Inpainting": "types",
    "inpaint": "inference",
    "load_released": "weights.released",
}

__all__ = [
    "Adversary",
    "Batch",
    "CSAInpainter",
    "CSALayer",
    "Generator",
    "Inpainting",
    "inpaint",
    "load_released",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
