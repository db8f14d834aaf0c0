"""Where the CSA layer takes a place of a filling from."""

from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from csa_inpaint.csa import CSALayer
from csa_inpaint.data.images import to_rgb
from csa_inpaint.data.masks import Mask
from csa_inpaint.inference.holes import Box, group_cell, plan, windows
from csa_inpaint.inference.network import Network
from csa_inpaint.inference.pictures import trained_side
from csa_inpaint.inference.scale import reduce
from csa_inpaint.training.module import Inpainter

MOST = 12  # sources that are told
LEAST = 0.005  # share of a source that is told


class Source(NamedTuple):
    """A known patch of features, and its share of a generated one."""

    box: Box  # in pixels of the picture
    share: float


class Place(NamedTuple):
    """A patch of features in the hole, and what the layer makes it of."""

    box: Box  # in pixels of the picture
    sources: list[Source]  # the largest share first; tiny ones are left out


@torch.no_grad()
def sources(
    model: Inpainter,
    image: Image.Image,
    hole: Mask,
    row: int,
    column: int,
    size: int | None = None,
) -> Place:
    """Ask the CSA layer where it takes one place of the hole from.

    The network sees the window of ``inpaint`` (``size_strategy="crop"``) in which the pixel lies
    furthest from the edges. A patch that the layer generates is a mixture of known patches (paper,
    Sec. 3.2); their shares add up to 1. A model with several CSA layers is asked at the finest.

    Args:
        model: trained.
        image: the picture.
        hole: True in the hole, of the picture's size.
        row: of a pixel in the hole.
        column: of the same pixel.
        size: side of the images that the model was trained on, in pixels; None as in ``inpaint``.

    Raises:
        ValueError: the pixel is not in the hole, or the model has no CSA layer.
    """
    height, width = hole.shape
    if not (0 <= row < height and 0 <= column < width and hole[row, column]):
        raise ValueError(f"row {row}, column {column} is not in the hole: choose a place inside it")
    side = trained_side(model, size)
    regions, labels = plan(hole, side, "crop")
    number = labels[row // group_cell(side), column // group_cell(side)]
    region = next(region for region in regions if number in region.groups)
    factor = region.factor
    y, x = row // factor, column // factor
    window = max(windows(region, (height, width)), key=lambda box: _depth(box, y, x))

    known = torch.from_numpy(~hole)[None]
    pixels = window.times(factor).meet(Box(0, 0, height, width))
    part = torch.from_numpy(np.asarray(to_rgb(image))[pixels.slices].astype(np.float32))
    cells = reduce(part.permute(2, 0, 1) / 127.5 - 1, known[:, *pixels.slices], factor)
    layer, features, mask = _attended(model, *cells)
    shares = layer(features, mask, return_attention=True)[1][0]  # (P, P)

    patches = _Patches(layer, features, window, -(-window.width // model.multiple) * model.multiple)
    index = patches.at(y, x)
    order = shares[index].argsort(descending=True)[:MOST].tolist()
    picture = Box(0, 0, height, width)
    return Place(
        patches.box(index).times(factor).meet(picture),
        [
            Source(patches.box(one).times(factor).meet(picture), float(shares[index, one]))
            for one in order
            if shares[index, one] >= LEAST
        ],
    )


def _depth(box: Box, y: int, x: int) -> int:
    """How far a cell lies from the edges of a window; negative outside."""
    return min(y - box.top, x - box.left, box.bottom - 1 - y, box.right - 1 - x)


def _attended(model: Inpainter, cells: Tensor, known: Tensor) -> tuple[CSALayer, Tensor, Tensor]:
    """The finest CSA layer of a model, and the features and the mask that it is given."""
    calls: list[tuple[CSALayer, Tensor, Tensor]] = []

    def keep(layer: Any, arguments: tuple[Tensor, Tensor], output: Tensor) -> None:
        calls.append((layer, *arguments))

    layers = [layer for layer in model.modules() if isinstance(layer, CSALayer)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        Network(model, 1, "eager")([cells], [known])
    finally:
        for hook in hooks:
            hook.remove()
    if not calls:
        raise ValueError("this model has no CSA layer, so there is no attention to show")
    return max(calls, key=lambda call: call[1].shape[-1])


class _Patches:
    """The layer's patches of a window, numbered in raster order.

    Args:
        layer: says how large its patches are.
        features: (1, C, h, w), what the layer was given.
        window: what the network saw, in cells of the picture.
        padded: width of the window with what the network's sizes need, in cells.
    """

    def __init__(self, layer: CSALayer, features: Tensor, window: Box, padded: int) -> None:
        self.size, self.stride = layer.patch_size, layer.stride
        self.window = window
        self.scale = padded // features.shape[-1]
        # The layer pads a map that its stride does not divide, unless the stride leaves gaps.
        pad = self.stride - 1 if self.stride <= self.size else 0
        self.rows, self.columns = (
            (length - self.size + pad) // self.stride + 1 for length in features.shape[-2:]
        )

    def at(self, y: int, x: int) -> int:
        """The number of the patch that begins at a cell of the picture or last before it."""
        step = self.scale * self.stride
        row = min((y - self.window.top) // step, self.rows - 1)
        column = min((x - self.window.left) // step, self.columns - 1)
        return row * self.columns + column

    def box(self, number: int) -> Box:
        """The cells of the picture that a patch lies over."""
        side = self.size * self.scale
        top = number // self.columns * self.stride * self.scale
        left = number % self.columns * self.stride * self.scale
        top = self.window.top + _mirrored(top, side, self.window.height)
        left = self.window.left + _mirrored(left, side, self.window.width)
        return Box(top, left, top + side, left + side)


def _mirrored(start: int, side: int, length: int) -> int:
    """Where a patch starts; one in the padding is the mirror image of one in the window."""
    return start if start < length else max(2 * length - 1 - start - side, 0)
