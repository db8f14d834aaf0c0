"""Search and propagate as one operator: in Triton on CUDA, in PyTorch elsewhere."""

from typing import Any

import torch
from torch import Tensor

from csa_inpaint.csa.choice import triton_kernels
from csa_inpaint.csa.propagate import attend_pytorch, propagate_backward_pytorch


def attend(
    patches: Tensor,
    hole: Tensor,
    linked: Tensor,
    cosine: bool = True,
    guarded: bool = True,
    detach_weights: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the match of each hole patch, and generate the hole patches in raster order (Sec. 3.2).

    A hole patch becomes ``w_i · m_{i-1} + (1 - w_i) · m̄_i`` with
    ``w_i = Dad_i / (Dad_i + Dmax_i)``. Its weight w_i is 0 where the patch is not linked.

    Args:
        linked: true at the hole patches that blend with the hole patch before them; see ``links``.
        cosine: compute both similarities as cosines. False computes the released similarities; see
            ``CSALayer``.
        guarded: clamp both similarities at zero, and set w_i = 0 where Dmax_i is zero to within
            rounding.
        detach_weights: treat the weights as constants in the backward pass.

    Shape:
        - patches: (B, P, D); hole, linked: (B, P), boolean.
        - returns the patches (B, P, D), in which the hole patches are generated; the match (B, P);
          and the weights (B, P). The match of a hole patch is the index of the known patch of
          largest cosine similarity, the first of equals; a known patch is its own match. The weight
          of a known patch is zero, and weights carry no gradient. Patches and weights are float32,
          or float64 for float64 patches. On CUDA the returned patches are contiguous. Elsewhere
          they have the memory layout of the given patches.
    """
    # The operator's first call imports all of torch.compile, which takes longer than to fill a
    # picture. The operator is for gradients and for tracing alone.
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    plain = type(patches) is Tensor and not torch.is_grad_enabled() and not tracing
    generated, match, weights = (_compute if plain else _attend)(
        patches, hole.contiguous(), linked.contiguous(), cosine, guarded, detach_weights
    )
    return generated, match, weights.detach()


def _compute(
    patches: Tensor,
    hole: Tensor,
    linked: Tensor,
    cosine: bool,
    guarded: bool,
    detach_weights: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if kernels := triton_kernels(patches, cosine, guarded, detach_weights):
        with torch.cuda.device_of(patches):  # type: ignore[no-untyped-call]
            values: tuple[Tensor, Tensor, Tensor] = kernels.attend(
                patches, hole, linked, cosine, guarded
            )
            return values
    with torch.autocast(patches.device.type, enabled=False):
        generated, match, weights = attend_pytorch(patches, hole, linked, cosine, guarded)
    return generated.contiguous() if patches.is_cuda else generated, match, weights


_attend = torch.library.custom_op("csa_inpaint::attend", _compute, mutates_args=())


@_attend.register_fake
def _(patches: Tensor, hole: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(patches.dtype, torch.float32)
    return (
        patches.new_empty(patches.shape, dtype=dtype)
        if patches.is_cuda
        else torch.empty_like(patches, dtype=dtype),
        torch.empty_like(hole, dtype=torch.int64),
        torch.empty_like(hole, dtype=dtype),
    )


@torch.library.custom_op("csa_inpaint::attend_backward", mutates_args=())
def _attend_backward(
    grad: Tensor,
    patches: Tensor,
    hole: Tensor,
    linked: Tensor,
    match: Tensor,
    generated: Tensor,
    weights: Tensor,
    cosine: bool,
    guarded: bool,
    detach_weights: bool,
) -> Tensor:
    arguments = (
        grad, patches, hole, linked, match, generated, weights, cosine, guarded, detach_weights
    )  # fmt: skip
    if kernels := triton_kernels(patches, cosine, guarded, detach_weights):
        with torch.cuda.device_of(patches):  # type: ignore[no-untyped-call]
            return torch.empty_like(patches).copy_(kernels.attend_backward(*arguments))
    with torch.autocast(patches.device.type, enabled=False):
        return propagate_backward_pytorch(*arguments)


@_attend_backward.register_fake
def _(grad: Tensor, patches: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(patches)


def _no_second_backward(ctx: Any, *_: Any) -> None:
    raise RuntimeError("CSALayer cannot be differentiated twice: its backward pass has no gradient")


_attend_backward.register_autograd(_no_second_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    patches, hole, linked, ctx.cosine, ctx.guarded, ctx.detach_weights = inputs
    generated, match, weights = output
    ctx.save_for_backward(patches, hole, linked, match, generated, weights)


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    options = (ctx.cosine, ctx.guarded, ctx.detach_weights)
    return _attend_backward(grad, *ctx.saved_tensors, *options), *[None] * 5


_attend.register_autograd(_backward, setup_context=_save)
