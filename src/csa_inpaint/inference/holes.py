"""Where the holes of a picture lie, how large they are, and which windows cover them."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import numpy.typing as npt

from csa_inpaint.data.masks import Mask

Labels = npt.NDArray[np.int64]
Strategy = Literal["crop", "resize", "full"]


class Box(NamedTuple):
    """A rectangle of pixels; the ends are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """The index of the box in an array (H, W)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def union(self, other: "Box") -> "Box":
        """The smallest box that holds both."""
        return Box(*map(min, self[:2], other[:2]), *map(max, self[2:], other[2:]))

    def within(self, other: "Box") -> "Box":
        """The same box, counted from the corner of another."""
        top, left = other[:2]
        return Box(self.top - top, self.left - left, self.bottom - top, self.right - left)

    def outside(self, other: "Box") -> "Box":
        """The box that is this one when counted from the corner of another."""
        top, left = other[:2]
        return Box(self.top + top, self.left + left, self.bottom + top, self.right + left)

    def times(self, factor: int) -> "Box":
        """The box on a map that is larger by this factor."""
        return Box(*(edge * factor for edge in self))

    def cells(self, factor: int) -> "Box":
        """The smallest box that holds this one, on a map that is smaller by this factor."""
        return Box(
            self.top // factor,
            self.left // factor,
            -(-self.bottom // factor),
            -(-self.right // factor),
        )

    def meet(self, other: "Box") -> "Box":
        """What both have in common."""
        return Box(*map(max, self[:2], other[:2]), *map(min, self[2:], other[2:]))

    def grow(self, margin: int) -> "Box":
        """The box with a margin on each side."""
        return Box(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin)


class Region(NamedTuple):
    """Holes that are filled together, at one scale.

    The network sees cells: squares of ``factor`` by ``factor`` pixels.
    """

    box: Box  # around the holes, in pixels
    groups: list[int]  # numbers of the holes' groups
    factor: int  # pixels of a cell's side
    window: int  # cells of the side of what the network sees at a time
    core: int  # cells in the middle of a window that the window is there for


def label(occupied: Mask) -> Labels:
    """Number the connected groups of a mask from 1 on, in raster order; diagonals connect.

    Each cell points to itself, then to the smallest cell that a neighbour points to, until nothing
    changes. Following two pointers at once keeps the number of rounds small for long groups.

    Shape: (H, W) → (H, W), 0 outside the mask.
    """
    height, width = occupied.shape
    cells = np.arange(occupied.size).reshape(height, width)
    one, other = [], []
    for rows, columns in ((0, 1), (1, 0), (1, 1), (1, -1)):
        first = slice(0, height - rows), slice(max(-columns, 0), width - max(columns, 0))
        second = slice(rows, height), slice(max(columns, 0), width + min(columns, 0))
        both = occupied[first] & occupied[second]
        one.append(cells[first][both])
        other.append(cells[second][both])
    a, b = np.concatenate(one), np.concatenate(other)
    roots = cells.ravel().copy()
    while (roots[a] != roots[b]).any():
        lowest = np.minimum(roots[a], roots[b])
        np.minimum.at(roots, roots[a], lowest)
        np.minimum.at(roots, roots[b], lowest)
        while (roots[roots] != roots).any():
            roots = roots[roots]
    labels = np.zeros(occupied.size, dtype=np.int64)
    inside = occupied.ravel()
    _, labels[inside] = np.unique(roots[inside], return_inverse=True)
    labels[inside] += 1
    return labels.reshape(height, width)


def coarse(hole: Mask, cell: int) -> Mask:
    """Which square cells of a mask hold a hole pixel; the last ones may be cut off."""
    height, width = hole.shape
    rows, columns = np.arange(0, height, cell), np.arange(0, width, cell)
    return np.logical_or.reduceat(np.logical_or.reduceat(hole, rows, axis=0), columns, axis=1)


def boxes(labels: Labels, hole: Mask, cell: int) -> list[Box]:
    """The box of each group, exact to the pixel.

    Args:
        labels: number of the group of each cell.
        hole: the mask.
        cell: side of a cell in pixels.
    """
    rows, columns = np.nonzero(hole)
    numbers = labels[rows // cell, columns // cell] - 1
    count = int(labels.max())
    top, left = np.full(count, hole.size), np.full(count, hole.size)
    bottom, right = np.zeros(count, dtype=int), np.zeros(count, dtype=int)
    np.minimum.at(top, numbers, rows)
    np.minimum.at(left, numbers, columns)
    np.maximum.at(bottom, numbers, rows + 1)
    np.maximum.at(right, numbers, columns + 1)
    return [Box(*map(int, edges)) for edges in zip(top, left, bottom, right, strict=True)]


def thickness(hole: Mask) -> int:
    """Side of the largest square that lies within the hole, in pixels."""
    sums = np.zeros((hole.shape[0] + 1, hole.shape[1] + 1), dtype=np.int64)
    sums[1:, 1:] = hole.cumsum(axis=0).cumsum(axis=1)
    fits, too_large = 0, min(hole.shape) + 1
    while too_large - fits > 1:
        side = (fits + too_large) // 2
        inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side]
        if (inside + sums[:-side, :-side] == side * side).any():
            fits = side
        else:
            too_large = side
    return fits


def plan(hole: Mask, size: int, strategy: Strategy) -> tuple[list[Region], Labels]:
    """Which holes are filled together, and at which scale.

    ``crop`` finds the connected groups of holes; holes that are closer than a sixteenth of the
    trained size count as one group. A group is reduced until half of a window holds its thickest
    part, as the holes of the training do, and not at all where it is thin. Small groups share a
    window where they fit into one. ``resize`` and ``full`` take all holes together.

    Args:
        hole: the mask.
        size: side of the images that the model was trained on, in pixels.
        strategy: ``"crop"``, ``"resize"`` (the whole picture at the trained size) or ``"full"``
            (the whole picture at its own size). A picture of the trained size or a smaller one is
            taken as it is.

    Returns:
        the regions, and the number of the group of each square of ``group_cell(size)`` pixels.
    """
    cell = group_cell(size)
    occupied = coarse(hole, cell)
    longest = max(hole.shape)
    if strategy != "crop" or longest <= size:
        labels = occupied.astype(np.int64)
        (box,) = boxes(labels, hole, cell)
        factor = -(-longest // size) if strategy == "resize" else 1
        window = -(-longest // factor)
        return [Region(box, [1], factor, window, core=window)], labels
    labels = label(occupied)
    regions = [
        _region(box, number, hole, labels, size)
        for number, box in enumerate(boxes(labels, hole, cell), 1)
    ]
    return _share_windows(regions), labels


def windows(region: Region, size: tuple[int, int]) -> list[Box]:
    """The windows that cover a region, in cells of the picture.

    Args:
        region: see ``plan``.
        size: height and width of the picture in pixels.
    """
    grid = Box(0, 0, *size).cells(region.factor)
    box, side = region.box.cells(region.factor), region.window
    return [
        Box(top, left, min(top + side, grid.bottom), min(left + side, grid.right))
        for top in spread(box.top, box.bottom, grid.bottom, side, region.core)
        for left in spread(box.left, box.right, grid.right, side, region.core)
    ]


def check_strategy(name: str) -> Strategy:
    """The strategy of that name, or a ``ValueError`` that lists the names."""
    for strategy in get_args(Strategy):
        if name == strategy:
            return cast(Strategy, strategy)
    raise ValueError(f"size_strategy={name!r}: expected {', '.join(get_args(Strategy))}")


def group_cell(size: int) -> int:
    """Side of the squares in which groups of holes are found, in pixels."""
    return max(size // 16, 1)


def own_hole(hole: Mask, labels: Labels, cell: int, region: Region, box: Box) -> Mask:
    """The holes of a region in a box of the picture; other regions' holes are left out."""
    rows = np.arange(box.top, box.bottom) // cell
    columns = np.arange(box.left, box.right) // cell
    own: Mask = hole[box.slices] & np.isin(labels, region.groups)[rows][:, columns]
    return own


