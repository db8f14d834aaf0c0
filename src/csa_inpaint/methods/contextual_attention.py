"""The generator of DeepFill v1 (Yu et al., CVPR 2018, arXiv 1801.07892).

Two stages, as in CSA: a rough network fills the hole, and a second network refines it, in which
contextual attention copies patches of the known region.
"""

from functools import partial

from torch import Tensor, nn

from csa_inpaint.methods.deepfill import (
    DeepFillGenerator,
    PaddedConv2d,
    Padding,
    Variant,
    padding_of,
)
from csa_inpaint.networks.contextual_attention import ContextualAttention


class ELUConv2d(PaddedConv2d):
    """A convolution and its activation, ELU by default.

    Args:
        inputs, outputs, kernel_size, stride, dilation, padding: see ``PaddedConv2d``.
        activation: of the output.

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
        super().__init__(inputs, outputs, kernel_size, stride, dilation, padding)
        self.activation = nn.ELU() if activation is None else activation

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.activation(super().forward(input))
        return output


class ContextualAttentionGenerator(DeepFillGenerator):
    """The two-stage generator of DeepFill v1: rough network, then refinement with two branches.

    One branch of the refinement has dilated convolutions, the other contextual attention; one
    decoder joins both. The gradient of the refined image flows into the rough network. Both images
    are cut off at -1 and 1.

    Args:
        width: output channels of the first convolution; even. The deepest layers have four times as
            many.
        variant: the implementation whose computation is followed and whose weights fit.
            ``symmetric``: zeros on both sides, as the PyTorch ports. ``tensorflow``: the authors'
            padding and sub-sampling. ``mmagic``: that project's networks, which pad by reflection,
            have ELU before the attention and leave the hole's keys out of the attention.
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
        width: int = 32,
        variant: Variant = "symmetric",
        attention: ContextualAttention | None = None,
    ) -> None:
        padding = padding_of(variant)

        def last(inputs: int) -> list[nn.Module]:
            return [PaddedConv2d(inputs, 3, padding=padding), nn.Hardtanh()]

        super().__init__(
            width,
            variant,
            partial(ELUConv2d, padding=padding),
            last,
            refinement_sees_hole=True,
            decoder_width=None,
            attention=attention,
        )
