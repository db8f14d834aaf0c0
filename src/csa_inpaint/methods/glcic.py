"""GLCIC: globally and locally consistent completion (Iizuka et al., SIGGRAPH 2017)."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from csa_inpaint.methods.generator import InpaintingGenerator, check_pair, fill_colour
from csa_inpaint.types import Inpainting

Variant = Literal["paper", "port", "mmagic"]
MEAN_RGB = (124, 116, 104)  # of 255; about the mean colour of photographs


class Block(nn.Module):
    """A convolution, batch norm and ReLU.

    Args:
        conv: the convolution.
        relu_first: puts the ReLU before the norm.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, relu_first: bool = False) -> None:
        super().__init__()
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)
        self.relu_first = relu_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        output: Tensor = self.norm(x.relu()) if self.relu_first else self.norm(x).relu()
        return output


class GLCICGenerator(InpaintingGenerator):
    """The completion network, one stage (paper, Table 1).

    Args:
        width: channels of the first convolution; even. The deepest layers have four times as many.
        variant: the implementation whose computation is followed and whose weights fit.
            ``paper``: the image in [0, 1] less the mean colour, 0 in the hole; a sigmoid at the
            end. ``port``: the image in [0, 1] with the mean colour in the hole, and ReLU before
            batch norm. ``mmagic``: the image in [-1, 1], 0 in the hole, no biases before norms, and
            the output is cut off at -1 and 1.
        mean: mean RGB colour of the pictures, of 0 … 255; the variant ``mmagic`` has no use for it.

    Shape:
        - image: (B, 3, H, W) in [-1, 1]; the pixels inside the hole are never seen.
        - mask: (B, 1, H, W), 1 in the hole.
        - returns ``Inpainting`` without features, whose rough and refined image are the same; H and
          W multiples of 4.

    Raises:
        ValueError: for an odd width, an unknown variant, a size that is no multiple of 4, and
            shapes that do not fit.
    """

    mean: Tensor
    multiple = 4
    refines = False

    def __init__(
        self, width: int = 64, variant: Variant = "paper", mean: Sequence[float] = MEAN_RGB
    ) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width={width}, expected an even number of at least 2")
        if variant not in get_args(Variant):
            raise ValueError(f"variant={variant!r}, expected one of {', '.join(get_args(Variant))}")
        self.width = width
        self.variant: Variant = variant
        bias, relu_first = variant != "mmagic", variant == "port"
        layers: list[nn.Module] = []
        inputs = 4

        def add(outputs: int, size: int = 3, stride: int = 1, dilation: int = 1) -> None:
            nonlocal inputs
            padding = dilation * (size // 2)
            conv = nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=bias)
            layers.append(Block(conv, relu_first))
            inputs = outputs

        def double(outputs: int) -> None:
            nonlocal inputs
            conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)
            layers.append(Block(conv, relu_first))
            inputs = outputs

        add(width, 5)
        add(2 * width, stride=2)
        add(2 * width)
        add(4 * width, stride=2)
        add(4 * width)
        add(4 * width)
        for dilation in (2, 4, 8, 16):
            add(4 * width, dilation=dilation)
        add(4 * width)
        add(4 * width)
        double(2 * width)
        add(2 * width)
        double(width)
        add(width // 2)
        layers.append(nn.Conv2d(inputs, 3, 3, padding=1))
        self.layers = nn.Sequential(*layers)
        self.register_buffer("mean", fill_colour(mean), persistent=False)

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        check_pair(image, mask)
        height, width = image.shape[-2:]
        if height % 4 or width % 4 or min(height, width) == 0:
            raise ValueError(
                f"an image of {height}×{width}: GLCIC needs sides that are multiples of 4; pad or "
                "resize the image"
            )
        hole = mask > 0.5
        made = self.layers(torch.cat([self._hide(image, hole), hole.to(image.dtype)], dim=1))
        # [0, 1] becomes [-1, 1].
        made = made.clamp(-1, 1) if self.variant == "mmagic" else 2 * made.sigmoid() - 1
        return Inpainting(made, made, torch.where(hole, made.to(image.dtype), image), {})

    def _hide(self, image: Tensor, hole: Tensor) -> Tensor:
        if self.variant == "mmagic":
            return image.masked_fill(hole, 0)
        mean = self.mean.to(image.dtype)
        if self.variant == "port":
            return (torch.where(hole, mean, image) + 1) / 2
        return ((image - mean) / 2).masked_fill(hole, 0)
