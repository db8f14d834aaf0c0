"""Partial convolution: the U-Net of Liu et al. (ECCV 2018, arXiv 1804.07723).

A partial convolution looks at the known cells of its window only, and passes on which cells are
known by then. The hole shrinks from layer to layer, and the network needs no adversary.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csa_inpaint.methods.generator import InpaintingGenerator, check_pair
from csa_inpaint.networks.blocks import check_divisible, level_channels
from csa_inpaint.networks.unet import check_depth
from csa_inpaint.types import Inpainting

KERNELS = (7, 5, 5)  # of the encoder's first levels; 3 below


class PartialConv2d(nn.Conv2d):
    """A convolution over the known cells, with the mask of what is known behind it (eq. 1 and 2).

    With n the sum of the mask over the window, a position with a known cell in its window becomes
    ``W · (x ⊙ valid) · size / n + b``, where size is the number of the window's cells. A position
    without one becomes 0, also with a bias. The window keeps its full size at the border, where
    the cells outside count as a hole. No gradient flows through the mask.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel_size: side of the kernel.
        stride, padding, dilation, bias: as those of ``torch.nn.Conv2d``.

    Shape:
        - x: (B, inputs, H, W).
        - valid: (B, 1, H, W), (1, 1, H, W) or (B, inputs, H, W), **1 where x is known**, 0 in the
          hole; None where all of x is known.
        - returns (B, outputs, h, w) in the dtype of a convolution, and the new mask, 1 where the
          window held a known cell: with one channel, or with ``outputs`` equal channels where
          ``valid`` has as many channels as x. The window's cells are counted in float32, so the
          count is exact in half precision too.

    Raises:
        ValueError: for a mask whose shape does not fit.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, kernel_size, stride, padding, dilation, bias=bias)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(  # type: ignore[override]  # the mask travels with the features
        self, x: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if valid is None:
            valid = torch.ones_like(x[:1, :1])
        else:
            self._check(x, valid)
            x = x * valid
        many = valid.shape[1] == self.in_channels
        known, scale = self._window(valid)
        output = F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation)
        scaled = output * scale
        if self.bias is not None:
            scaled = scaled + self.bias[:, None, None] * known
        updated = known.expand(-1, self.out_channels, -1, -1) if many else known
        return scaled.to(output.dtype), updated.to(valid.dtype)

    @torch.no_grad()
    def _window(self, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Whether a window holds a known cell, and its size divided by their number or 0."""
        ones = torch.ones(1, 1, *self.kernel_size, device=valid.device)
        with torch.autocast(valid.device.type, enabled=False):
            cells = valid.float().sum(1, keepdim=True)
            count = F.conv2d(cells, ones, None, self.stride, self.padding, self.dilation)
        known = (count > 0).float()
        return known, known * valid.shape[1] * ones.numel() / count.clamp(min=1)

    def _check(self, x: Tensor, valid: Tensor) -> None:
        batch, channels, height, width = x.shape
        if (
            valid.dim() != 4
            or valid.shape[0] not in (batch, 1)  # a traced batch equals itself, of whatever size
            or valid.shape[1] not in (1, channels)
            or valid.shape[2:] != (height, width)
        ):
            raise ValueError(
                f"valid has shape {tuple(valid.shape)}, features of shape {tuple(x.shape)} need "
                f"({batch} or 1, 1 or {channels}, {height}, {width})"
            )


class Level(nn.Module):
    """Partial convolution, batch norm where there is one, activation.

    Shape: features and mask of as many channels → the same at the level's resolution.
    """

    def __init__(
        self, conv: PartialConv2d, norm: bool = True, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels) if norm else nn.Identity()
        self.activation = activation if activation is not None else nn.Identity()

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        x, valid = self.conv(x, valid)
        return self.activation(self.norm(x)), valid


class PartialConvGenerator(InpaintingGenerator):
    """The U-Net of partial convolutions, one stage (paper, appendix).

    The masks have a channel for each channel of the features. The decoder doubles features and
    masks and joins them with those of the encoder's level above, at last with the input itself.

    Args:
        width: channels of the first level; the deepest levels have eight times as many.
        depth: halvings: 7 for images of 256, 8 for those of 512.
        first_bias: a bias in the first convolution, as mmagic's networks have; the paper's network
            has biases in the last convolution only.
        imagenet_norm: the network sees and makes images that are normalised by ImageNet's mean and
            deviation, as those of the port that most projects train with.

    Shape:
        - image: (B, 3, H, W) in [-1, 1]; the pixels inside the hole are never seen.
        - mask: (B, 1, H, W), 1 in the hole.
        - returns ``Inpainting`` without features, whose rough and refined image are the same; H and
          W multiples of ``2 ** depth``. The image is not bounded.

    Raises:
        ValueError: for a depth below 2, an input size that ``depth`` does not divide, shapes that
            do not fit, and for a batch whose deepest level is a single value, in training.
    """

    refines = False
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        width: int = 64,
        depth: int = 7,
        first_bias: bool = False,
        imagenet_norm: bool = False,
    ) -> None:
        super().__init__()
        check_depth(depth)
        self.width = width
        self.depth = depth
        self.multiple = 2**depth
        channels = level_channels(width, depth)
        self.encoder = nn.ModuleList()
        for level, (outer, inner) in enumerate(pairwise([3, *channels])):
            size = KERNELS[level] if level < len(KERNELS) else 3
            bias = first_bias and level == 0
            conv = PartialConv2d(outer, inner, size, 2, size // 2, bias=bias)
            self.encoder.append(Level(conv, norm=level > 0, activation=nn.ReLU()))
        self.decoder = nn.ModuleList()
        for outer, inner in reversed(list(pairwise(channels))):
            conv = PartialConv2d(inner + outer, outer, 3, padding=1, bias=False)
            self.decoder.append(Level(conv, activation=nn.LeakyReLU(0.2)))
        self.decoder.append(Level(PartialConv2d(width + 3, 3, 3, padding=1), norm=False))
        self.imagenet_norm = imagenet_norm
        # Mean and deviation of images in [-1, 1].
        for name, values in (("mean", (-0.03, -0.088, -0.188)), ("std", (0.458, 0.448, 0.45))):
            value = torch.tensor(values)[:, None, None]
            self.register_buffer(name, value, persistent=False)

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        check_pair(image, mask)
        check_divisible(image, self.depth)
        if self.training and image[:, 0].numel() == self.multiple**2:
            raise ValueError(
                f"a batch of one image of {self.multiple}×{self.multiple} leaves a single value at "
                f"depth={self.depth}, which batch norm cannot normalise: train on larger batches "
                "or images, or build the model with a smaller depth"
            )
        hole = mask > 0.5
        seen = (image - self.mean) / self.std if self.imagenet_norm else image
        x, valid = seen.masked_fill(hole, 0), (~hole).to(image.dtype).expand_as(image)
        skips = []
        for level in self.encoder:
            skips.append((x, valid))
            x, valid = level(x, valid)
        for level in self.decoder:
            joined = zip((F.interpolate(x, scale_factor=2), F.interpolate(valid, scale_factor=2)),
                         skips.pop(), strict=True)  # fmt: skip
            x, valid = level(*(torch.cat(pair, dim=1) for pair in joined))
        if self.imagenet_norm:
            x = x * self.std + self.mean
        return Inpainting(x, x, torch.where(hole, x.to(image.dtype), image), {})
