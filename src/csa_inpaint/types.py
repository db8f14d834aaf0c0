"""Data types that flow through the library. Only this file defines shapes, ranges and polarity.

- Images are float tensors (B, 3, H, W), RGB in [-1, 1].
- Masks are float tensors (B, 1, H, W), 0 or 1; **1 is the hole**, 0 is known.
- Feature masks have the same values and polarity, at the resolution of a feature map.
"""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """What the data modules yield and the LightningModule consumes."""

    image: Tensor  # (B, 3, H, W), the whole picture, with the truth inside the hole
    mask: Tensor  # (B, 1, H, W)
    path: list[str]  # B file names, for messages


class Features(NamedTuple):
    """The refinement network's features at one level, which the consistency loss compares."""

    encoder: Tensor  # (B, C, h, w), the CSA layer's output; without a layer, the norm's input
    decoder: Tensor  # (B, C, h, w), the decoder's features at the same level
    mask: Tensor  # (B, 1, h, w), the hole at the resolution of the features


class Inpainting(NamedTuple):
    """What the generator returns."""

    rough: Tensor  # (B, 3, H, W), first stage
    refined: Tensor  # (B, 3, H, W), second stage, every pixel generated
    composite: Tensor  # (B, 3, H, W), known pixels of the input, refined ones in the hole
    features: dict[int, Features]  # by level: halvings of the image

    @property
    def encoder_features(self) -> Tensor:
        """(B, C, h, w), the CSA layer's output, of a model with one level of features."""
        return self._only_level().encoder

    @property
    def decoder_features(self) -> Tensor:
        """(B, C, h, w), the decoder's features at the same level."""
        return self._only_level().decoder

    @property
    def feature_mask(self) -> Tensor:
        """(B, 1, h, w), the hole at the resolution of the features."""
        return self._only_level().mask

    def detach(self) -> "Inpainting":
        """The same values, cut from the graph."""
        features = {
            level: Features(*(value.detach() for value in values))
            for level, values in self.features.items()
        }
        return Inpainting(
            self.rough.detach(), self.refined.detach(), self.composite.detach(), features
        )

    def _only_level(self) -> Features:
        if len(self.features) != 1:
            raise ValueError(
                f"this model has features at levels {list(self.features)}, not at one: look each "
                "up in `features`"
            )
        (only,) = self.features.values()
        return only
