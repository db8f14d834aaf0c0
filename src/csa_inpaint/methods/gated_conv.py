"""Gated convolution: the generator of DeepFill v2 (Yu et al., ICCV 2019, arXiv 1806.03589).

Two stages, as in CSA: a rough network fills the hole, and a second network with contextual
attention refines it. A gated convolution learns for every position and channel how much of a
feature passes.
"""

from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csa_inpaint.methods.generator import InpaintingGenerator, check_pair
from csa_inpaint.networks.contextual_attention import ContextualAttention
from csa_inpaint.types import Inpainting

Padding = Literal["zeros", "same", "reflect"]
Variant = Literal["symmetric", "tensorflow", "mmagic"]

PADDING: dict[Variant, Padding] = {"symmetric": "zeros", "tensorflow": "same", "mmagic": "reflect"}
DILATIONS = (2, 4, 8, 16)


class PaddedConv2d(nn.Conv2d):
    """A convolution that keeps the size, or divides it by the stride and rounds up.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel_size: side of the kernel; odd.
        stride: step between outputs.
        dilation: step between the kernel's taps.
        padding: ``zeros`` pads as many zeros before the input as behind. ``same`` follows the rule
            of TensorFlow: as few zeros as needed, and the odd one behind. ``reflect`` mirrors the
            input at the border.

    Shape: (B, inputs, H, W) → (B, outputs, ⌈H / stride⌉, ⌈W / stride⌉).

    Raises:
        ValueError: for another padding.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = "zeros",
    ) -> None:
        if padding not in get_args(Padding):
            raise ValueError(f"padding={padding!r}, expected one of {', '.join(get_args(Padding))}")
        super().__init__(
            inputs,
            outputs,
            kernel_size,
            stride,
            padding=0 if padding == "same" else dilation * (kernel_size // 2),
            dilation=dilation,
            padding_mode="reflect" if padding == "reflect" else "zeros",
        )
        self.same = padding == "same"
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        if self.same:
            (top, bottom), (left, right) = (self._same(axis, input) for axis in (0, 1))
            input = F.pad(input, (left, right, top, bottom))
        return super().forward(input)

    def _same(self, axis: int, input: Tensor) -> tuple[int, int]:
        size, stride = input.shape[2 + axis], self.stride[axis]
        reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        return total // 2, total - total // 2


class GatedConv2d(PaddedConv2d):
    """``activation(features) · sigmoid(gate)``, both from one convolution (paper, eq. 3).

    Args:
        inputs, kernel_size, stride, dilation, padding: see ``PaddedConv2d``.
        outputs: channels of the output; the convolution has twice as many filters, first those of
            the features, then those of the gate.
        activation: of the features; ELU by default.

    Shape: see ``PaddedConv2d``.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = "zeros",
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__(inputs, 2 * outputs, kernel_size, stride, dilation, padding)
        self.activation = nn.ELU() if activation is None else activation
        # A gate starts half open, so weights of twice the size keep the signal's size. With weights
        # of Glorot's size the image fades in such deep networks, and training starts slowly.
        with torch.no_grad():
            self.weight.mul_(2)

    def forward(self, input: Tensor) -> Tensor:
        features, gate = super().forward(input).chunk(2, dim=1)
        output: Tensor = self.activation(features) * gate.sigmoid()
        return output


