"""Parts that the U-Nets and the discriminators share."""

import torch.nn.functional as F
from torch import Tensor, nn

INIT_STD = 0.02


def norm(channels: int, affine: bool = True) -> nn.InstanceNorm2d:
    """Instance norm without running statistics, eps 1e-5."""
    return nn.InstanceNorm2d(channels, affine=affine, eps=1e-5, track_running_stats=False)


def halve(inputs: int, outputs: int) -> nn.Conv2d:
    """4×4 convolution that halves height and width."""
    return nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1)


def double(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """4×4 transposed convolution that doubles height and width."""
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)


class DilatedHalve(nn.Conv2d):
    """4×4 convolution with stride 2, dilation 2 and padding 3, which halves height and width.

    All its taps fall on odd rows and columns, so it *is* a dense 4×4 convolution of
    ``x[..., 1::2, 1::2]``. Computed that way the result is the same and, on CPU, forward and
    backward together take a third to a ninth of the time of the dilated form.

    Shape: (B, channels, H, W) → (B, channels, H/2, W/2); H and W even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=4, stride=2, padding=3, dilation=2)

    def forward(self, input: Tensor) -> Tensor:
        # Output i sees input rows 2i-3, 2i-1, 2i+1, 2i+3, the odd rows i-2 … i+1.
        odd = F.pad(input[..., 1::2, 1::2], (2, 1, 2, 1))
        return F.conv2d(odd, self.weight, self.bias)


def init_weights(module: nn.Module) -> None:
    """Convolution weights from N(0, 0.02), biases zero; norms keep 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, INIT_STD)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def level_channels(width: int, depth: int) -> list[int]:
    """Channels after each of ``depth`` steps: doubling from ``width`` to at most ``8 · width``."""
    return [width * min(2**level, 8) for level in range(depth)]


def check_divisible(image: Tensor, depth: int) -> None:
    """Raise a ``ValueError`` unless ``depth`` halvings divide the image's height and width."""
    height, width = image.shape[-2:]
    multiple = 2**depth
    if height % multiple or width % multiple:
        raise ValueError(
            f"an image of {height}×{width} cannot be halved {depth} times: pad or resize it to "
            f"multiples of {multiple}, or build the model with a smaller depth"
        )
