"""The two stages that both versions of DeepFill share (Yu et al., CVPR 2018 and ICCV 2019).

A rough network fills the hole, and a second network with contextual attention refines it. The
versions differ in their convolutions.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csa_inpaint.methods.generator import InpaintingGenerator, check_pair
from csa_inpaint.networks.contextual_attention import ContextualAttention
from csa_inpaint.types import Inpainting

Padding = Literal["zeros", "same", "reflect"]
Variant = Literal["symmetric", "tensorflow", "mmagic"]
Make = Callable[..., nn.Module]

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


class DeepFillGenerator(InpaintingGenerator):
    """Rough network, then refinement with two branches and one decoder.

    One branch of the refinement has dilated convolutions, the other contextual attention. The
    gradient of the refined image flows into the rough network.

    Args:
        width: output channels of the first convolution; even.
        variant: the implementation whose computation is followed, see the subclasses.
        conv: makes a convolution with its activation: ``conv(inputs, outputs, kernel_size, stride,
            dilation, padding, activation)``.
        last: makes the layers from the decoder's last features to an image: ``last(inputs)``.
        refinement_sees_hole: shows the ones and the hole to the refinement too.
        decoder_width: ``width`` of the refinement's decoder; None for ``width``.
        attention: called as ``attention(features, mask)``, the mask at the resolution of the image;
            None for the variant's ``ContextualAttention``.

    Shape, Raises: see the subclasses.
    """

    def __init__(
        self,
        width: int,
        variant: Variant,
        conv: Make,
        last: Callable[[int], list[nn.Module]],
        refinement_sees_hole: bool,
        decoder_width: int | None,
        attention: ContextualAttention | None,
    ) -> None:
        super().__init__()
        outer = width if decoder_width is None else decoder_width
        for name, value in (("width", width), ("decoder_width", outer)):
            if value < 2 or value % 2:
                raise ValueError(f"{name}={value}, expected an even number of at least 2")
        mmagic = variant == "mmagic"
        if attention is None:
            attention = ContextualAttention(
                exclude_hole=mmagic,
                count_overlaps=mmagic,
                align_corners=variant == "tensorflow",
            )
        self.width = width
        self.multiple = 4 * attention.rate
        # At 1/4 of the resolution a reflection by 16 cells needs more than 16 cells.
        self.smallest = self.multiple + (4 * DILATIONS[-1] if mmagic else 0)
        self.refinement_sees_hole = refinement_sees_hole
        inputs = 5 if refinement_sees_hole else 3

        self.rough = nn.Sequential(
            *encoder(5, (1, 2, 2, 4, 4, 4), width, conv),
            *dilated(4 * width, conv),
            *decoder(4 * width, width, conv, last),
        )
        self.dilated_branch = nn.Sequential(
            *encoder(inputs, (1, 1, 2, 2, 4, 4), width, conv), *dilated(4 * width, conv)
        )
        before_attention = nn.ELU() if mmagic else nn.ReLU()
        self.attention_branch = nn.Sequential(
            *encoder(inputs, (1, 1, 2, 4, 4, 4), width, conv, before_attention)
        )
        self.attention = attention
        self.attention_tail = nn.Sequential(*(conv(4 * width, 4 * width) for _ in range(2)))
        self.decoder = nn.Sequential(*decoder(8 * width, outer, conv, last))

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
                f"an image of {height}×{width}: {type(self).__name__} needs sides that are "
                f"multiples of {self.multiple}, at least {self.smallest}; pad or resize the image"
            )


def padding_of(variant: Variant) -> Padding:
    """The padding of a variant's convolutions; a ``ValueError`` for an unknown variant."""
    if variant not in PADDING:
        raise ValueError(f"variant={variant!r}, expected one of {', '.join(PADDING)}")
    return PADDING[variant]


def encoder(
    inputs: int,
    multiples: tuple[int, ...],
    width: int,
    conv: Make,
    last_activation: nn.Module | None = None,
) -> list[nn.Module]:
    """Six convolutions to 1/4 of the resolution: the second and the fourth halve it."""
    c1, c2, c3, c4, c5, c6 = (width * multiple for multiple in multiples)
    return [
        conv(inputs, c1, 5),
        conv(c1, c2, stride=2),
        conv(c2, c3),
        conv(c3, c4, stride=2),
        conv(c4, c5),
        conv(c5, c6, activation=last_activation),
    ]


def dilated(channels: int, conv: Make) -> list[nn.Module]:
    """Four convolutions of growing dilation."""
    return [conv(channels, channels, dilation=d) for d in DILATIONS]


def decoder(
    inputs: int, width: int, conv: Make, last: Callable[[int], list[nn.Module]]
) -> list[nn.Module]:
    """From 1/4 of the resolution to an image in [-1, 1]."""
    return [
        conv(inputs, 4 * width),
        conv(4 * width, 4 * width),
        nn.Upsample(scale_factor=2),
        conv(4 * width, 2 * width),
        conv(2 * width, 2 * width),
        nn.Upsample(scale_factor=2),
        conv(2 * width, width),
        conv(width, width // 2),
        *last(width // 2),
    ]
