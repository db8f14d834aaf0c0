"""What flows through the library. Shapes, ranges and mask polarity are said here, once.

- Images are float tensors (B, 3, H, W), RGB in [-1, 1].
- Masks are float tensors (B, 1, H, W), 0 or 1; **1 is the hole**, 0 is known.
- Feature masks are the same at the resolution of a feature map.
"""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """What the data modules yield and the LightningModule consumes."""

    image: Tensor  # (B, 3, H, W), the whole picture: the truth inside the hole too
    mask: Tensor  # (B, 1, H, W)
    path: list[str]  # B file names, for messages


class Inpainting(NamedTuple):
    """What the two-stage generator returns."""

    rough: Tensor  # (B, 3, H, W), first stage
    refined: Tensor  # (B, 3, H, W), second stage, every pixel generated
    composite: Tensor  # (B, 3, H, W), known pixels of the input, refined ones in the hole
    encoder_features: Tensor  # (B, C, h, w), the CSA layer's output
    decoder_features: Tensor  # (B, C, h, w), its counterpart in the decoder
    feature_mask: Tensor  # (B, 1, h, w), the hole at the resolution of those features

    def detach(self) -> "Inpainting":
        """The same values, cut from the graph."""
        return Inpainting(*(value.detach() for value in self))
