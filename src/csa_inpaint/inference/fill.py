"""Filling the holes of a picture of any size, region by region."""

import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from csa_inpaint.data.masks import Mask
from csa_inpaint.inference.blend import Meet, fade, soften
from csa_inpaint.inference.detail import complete
from csa_inpaint.inference.holes import (
    Box,
    Labels,
    Region,
    Strategy,
    group_cell,
    own_hole,
    plan,
    windows,
)
from csa_inpaint.inference.network import Network, is_out_of_memory
from csa_inpaint.inference.scale import any_pixel, enlarge, reduce

# Within how many cells of a border its two sides are compared (see ``soften``): a network's
# prediction, whose first cells may be better than the others, and detail.
WIDE, NARROW = 3.0, 1.0
JOIN = 12  # known cells around a region that its filling is compared with


class MemoryWarning(UserWarning):
    """A picture did not fit into memory at once and is filled in parts."""


class Manner(NamedTuple):
    """How pictures are filled."""

    size: int  # side of the images that the model was trained on, in pixels
    strategy: Strategy  # see ``plan``
    meet: Meet | None  # how a filling meets the known pixels, see ``BLENDS``
    detail: float  # share of the detail of the known parts that a filling gets, see ``complete``


def fill(network: Network, image: Tensor, hole: Mask, manner: Manner) -> None:
    """Fill the holes of a picture in place.

    Args:
        network: the trained model.
        image: the picture in [-1, 1]; what it holds inside the hole is replaced and never used.
        hole: True in the hole.
        manner: how the holes are filled.

    Shape: (3, H, W) in float32, (H, W)

    Warns:
        MemoryWarning: a whole picture does not fit into memory and is filled by ``crop``.
    """
    if manner.strategy != "full" or max(hole.shape) <= manner.size:
        _fill_regions(network, image, hole, manner)
        return
    needed, available = network.memory_needed(*hole.shape), network.memory_available()
    reason = ""
    if available is not None and needed > available:
        reason = f"it needs up to {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are free"
    else:
        try:
            _fill_regions(network, image, hole, manner)
            return
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = "an allocation failed"
    # Outside the handler: the error's traceback would keep the memory of the failed attempt.
    torch.cuda.empty_cache()
    warnings.warn(
        f"a picture of {hole.shape[1]}x{hole.shape[0]} pixels does not fit into memory at once "
        f"({reason}): it is filled with size_strategy=crop",
        MemoryWarning,
        stacklevel=3,
    )
    _fill_regions(network, image, hole, manner._replace(strategy="crop"))


def _fill_regions(network: Network, image: Tensor, hole: Mask, manner: Manner) -> None:
    size, strategy, meet, detail = manner
    regions, labels = plan(hole, size, strategy)
    known = torch.from_numpy(~hole)[None]
    for first in range(0, len(regions), network.batch_size):
        with torch.autocast("cpu", enabled=False):  # the caller's is for the network alone
            views = [
                _look(region, image, known, hole, labels, group_cell(size), detail)
                for region in regions[first : first + network.batch_size]
            ]
        predicted = network(
            [view.cells[:, *window.slices] for view in views for window in view.windows],
            [view.known[:, *window.slices] for view in views for window in view.windows],
        )
        for view in views:
            own, predicted = predicted[: len(view.windows)], predicted[len(view.windows) :]
            with torch.autocast("cpu", enabled=False):
                box, pixels = _join(view, own, image, known, meet, detail)
            filled = own_hole(hole, labels, group_cell(size), view.region, box)
            part = image[:, *box.slices]
            part.copy_(torch.where(torch.from_numpy(filled), pixels, part))


class _View(NamedTuple):
    """What is seen of a region: the cells of an area around it, and windows into them."""

    region: Region
    area: Box  # in cells of the picture
    cells: Tensor  # (3, h, w) of the area
    known: Tensor  # (1, h, w)
    hole: Tensor  # (1, h, w), True where a cell holds a part of the region's hole
    windows: list[Box]  # in cells of the area