def _region(box: Box, number: int, hole: Mask, labels: Labels, size: int) -> Region:
    alone = Region(box, [number], 1, size, size)
    own = own_hole(hole, labels, group_cell(size), alone, box)
    # There is nothing to fill a hole from beyond the edge of the picture. A hole there is as thick
    # as the hole and its mirror image.
    outside = [
        (end - start if start == 0 else 0, end - start if end == length else 0)
        for start, end, length in zip(box[:2], box[2:], hole.shape, strict=True)
    ]
    thick = thickness(np.pad(own, outside, mode="symmetric"))
    factor = min(-(-2 * thick // size), -(-max(hole.shape) // size))
    # Thin holes need less context, so that fewer windows cover them.
    margin = min(max(thick // factor // 2, size // 8), size // 4)
    return alone._replace(factor=factor, core=size - 2 * margin)


def _share_windows(regions: list[Region]) -> list[Region]:
    """Join regions at the picture's own scale that fit into the core of one window."""
    shared: list[Region] = []
    waiting = sorted(regions, key=lambda region: region.box)
    while waiting:
        first, *waiting = waiting
        left: list[Region] = []
        for index, other in enumerate(waiting):
            if other.box.top >= first.box.top + first.core:  # and all that follow
                left += waiting[index:]
                break
            box = first.box.union(other.box)
            core = min(first.core, other.core)
            if first.factor == other.factor == 1 and max(box.height, box.width) <= core:
                groups = first.groups + other.groups
                first = first._replace(box=box, groups=groups, core=core)
            else:
                left.append(other)
        shared.append(first)
        waiting = left
    return shared


def spread(start: int, end: int, length: int, window: int, core: int) -> list[int]:
    """Where windows start along one axis, so that their cores cover an interval.

    Args:
        start: first pixel of the interval.
        end: pixel after the last one.
        length: of the axis; windows lie within it where it is long enough.
        window: length of a window.
        core: length of the middle of a window that the window is there for.
    """
    if length <= window:
        return [0]
    if end - start <= core:
        starts: Sequence[Any] = [(start + end - window) / 2]
    else:
        margin = (window - core) / 2
        count = -(-(end - start) // core)
        starts = np.linspace(start - margin, end + margin - window, count).tolist()
    return sorted({min(max(round(value), 0), length - window) for value in starts})
