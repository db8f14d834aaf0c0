"""The two discriminators (paper, Sec. 3.3)."""

from torch import nn

from csa_inpaint.networks.blocks import init_weights, norm


class PatchDiscriminator(nn.Sequential):
    """70×70 PatchGAN on images.

    Args:
        width: channels of the first convolution.

    Shape: (B, 3, H, W) → (B, 1, H/8 - 2, W/8 - 2) logits; H, W ≥ 32.
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


class FeaturePatchDiscriminator(nn.Sequential):
    """Patch discriminator on VGG-16 pool3 features; all output maps are logits.

    Args:
        channels: channels of the features, 256 for VGG-16 pool3.
        width: channels of every convolution here.
        strides: of the three convolutions; (2, 1, 1) is the paper's figure, (2, 2, 2) the
            released code.

    Shape: (B, channels, h, w) → (B, width, h/2 - 2, w/2 - 2) with the default strides; h, w ≥ 8.
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