def _look(
    region: Region,
    image: Tensor,
    known: Tensor,
    hole: Mask,
    labels: Labels,
    group: int,
    detail: float,
) -> _View:
    factor, size = region.factor, region.window
    picture = Box(0, 0, *hole.shape)
    grid = picture.cells(factor)
    covering = windows(region, hole.shape)
    area = Box(
        min(window.top for window in covering),
        min(window.left for window in covering),
        max(window.bottom for window in covering),
        max(window.right for window in covering),
    )
    if detail:  # more of the picture, to take it from
        area = area.grow(size // 2).meet(grid)
    pixels = area.times(factor).meet(picture)
    cells, seen = reduce(image[:, *pixels.slices], known[:, *pixels.slices], factor)
    own = torch.from_numpy(own_hole(hole, labels, group, region, pixels))[None]
    inside = any_pixel(own, factor)
    margin = (size - region.core) // 2
    needed = [
        window.within(area)
        for window in covering
        if (inside & ~seen)[:, *_core(window, margin, grid).meet(area).within(area).slices].any()
    ]
    return _View(region, area, cells, seen, inside, needed)


def _core(window: Box, margin: int, grid: Box) -> Box:
    """The part of a window that no other window sees better; one cell more, for rounding."""
    return Box(
        window.top + margin - 1 if window.top > 0 else 0,
        window.left + margin - 1 if window.left > 0 else 0,
        window.bottom - margin + 1 if window.bottom < grid.bottom else grid.bottom,
        window.right - margin + 1 if window.right < grid.right else grid.right,
    )


def _join(
    view: _View,
    predicted: list[Tensor],
    image: Tensor,
    known: Tensor,
    meet: Meet | None,
    detail: float,
) -> tuple[Box, Tensor]:
    """A box of the picture around the region's holes, and its pixels with the holes filled."""
    factor = view.region.factor
    picture = Box(0, 0, known.shape[-2], known.shape[-1])
    whole = Box(0, 0, view.area.height, view.area.width)
    generated = _combine(view, predicted)
    box = view.region.box.cells(factor).within(view.area).grow(JOIN).meet(whole)
    part = (slice(None), *box.slices)
    if meet is not None:
        generated[part] += meet(generated[part], view.cells[part], view.known[part], WIDE)
        generated[part] += fade(generated[part], view.cells[part], view.known[part])
    if factor == 1 and detail == 0:
        return box.outside(view.area), generated[part]

    pixels = view.area.times(factor).meet(picture)
    filled = torch.where(view.known, view.cells, generated)
    detailed = complete(
        filled, view.hole, image[:, *pixels.slices], known[:, *pixels.slices], factor, box, detail
    )
    out = box.outside(view.area).times(factor).meet(picture)
    if meet is not None:
        # Detail meets the known pixels at the scale of the cells, then at that of the pixels.
        cells = F.avg_pool2d(detailed[None], factor)[0]
        detailed += enlarge(meet(cells, view.cells[part], view.known[part], NARROW), factor)
    detailed = detailed[:, : out.height, : out.width]
    if meet is not None:
        detailed += soften(detailed, image[:, *out.slices], known[:, *out.slices], NARROW)
    return out, detailed


def _combine(view: _View, predicted: list[Tensor]) -> Tensor:
    """The windows' predictions as one; a window counts less near its edge, where others overlap."""
    margin = (view.region.window - view.region.core) // 2
    total = torch.zeros_like(view.cells)
    weights = torch.zeros_like(view.cells[:1])
    for window, prediction in zip(view.windows, predicted, strict=True):
        weight = _ramp(window.height, margin)[:, None] * _ramp(window.width, margin)
        total[:, *window.slices] += weight * prediction
        weights[:, *window.slices] += weight
    mean = view.cells.masked_fill(~view.known, 0).sum((1, 2), keepdim=True)
    mean = mean / view.known.sum().clamp_min(1)
    return torch.where(weights > 0, total / weights.clamp_min(1e-6), mean)


def _ramp(length: int, margin: int) -> Tensor:
    """The weights of a window's cells along an axis: they rise over the overlap of windows."""
    cells = torch.arange(length) + 0.5
    return (torch.minimum(cells, length - cells) / max(2 * margin, 1)).clamp(max=1)
