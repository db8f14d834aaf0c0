"""Networks in the form that a CPU computes fastest, for inference.

PyTorch brings the weights of a convolution into oneDNN's order at every call, which takes longer
than the arithmetic where the image is small and the layer is deep. Packed weights are in that order
from the start. Packed convolutions return channels-last features. ``nn.InstanceNorm2d`` would copy
them, and ``nn.GroupNorm`` with a channel in each group computes the same without a copy.
"""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csa_inpaint.networks.blocks import DilatedHalve


class PackedConv2d(nn.Module):
    """A convolution with zero padding and packed weights.

    Args:
        weight: (outputs, inputs, k, k).
        bias: (outputs,) or None.
        padding: zeros on each side.
        stride: step between outputs.
        dilation: step between the kernel's taps.
    """

    weight: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, ...] = (0, 0),
        stride: tuple[int, ...] = (1, 1),
        dilation: tuple[int, ...] = (1, 1),
    ) -> None:
        super().__init__()
        self.settings = (padding, stride, dilation, 1)
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.settings)
        self.register_buffer("weight", packed, persistent=False)
        self.bias = bias

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(
            input, self.weight, self.bias, *self.settings, "none", [], ""
        )
        return output


class PackedDilatedHalve(PackedConv2d):
    """``DilatedHalve`` with packed weights: a dense convolution of the odd rows and columns."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input[..., 1::2, 1::2], (2, 1, 2, 1)))


class PackedTransposed(nn.Module):
    """A transposed convolution with packed weights.

    Args:
        weight: (inputs, outputs, k, k).
        bias, padding, stride, dilation: as those of ``PackedConv2d``.
        output_padding: rows and columns more at the end of the output.
    """

    weight: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, ...],
        output_padding: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.settings = (padding, output_padding, stride, dilation, 1)
        packed = torch.ops.mkldnn._reorder_convolution_transpose_weight(weight, *self.settings)
        self.register_buffer("weight", packed, persistent=False)
        self.bias = bias

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
            input, self.weight, self.bias, *self.settings, "none", [], ""
        )
        return output


def pack(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a network in another type, with packed convolutions and faster instance norms.

    Subclasses of convolutions, grouped ones and such with other than zero padding are converted
    and not packed. Norms with running statistics stay as they are.

    Args:
        network: its weights and mode are left as they are.
        dtype: of the copy; what the copy is called with must have it.
    """
    tensors = [*network.parameters(), *network.buffers()]
    # deepcopy takes what the memo holds for the copies. So no copy in the old type is made.
    made = copy.deepcopy(network, {id(one): _converted(one, dtype) for one in tensors})
    _pack_children(made)
    return made


def _converted(value: Tensor, dtype: torch.dtype) -> Tensor:
    converted = value.detach().to(dtype if value.is_floating_point() else value.dtype, copy=True)
    if isinstance(value, nn.Parameter):
        return nn.Parameter(converted, requires_grad=False)
    return converted


def _pack_children(parent: nn.Module) -> None:
    for name, layer in parent.named_children():
        packed = _packed(layer)
        if packed is None:
            _pack_children(layer)
        else:
            setattr(parent, name, packed)


def _packed(layer: nn.Module) -> nn.Module | None:
    """The faster form of a layer, or None where it has none."""
    if type(layer) is DilatedHalve:
        return PackedDilatedHalve(layer.weight, layer.bias)
    if isinstance(layer, nn.InstanceNorm2d) and not layer.track_running_stats:
        return _group_norm(layer)
    if type(layer) not in (nn.Conv2d, nn.ConvTranspose2d):
        return None
    convolution = cast(nn.Conv2d | nn.ConvTranspose2d, layer)
    padding, stride, dilation = convolution.padding, convolution.stride, convolution.dilation
    if (
        convolution.groups != 1
        or convolution.padding_mode != "zeros"
        or not isinstance(padding, tuple)
    ):
        return None
    weight, bias = convolution.weight, convolution.bias
    if isinstance(convolution, nn.Conv2d):
        return PackedConv2d(weight, bias, padding, stride, dilation)
    return PackedTransposed(weight, bias, padding, convolution.output_padding, stride, dilation)


def _group_norm(layer: nn.InstanceNorm2d) -> nn.GroupNorm:
    norm = nn.GroupNorm(layer.num_features, layer.num_features, layer.eps, affine=False)
    norm.affine, norm.weight, norm.bias = layer.affine, layer.weight, layer.bias
    return norm