class GatedConvGenerator(InpaintingGenerator):
    """The two-stage generator of DeepFill v2: rough network, then refinement with two branches.

    One branch of the refinement has dilated convolutions, the other contextual attention; one
    decoder joins both. The gradient of the refined image flows into the rough network.

    Args:
        width: output channels of the first gated convolution; even. The deepest layers have four
            times as many.
        variant: the implementation whose computation is followed and whose weights fit.
            ``symmetric``: the paper's networks, zeros on both sides. ``tensorflow``: the same
            networks with the authors' padding and sub-sampling. ``mmagic``: that project's
            networks, which pad by reflection, show the hole to the refinement too, gate the last
            convolution, have ELU before the attention and leave the hole's keys out of the
            attention.
        decoder_width: ``width`` of the refinement's decoder; None for ``width``. mmagic's published
            networks have 32 with a width of 24.
        attention: called as ``attention(features, mask)``, the mask at the resolution of the image;
            None for the variant's ``ContextualAttention``.

    Shape:
        - image: (B, 3, H, W) in [-1, 1]; the pixels inside the hole are never seen.
        - mask: (B, 1, H, W), 1 in the hole.
        - returns ``Inpainting`` without features; H and W multiples of ``multiple``. The variant
          ``mmagic`` needs sides above 64.

    Raises:
        ValueError: for an odd width, an unknown variant, a size that is no multiple or too small,
            and shapes that do not fit.
    """

    def __init__(
        self,
        width: int = 24,
        variant: Variant = "symmetric",
        decoder_width: int | None = None,
        attention: ContextualAttention | None = None,
    ) -> None:
        super().__init__()
        outer = width if decoder_width is None else decoder_width
        for name, value in (("width", width), ("decoder_width", outer)):
            if value < 2 or value % 2:
                raise ValueError(f"{name}={value}, expected an even number of at least 2")
        if variant not in PADDING:
            raise ValueError(f"variant={variant!r}, expected one of {', '.join(PADDING)}")
        padding, mmagic = PADDING[variant], variant == "mmagic"
        if attention is None:
            attention = ContextualAttention(
                exclude_hole=mmagic,
                count_overlaps=mmagic,
                align_corners=variant == "tensorflow",
            )
        self.width = width
        self.multiple = 4 * attention.rate
        # At 1/4 of the resolution a reflection by 16 cells needs more than 16 cells.
        self.smallest = self.multiple + (4 * DILATIONS[-1] if padding == "reflect" else 0)
        self.refinement_sees_hole = mmagic
        inputs = 5 if mmagic else 3

        self.rough = nn.Sequential(
            *encoder(5, (1, 2, 2, 4, 4, 4), width, padding),
            *dilated(4 * width, padding),
            *decoder(4 * width, width, padding, gated_output=mmagic),
        )
        self.dilated_branch = nn.Sequential(
            *encoder(inputs, (1, 1, 2, 2, 4, 4), width, padding), *dilated(4 * width, padding)
        )
        before_attention = nn.ELU() if mmagic else nn.ReLU()
        self.attention_branch = nn.Sequential(
            *encoder(inputs, (1, 1, 2, 4, 4, 4), width, padding, before_attention)
        )
        self.attention = attention
        self.attention_tail = nn.Sequential(
            *(GatedConv2d(4 * width, 4 * width, padding=padding) for _ in range(2))
        )
        self.decoder = nn.Sequential(*decoder(8 * width, outer, padding, gated_output=mmagic))

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        check_pair(image, mask)
        self._check_size(image)
        hole = mask > 0.5
        hidden = image.masked_fill(hole, 0)
        where = torch.cat([torch.ones_like(image[:, :1]), hole.to(image.dtype)], dim=1)
        rough = self.rough(torch.cat([hidden, where], dim=1))
        filled = torch.where(hole, rough.to(image.dtype), hidden)
        if self.refinement_sees_hole:
            filled = torch.cat([filled, where], dim=1)
        attended = self.attention_tail(self.attention(self.attention_branch(filled), mask))
        refined = self.decoder(torch.cat([self.dilated_branch(filled), attended], dim=1))
        composite = torch.where(hole, refined.to(image.dtype), image)
        return Inpainting(rough, refined, composite, {})

    def _check_size(self, image: Tensor) -> None:
        height, width = image.shape[-2:]
        if height % self.multiple or width % self.multiple or min(height, width) < self.smallest:
            raise ValueError(
                f"an image of {height}×{width}: gated convolution needs sides that are multiples "
                f"of {self.multiple}, at least {self.smallest}; pad or resize the image"
            )


def encoder(
    inputs: int,
    multiples: tuple[int, ...],
    width: int,
    padding: Padding,
    last_activation: nn.Module | None = None,
) -> list[GatedConv2d]:
    """Six gated convolutions to 1/4 of the resolution: the second and the fourth halve it."""
    c1, c2, c3, c4, c5, c6 = (width * multiple for multiple in multiples)
    conv = partial(GatedConv2d, padding=padding)
    return [
        conv(inputs, c1, 5),
        conv(c1, c2, stride=2),
        conv(c2, c3),
        conv(c3, c4, stride=2),
        conv(c4, c5),
        conv(c5, c6, activation=last_activation),
    ]


def dilated(channels: int, padding: Padding) -> list[GatedConv2d]:
    """Four gated convolutions of growing dilation."""
    return [GatedConv2d(channels, channels, dilation=d, padding=padding) for d in DILATIONS]


def decoder(inputs: int, width: int, padding: Padding, gated_output: bool) -> list[nn.Module]:
    """From 1/4 of the resolution to an image in [-1, 1]."""
    conv = partial(GatedConv2d, padding=padding)
    last = (
        GatedConv2d(width // 2, 3, padding=padding, activation=nn.Identity())
        if gated_output
        else PaddedConv2d(width // 2, 3, padding=padding)
    )
    return [
        conv(inputs, 4 * width),
        conv(4 * width, 4 * width),
        nn.Upsample(scale_factor=2),
        conv(4 * width, 2 * width),
        conv(2 * width, 2 * width),
        nn.Upsample(scale_factor=2),
        conv(2 * width, width),
        conv(width, width // 2),
        last,
        nn.Tanh(),
    ]
