"""The context encoder (Pathak et al., CVPR 2016, arXiv 1604.07379).

A bottleneck of one position holds all that the network keeps of the picture, without connections
around it. The first form predicts the central half of the picture, the second the whole picture.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from csa_inpaint.methods.generator import InpaintingGenerator, check_pair, fill_colour
from csa_inpaint.networks.blocks import init_weights, level_channels
from csa_inpaint.types import Inpainting

Region = Literal["center", "all"]

# The authors' code stores the mean colour in the order red, green, blue as given here; the order of
# ``csa_inpaint.methods.csa.FILL_RGB`` is the reverse.
FILL_RGB = (117, 104, 123)


class Window(NamedTuple):
    """The rows and columns of a picture that the network predicts."""

    rows: slice
    columns: slice


class ContextEncoderGenerator(InpaintingGenerator):
    """Encoder, bottleneck and decoder, one stage, without connections around the bottleneck.

    Args:
        width: channels of the first level.
        bottleneck: channels of the bottleneck.
        depth: halvings before the bottleneck, which covers a map of 4×4 with one position. 5 is for
            images of 128×128; larger multiples get a bottleneck of several positions.
        region: ``"center"`` predicts the central half of both sides, and leaves the rest of the
            refined image as it is; the hole must lie inside. ``"all"`` predicts the whole image
            through one more layer, for any hole (the authors' model for random regions).
        fill: RGB colour of 0 … 255 that hides the hole from the network.

    Shape:
        - image: (B, 3, H, W) in [-1, 1]; the pixels inside the hole are never seen.
        - mask: (B, 1, H, W), 1 in the hole.
        - returns ``Inpainting`` without features, whose rough and refined image are the same; H and
          W multiples of ``multiple``.

    Raises:
        ValueError: for another region, a depth below 3, an input size that is no multiple, a hole
            that reaches out of the central half, shapes that do not fit, and for a batch whose
            bottleneck is a single value, in training.
    """

    fill: Tensor
    refines = False

    def __init__(
        self,
        width: int = 64,
        bottleneck: int = 4000,
        depth: int = 5,
        region: Region = "center",
        fill: Sequence[float] = FILL_RGB,
    ) -> None:
        super().__init__()
        if region not in get_args(Region):
            raise ValueError(f"region={region!r}, expected one of {', '.join(get_args(Region))}")
        if depth < 3:
            raise ValueError(f"depth={depth}: the context encoder needs at least 3 halvings")
        self.width = width
        self.depth = depth
        self.region: Region = region
        self.multiple = 2 ** (depth + 2)
        channels = [width, *level_channels(width, depth - 1)]
        leaky = nn.LeakyReLU(0.2)
        self.encoder = nn.Sequential(nn.Conv2d(3, width, 4, 2, 1, bias=False), leaky)
        for outer, inner in pairwise(channels):
            self.encoder.append(nn.Conv2d(outer, inner, 4, 2, 1, bias=False))
            self.encoder.extend([nn.BatchNorm2d(inner), leaky])
        self.encoder.append(nn.Conv2d(channels[-1], bottleneck, 4, bias=False))
        self.encoder.extend([nn.BatchNorm2d(bottleneck), leaky])

        self.decoder = nn.Sequential(nn.ConvTranspose2d(bottleneck, channels[-1], 4, bias=False))
        up = channels[::-1] if region == "all" else channels[:0:-1]
        for inner, outer in pairwise([*up, 3]):
            self.decoder.extend([nn.BatchNorm2d(inner), nn.ReLU()])
            self.decoder.append(nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False))
        self.decoder.append(nn.Tanh())
        init_weights(self)
        self.register_buffer("fill", fill_colour(fill), persistent=False)

    def window(self, height: int, width: int) -> Window:
        """The part of a picture of this size that the network predicts."""
        if self.region == "all":
            return Window(slice(0, height), slice(0, width))
        return Window(slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4))

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        check_pair(image, mask)
        hole = mask > 0.5
        rows, columns = self.window(*image.shape[-2:])
        self._check(image, hole, rows, columns)
        filled = torch.where(hole, self.fill.to(image.dtype), image)
        refined = self.decoder(self.encoder(filled)).to(image.dtype)
        if self.region == "center":
            whole = filled.clone()
            whole[..., rows, columns] = refined
            refined = whole
        return Inpainting(refined, refined, torch.where(hole, refined, image), {})

    def _check(self, image: Tensor, hole: Tensor, rows: slice, columns: slice) -> None:
        height, width = image.shape[-2:]
        if height % self.multiple or width % self.multiple or min(height, width) == 0:
            raise ValueError(
                f"an image of {height}×{width}: a context encoder of depth={self.depth} needs sides"
                f" that are multiples of {self.multiple}; resize the image"
            )
        if self.region == "center":
            outside = hole.clone()
            outside[..., rows, columns] = False
            if outside.any():
                raise ValueError(
                    'a hole reaches out of the central half, which is all that region="center" '
                    'predicts: use mask=center, or a model with region="all"'
                )
        if self.training and image[:, 0].numel() == self.multiple**2:
            raise ValueError(
                f"a batch of one image of {height}×{width} leaves a single position in the "
                "bottleneck, which batch norm cannot normalise: train on larger batches"
            )
