"""Choose between the Triton kernels and the PyTorch form, which does the work everywhere."""

import os
import warnings
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from csa_inpaint.csa.propagate import links, propagate_backward_pytorch, propagate_pytorch
from csa_inpaint.csa.search import search_pytorch

VARIABLE = "CSA_INPAINT_KERNELS"
CHOICES = ("auto", "triton", "pytorch")
# Allowed differences, as shares of the largest value. Rounding stays below 1e-5, and a kernel that
# is compiled wrongly misses by far more.
ALLOWED = 1e-3


class Case(NamedTuple):
    """What Triton compiles kernels for. Each case is compared once in a process."""

    device: torch.device
    dtype: torch.dtype
    size: int  # numbers in a patch
    cosine: bool = True
    guarded: bool = True
    detach_weights: bool = False


_agrees: dict[Case, bool] = {}


def triton_kernels(
    patches: Tensor, cosine: bool = True, guarded: bool = True, detach_weights: bool = False
) -> ModuleType | None:
    """Return the module of Triton kernels, or None where the PyTorch form does the work.

    The environment variable ``CSA_INPAINT_KERNELS`` decides. ``auto``, the default, compares the
    kernels with the PyTorch form before the first use in a process, forward and backward, on a
    small case of the same device, dtype, patch size and options. Where the kernels fail to build,
    to launch or to agree, a warning says so and the PyTorch form does the work. ``triton`` uses the
    kernels without a comparison. ``pytorch`` never uses the kernels.

    The PyTorch form always takes patches on other devices than CUDA, float64 patches, patches of
    more numbers than a program can keep on chip, and maps whose offsets need more than 32 bits.
    With ``auto`` it also does the work where Triton is not installed.

    Args:
        cosine, guarded, detach_weights: see ``attend``.

    Shape: patches (B, P, D).

    Raises:
        ValueError: for another value of the variable.
        RuntimeError: the variable is ``triton`` and Triton is not installed.
    """
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in CHOICES:
        raise ValueError(f"{VARIABLE}={choice}: expected one of {', '.join(CHOICES)}")
    if choice == "pytorch" or not kernels_take(patches):
        return None
    if find_spec("triton") is None:
        if choice == "triton":
            raise RuntimeError(
                f"{VARIABLE}=triton, but Triton is not installed: install Triton, or set "
                f"{VARIABLE}=auto"
            )
        return None
    if choice == "auto":
        case = Case(
            patches.device, patches.dtype, patches.shape[2], cosine, guarded, detach_weights
        )
        if not _compared(case):
            return None
    return load_kernels()


def kernels_take(patches: Tensor) -> bool:
    """Whether the kernels are written for such patches (B, P, D)."""
    _, count, size = patches.shape
    too_large = size > 16384 or count * size >= 2**31
    return patches.is_cuda and patches.dtype != torch.float64 and not too_large


def load_kernels() -> ModuleType:
    """Import the kernels. Triton is optional, and slow to import."""
    from csa_inpaint.csa import kernels

    return kernels


def _compared(case: Case) -> bool:
    """Whether the kernels work for this case, compared on first use."""
    if case not in _agrees:
        # A comparison waits for the device, which ends the capture of a CUDA graph. The PyTorch
        # form waits as well. A graph that is captured without a warm-up takes the kernels as they
        # are, and the next use outside a capture compares them.
        if torch.cuda.is_current_stream_capturing():
            return True
        fault = kernel_fault(case)
        _agrees[case] = fault is None
        if fault is not None:
            dtype = str(case.dtype).removeprefix("torch.")
            warnings.warn(
                f"The CSA layer's Triton kernels do not work on {_name(case.device)} for {dtype} "
                f"patches of {case.size} numbers: {fault}. The PyTorch form does the work from "
                "here on; it gives the same results and is slower. The environment variable "
                f"{VARIABLE}=pytorch chooses it without this comparison, {VARIABLE}=triton insists "
                "on the kernels.",
                RuntimeWarning,
                stacklevel=2,
            )
    return _agrees[case]


