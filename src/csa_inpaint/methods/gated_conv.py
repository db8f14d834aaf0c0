"""Gated convolution: the generator of DeepFill v2 (Yu et al., ICCV 2019, arXiv 1806.03589).

Two stages, as in CSA: a rough network fills the hole, and a second network with contextual
attention refines it. A gated convolution learns for every position and channel how much of a
feature passes.
"""

from functools import partial

import torch
from torch import Tensor, nn

from csa_inpaint.methods.deepfill import (
    DeepFillGenerator,
    PaddedConv2d,
    Padding,
    Variant,
    padding_of,
)
from csa_inpaint.networks.contextual_attention import ContextualAttention


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


class GatedConvGenerator(DeepFillGenerator):
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
        conv = partial(GatedConv2d, padding=padding_of(variant))
        mmagic = variant == "mmagic"

        def last(inputs: int) -> list[nn.Module]:
            if mmagic:
                return [conv(inputs, 3, activation=nn.Identity()), nn.Tanh()]
            return [PaddedConv2d(inputs, 3, padding=padding_of(variant)), nn.Tanh()]

        super().__init__(
            width,
            variant,
            conv,
            last,
            refinement_sees_hole=mmagic,
            decoder_width=decoder_width,
            attention=attention,
        )
