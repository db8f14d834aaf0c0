"""How the network of a trained model is computed; the results are the same to within rounding.

A backend is a function from the model to the network that is called with images and masks.
"""

from collections.abc import Callable
from typing import Literal, cast, get_args
from weakref import WeakKeyDictionary

import torch
from torch import nn

from csa_inpaint.inference.packed import pack
from csa_inpaint.inference.trained import Model, TrainedModel
from csa_inpaint.methods.generator import InpaintingGenerator

BackendName = Literal["auto", "eager", "bfloat16"]
Backend = Callable[[Model], nn.Module]
State = tuple[tuple[int, int], ...]

# The reduced network of a model, and the state of the weights that it was made from.
_reduced: WeakKeyDictionary[nn.Module, tuple[State, nn.Module]] = WeakKeyDictionary()


def eager(model: Model) -> nn.Module:
    """The model as it is, in its own type and on its device."""
    return model


def bfloat16(model: Model) -> nn.Module:
    """The generator with bfloat16 weights that lie in oneDNN's order; on the CPU.

    The generator is converted once, and again when its weights have changed. The converted weights
    live as long as the model.

    Raises:
        ValueError: the model is not on the CPU, or PyTorch was built without oneDNN.
    """
    generator = trained_generator(model)
    device = next(generator.parameters()).device
    if device.type != "cpu":
        raise ValueError(
            f"backend=bfloat16 computes on the CPU, and the model is on {device}: choose "
            "backend=eager, or device=cpu"
        )
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise ValueError("backend=bfloat16 needs a PyTorch with oneDNN: choose backend=eager")
    state = tuple(
        (value.data_ptr(), value._version)
        for value in generator.state_dict(keep_vars=True).values()
    )
    made = _reduced.get(generator)
    if made is None or made[0] != state:
        made = state, pack(generator, torch.bfloat16)
        _reduced[generator] = made
    return made[1]


def automatic(model: Model) -> nn.Module:
    """``bfloat16`` for a float32 model on a CPU that multiplies bfloat16, else ``eager``."""
    weight = next(model.parameters())
    reduces = weight.device.type == "cpu" and weight.dtype == torch.float32
    return bfloat16(model) if reduces and multiplies_bfloat16() else eager(model)


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for products of bfloat16, and PyTorch uses them."""
    capabilities = torch.cpu.get_capabilities()
    has = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return bool(has) and bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


def trained_generator(model: Model) -> InpaintingGenerator:
    """The generator that inference uses: the average of the training where there is one."""
    if isinstance(model, TrainedModel) or model.ema is None:
        return model.generator
    return cast(InpaintingGenerator, model.ema.module)


BACKENDS: dict[BackendName, Backend] = {
    "auto": automatic,
    "eager": eager,
    "bfloat16": bfloat16,
}


def find_backend(name: str) -> Backend:
    """The backend of that name, or a ``ValueError`` that lists the names."""
    for known, backend in BACKENDS.items():
        if known == name:
            return backend
    raise ValueError(f"backend={name!r}: expected {', '.join(get_args(BackendName))}")