def kernel_fault(case: Case) -> str | None:
    """What is wrong with the kernels for this case; None where they agree with the PyTorch form."""
    try:
        errors = kernel_errors(load_kernels(), case)
    # A missing C compiler, an old driver and too little shared memory all raise errors of their
    # own kinds, and none of them may end a training that the PyTorch form can do.
    except Exception as error:
        message = " ".join(str(error).split())[:300]
        return f"{type(error).__name__}: {message}"
    for name, value in errors.items():
        allowed = ALLOWED + (torch.finfo(case.dtype).eps if name == "gradient" else 0)
        if not value <= allowed:  # NaN is no agreement.
            return f"{name} off by {value:.2g} of the largest value ({allowed:.2g} allowed)"
    return None


def kernel_errors(kernels: ModuleType, case: Case) -> dict[str, float]:
    """The largest differences between the kernels and the PyTorch form on a small case.

    The PyTorch form runs on the CPU in float64, so that neither the device nor a setting such as
    TF32 can change the reference. It takes the matches that the kernels found, because two patches
    may be equally similar to within rounding; these matches have to be as similar as the best ones.

    Returns:
        The error of the matches (difference of cosine similarities), and those of the generated
        patches, the weights and the gradient, as shares of the largest value.
    """
    device, dtype, size, cosine, guarded, detach_weights = case
    generator = torch.Generator().manual_seed(0)  # The training's random numbers stay untouched.
    # 112 patches: a multiple of 16 as in most maps, for which Triton compiles kernels of their own.
    noise = torch.randn(3, 2, 112, size, generator=generator, dtype=torch.float64, device="cpu")
    # Patches of eight kinds: each has similar ones, and no similarity is a difference of rounding.
    patches = noise[0, :, :8].repeat(1, 14, 1) + 0.5 * noise[1]
    if not guarded:  # Without the guard, similarities of both signs make any weight possible.
        patches = patches.abs() + 0.1
    patches, grad = patches.to(dtype), noise[2].float()
    index = torch.arange(112, device="cpu")
    hole = torch.stack(((index > 20) & (index < 60), index * 7 % 16 < 6))
    linked = links(hole, 16, across_gaps=False)

    given = [x.to(device) for x in (patches, hole, linked)]
    with torch.cuda.device_of(given[0]):  # type: ignore[no-untyped-call]
        found = kernels.attend(*given, cosine, guarded)
    generated, match, weights = (x.cpu() for x in found)
    wide = patches.double()
    best, unit, norm = search_pytorch(wide, hole)
    wanted, wanted_weights = propagate_pytorch(
        wide, hole, linked, match, unit, norm, cosine, guarded
    )

    saved = (grad, patches, hole, linked, match, wanted.float(), wanted_weights.float())
    given = [x.to(device) for x in saved]
    with torch.cuda.device_of(given[0]):  # type: ignore[no-untyped-call]
        gradient = kernels.attend_backward(*given, cosine, guarded, detach_weights).cpu()
    saved = (grad.double(), wide, hole, linked, match, wanted, wanted_weights)
    wanted_gradient = propagate_backward_pytorch(*saved, cosine, guarded, detach_weights)
    return {
        "match": _largest(_similarity(wide, hole, match), _similarity(wide, hole, best)),
        "generated": _largest(generated, wanted),
        "weights": _largest(weights, wanted_weights),
        "gradient": _largest(gradient, wanted_gradient),
    }


def _similarity(patches: Tensor, hole: Tensor, match: Tensor) -> Tensor:
    """Cosine similarity of each patch with its match, and -1 where the match is no known patch."""
    matched = patches.gather(1, match[..., None].expand_as(patches))
    similarity = torch.cosine_similarity(patches, matched, dim=2)
    return torch.where(hole.gather(1, match), -1, similarity)


def _largest(value: Tensor, wanted: Tensor) -> float:
    return float((value.double() - wanted).abs().max() / wanted.abs().max())


def _name(device: torch.device) -> str:
    return (
        f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
    )
