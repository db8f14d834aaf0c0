"""The two discriminators of the paper (Sec. 3.3)."""

from pathlib import Path

from torch import Tensor, nn

from csa_inpaint.networks.blocks import init_weights, norm
from csa_inpaint.weights.released import (
    FEATURE_LAYERS,
    PATCH_LAYERS,
    first_weight,
    load_into,
)


class PatchDiscriminator(nn.Sequential):
    """70×70 PatchGAN on images.

    Args:
        width: channels of the first convolution.

    Shape: (B, 3, H, W) → (B, 1, H/8 - 2, W/8 - 2) logits; H, W ≥ 24.

    Raises:
        ValueError: for smaller images.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            norm(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1),
            norm(4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 8 * width, 4, stride=1, padding=1),
            norm(8 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(8 * width, 1, 4, stride=1, padding=1),
        )
        init_weights(self)

    def forward(self, input: Tensor) -> Tensor:
        if min(input.shape[-2:]) < 24:  # the last norm needs more than one value
            height, width = input.shape[-2:]
            raise ValueError(
                f"the patch discriminator judges images of at least 24×24, not {height}×{width}: "
                "choose a larger data.size, or leave the patch adversary out"
            )
        logits: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return logits


class FeaturePatchDiscriminator(nn.Sequential):
    """Patch discriminator on VGG-16 pool3 features; all output maps are logits.

    Args:
        channels: channels of the features, 256 for VGG-16 pool3.
        width: channels of every convolution here.
        strides: of the three convolutions; (2, 1, 1) in the paper's figure, (2, 2, 2) in the
            released code.

    Shape: (B, channels, h, w) → (B, width, h/2 - 2, w/2 - 2) with the default strides; h, w ≥ 6.

    Raises:
        ValueError: for features that are too small for the three convolutions.
    """

    def __init__(
        self, channels: int = 256, width: int = 512, strides: tuple[int, int, int] = (2, 1, 1)
    ) -> None:
        first, second, third = strides
        super().__init__(
            nn.Conv2d(channels, width, 4, stride=first, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 4, stride=second, padding=1),
            norm(width, affine=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 4, stride=third, padding=1),
        )
        init_weights(self)
        # The norm needs more than one value, so the second convolution must leave two rows.
        self.smallest = 2 + first * (1 + second)

    def forward(self, input: Tensor) -> Tensor:
        if min(input.shape[-2:]) < self.smallest:
            height, width = input.shape[-2:]
            raise ValueError(
                f"the feature-patch discriminator judges features of at least {self.smallest}×"
                f"{self.smallest}, images of {8 * self.smallest}×{8 * self.smallest}, not of "
                f"{8 * height}×{8 * width}: choose a larger data.size, or leave the feature "
                "adversary out (adversary=[patch])"
            )
        logits: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return logits


def load_patch_discriminator(path: str | Path) -> PatchDiscriminator:
    """The released patch discriminator, ``<epoch>_net_D.pth``; raises as ``load_into``."""
    name = "patch discriminator"
    network = PatchDiscriminator(len(first_weight(path, "model.0.weight", name)))
    load_into(network, PATCH_LAYERS, path, name)
    return network


def load_feature_discriminator(path: str | Path) -> FeaturePatchDiscriminator:
    """The released feature discriminator, ``<epoch>_net_F.pth``; raises as ``load_into``."""
    name = "feature discriminator"
    width, channels = first_weight(path, "model.0.weight", name).shape[:2]
    network = FeaturePatchDiscriminator(channels, width, strides=(2, 2, 2))
    load_into(network, FEATURE_LAYERS, path, name)
    return network
