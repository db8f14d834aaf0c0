"""Triton kernels of the layer, chosen on CUDA."""

from torch import Tensor


def available() -> bool:
    return False


def search(patches: Tensor, hole: Tensor) -> Tensor:
    raise NotImplementedError


def propagate(patches: Tensor, hole: Tensor, match: Tensor, cosine: bool) -> tuple[Tensor, Tensor]:
    raise NotImplementedError


def propagate_backward(
    grad: Tensor,
    patches: Tensor,
    hole: Tensor,
    match: Tensor,
    generated: Tensor,
    weights: Tensor,
    cosine: bool,
    detach_weights: bool,
) -> Tensor:
    raise NotImplementedError
