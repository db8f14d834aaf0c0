"""Holes that cover a given share of the picture, without trial and error."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from csa_inpaint.data.masks.generator import (
    MAX_DRAWS,
    Mask,
    MaskGenerator,
    Ratio,
    described,
)

# After so many steps a hole's size is right to a few pixels; more steps only cost time.
_STEPS = 8

# A hole is near enough to the share that was drawn for it within this share of the picture.
_NEAR = 0.01


class HoleSize(NamedTuple):
    """How many pixels a hole may have, and how many it has if possible."""

    lowest: int
    highest: int
    target: int

    def fits(self, pixels: int) -> bool:
        """Whether a hole of so many pixels is within the limits."""
        return self.lowest <= pixels <= self.highest


class MadeToMeasure(MaskGenerator):
    """A kind of mask that draws a hole of a wanted size."""

    @abstractmethod
    def of_size(
        self, hole: HoleSize, height: int, width: int, rng: np.random.Generator
    ) -> Mask | None:
        """Draw a mask with a hole of the given size; None where this draw does not allow it.

        Args:
            hole: the pixels of the hole.
            height: rows of the mask, in pixels.
            width: columns of the mask, in pixels.
            rng: source of randomness; the same state gives the same mask.

        Shape:
            (height, width), True in the hole

        Raises:
            BadMaskError: a mask file cannot be used; another call may take another file.
        """

    def largest(self, height: int, width: int) -> int:
        """Pixels of the largest hole: all but one, where the settings do not limit it."""
        return height * width - 1

    def of_ratio(self, ratio: Ratio) -> MaskGenerator:
        """Masks of this kind whose shapes are scaled or repeated until they cover the share."""
        return _Measured(self, ratio)


class _Measured(MaskGenerator):
    """Masks made to measure; the wanted sizes are spread evenly over the range.

    Args:
        kind: draws the masks.
        ratio: (low, high) share of the picture, both included.
    """

    def __init__(self, kind: MadeToMeasure, ratio: Ratio) -> None:
        self.kind = kind
        self.ratio = ratio

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        lowest, highest = hole_limits(self.ratio, height, width)
        largest = self.kind.largest(height, width)
        if largest < lowest:
            raise ValueError(
                f"{described(self.kind)} has no hole of more than "
                f"{largest / (height * width):.4g} of a {height}x{width} picture: choose a smaller "
                f"data.hole_ratio than {list(self.ratio)}, or change the mask's own settings"
            )
        highest = min(highest, largest)
        near = math.ceil(_NEAR * height * width)
        for _ in range(MAX_DRAWS):
            target = int(rng.integers(lowest, highest + 1))
            hole = HoleSize(max(lowest, target - near), min(highest, target + near), target)
            mask = self.kind.of_size(hole, height, width, rng)
            if mask is not None:
                return mask
        raise ValueError(
            f"{described(self.kind)} has no hole of {lowest} to {highest} pixels, which are "
            f"{self.ratio[0]:g} to {self.ratio[1]:g} of a {height}x{width} picture: widen "
            "data.hole_ratio or change the mask's own settings"
        )


class Scaled(NamedTuple):
    """A mask as it is at one scale, and the pixels of its hole."""

    scale: float
    mask: Mask
    pixels: int

    @classmethod
    def of(cls, scale: float, mask: Mask) -> "Scaled":
        """A mask drawn at a scale, its hole counted."""
        return cls(scale, mask, int(np.count_nonzero(mask)))


def enlarge(draw: Callable[[float], Mask], start: float, hole: HoleSize) -> tuple[Scaled, Scaled]:
    """Double the scale until the hole is large enough, then `narrow` it down.

    Args:
        draw: the mask at a scale; the hole grows with it beyond `hole.lowest`.
        start: the first scale, above 0.
        hole: the pixels of the hole.

    Returns:
        as `narrow`.
    """
    larger = Scaled.of(start, draw(start))
    smaller = Scaled(0.0, np.zeros_like(larger.mask), 0)
    while larger.pixels < hole.lowest:
        scale = 2 * larger.scale
        smaller, larger = larger, Scaled.of(scale, draw(scale))
    return narrow(draw, smaller, larger, hole)


def narrow(
    draw: Callable[[float], Mask], smaller: Scaled, larger: Scaled, hole: HoleSize
) -> tuple[Scaled, Scaled]:
    """Search the scale at which a hole has the given size.

    Args:
        draw: the mask at a scale.
        smaller: a mask whose hole has less than `hole.target` pixels.
        larger: a mask whose hole has at least `hole.lowest` pixels.
        hole: the pixels of the hole.

    Returns:
        twice the mask whose hole fits, where one was found; else the nearest ones, a smaller and a
        larger.
    """
    for step in range(_STEPS):
        if hole.fits(larger.pixels):
            return larger, larger
        if step % 2 == 0:  # areas grow with the square of lengths
            low, high = math.sqrt(smaller.pixels), math.sqrt(larger.pixels)
            share = (math.sqrt(hole.target) - low) / (high - low)
        else:  # halving makes progress where areas grow otherwise
            share = 0.5
        scale = smaller.scale + share * (larger.scale - smaller.scale)
        tried = Scaled.of(scale, draw(scale))
        if tried.pixels < hole.lowest:
            smaller = tried
        else:
            larger = tried
    return (larger, larger) if hole.fits(larger.pixels) else (smaller, larger)


def filled_up(smaller: Scaled, larger: Scaled, hole: HoleSize) -> Mask:
    """The mask that fits, or the smaller mask with those pixels of the larger that it lacks.

    Args:
        smaller: as `narrow` returns it.
        larger: as `narrow` returns it.
        hole: the pixels of the hole.
    """
    if hole.fits(smaller.pixels):
        return smaller.mask
    mask = smaller.mask.copy()
    mask.flat[np.flatnonzero(larger.mask & ~mask)[: hole.target - smaller.pixels]] = True
    return mask


def closest_rectangle(
    hole: HoleSize, wanted: tuple[float, float], rows: range, columns: range
) -> tuple[int, int] | None:
    """The rectangle of a given area whose sides are closest to those that are wanted.

    Args:
        hole: limits of the area, in pixels.
        wanted: height and width, in pixels.
        rows: heights to choose from.
        columns: widths to choose from.

    Returns:
        height and width; None where no rectangle of whole pixels has such an area.
    """
    heights = np.asarray(rows)
    narrowest = np.maximum(-(-hole.lowest // heights), columns.start)
    widest = np.minimum(hole.highest // heights, columns.stop - 1)
    possible = narrowest <= widest
    if not possible.any():
        return None
    heights, narrowest, widest = heights[possible], narrowest[possible], widest[possible]
    widths = np.clip(round(wanted[1]), narrowest, widest)
    best = np.argmin((heights - wanted[0]) ** 2 + (widths - wanted[1]) ** 2)
    return int(heights[best]), int(widths[best])


def hole_limits(ratio: Ratio, height: int, width: int) -> tuple[int, int]:
    """The fewest and most pixels of a hole that covers a share of a picture.

    Raises:
        ValueError: no number of pixels is in the range.
    """
    total = height * width
    rounding = 1e-9 * total  # 0.07 of 100 pixels are 7 pixels, not the 7.000000000000001 of floats
    lowest = max(math.ceil(ratio[0] * total - rounding), 1)
    highest = min(math.floor(ratio[1] * total + rounding), total - 1)
    if lowest > highest:
        raise ValueError(
            f"hole_ratio={ratio}: no hole of whole pixels covers such a share of a "
            f"{height}x{width} picture: widen the range"
        )
    return lowest, highest


def check_ratio(name: str, ratio: Ratio) -> None:
    """Refuse what is no range of shares.

    Raises:
        ValueError: it is not two numbers with 0 <= low < high <= 1.
    """
    if len(ratio) != 2 or not 0 <= ratio[0] < ratio[1] <= 1:
        raise ValueError(f"{name}={ratio}: expected (low, high) with 0 <= low < high <= 1")


def in_both(one: Ratio, other: Ratio) -> Ratio:
    """The shares that are in two ranges.

    Raises:
        ValueError: there are none.
    """
    both = max(one[0], other[0]), min(one[1], other[1])
    if both[0] >= both[1]:
        raise ValueError(
            f"no hole covers both {one[0]:g} to {one[1]:g} and {other[0]:g} to {other[1]:g} of the "
            "picture: choose a data.hole_ratio that overlaps the mask's own range"
        )
    return both
