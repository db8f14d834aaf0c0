"""Perceptual loss on the directions of VGG-16's features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from csa_inpaint.losses.step import Step
from csa_inpaint.losses.terms import Judged, LossTerm, check_image


def direction_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Squared distance of the directions of two feature maps, the mean over positions.

    Each position's features are divided by their norm, as in LPIPS without its learned weights
    (Zhang et al., "The unreasonable effectiveness of deep features", CVPR 2018, Eq. 1), so that
    layers of any magnitude count alike. The value lies between 0 and 4.

    Shape: two (B, C, h, w) → scalar.
    """
    return (direction(prediction) - direction(truth)).square().sum(1).mean()


def direction(features: Tensor) -> Tensor:
    """Features divided by their norm over the channels, in float32."""
    features = features.float()
    return features / (features.square().sum(1, keepdim=True) + 1e-10).sqrt()


class FeatureDirection(LossTerm):
    """Directions of VGG-16's features of a generated image against those of the truth.

    Args:
        name, weight: see ``LossTerm``.
        image: which image is compared.
        levels: halvings of the image at which VGG-16's last ReLU is compared: 0 is relu1_2, 1 is
            relu2_2 and 2 is relu3_3. The term is the mean over the levels.

    Raises:
        ValueError: for an unknown image, and for levels outside 0 … 2.
    """

    def __init__(
        self,
        name: str,
        weight: float = 1.0,
        image: Judged = "composite",
        levels: Sequence[int] = (0, 1, 2),
    ) -> None:
        super().__init__(name, weight)
        check_image(name, image)
        if not levels or not all(0 <= level <= 2 for level in levels):
            raise ValueError(
                f"{name}.levels={list(levels)}, expected some of 0 (relu1_2), 1 (relu2_2) and "
                "2 (relu3_3)"
            )
        self.image = image
        self.levels = tuple(levels)

    def vgg_levels(self, generator: nn.Module) -> tuple[int, ...]:
        return self.levels

    def loss(self, step: Step) -> Tensor:
        features = step.features(getattr(step.out, self.image)).relu
        losses = [direction_loss(features[n], step.truth.relu[n]) for n in self.levels]
        return torch.stack(losses).mean()
