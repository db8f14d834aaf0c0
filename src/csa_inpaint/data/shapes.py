"""Holes that are drawn: rectangles, brush strokes, borders, blobs. `masks` says what a mask is."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from csa_inpaint.data.masks import Mask, draw_until_partial, nonzero


class CenterMask:
    """A rectangular hole in the middle of the picture.

    Args:
        size: side of the hole, or (height, width): whole numbers are pixels, numbers below 1 a
            fraction of the picture's side.
    """

    def __init__(self, size: float | tuple[float, float] = 0.5) -> None:
        self.size = _pair(size)
        for side in self.size:
            _check_length("size", side)

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """The same mask every time."""
        rows, columns = _pixels(self.size[0], height), _pixels(self.size[1], width)
        if rows > height or columns > width or (rows == height and columns == width):
            raise ValueError(
                f"a central hole of {rows}x{columns} pixels leaves nothing of a {height}x{width} "
                "picture: choose a smaller mask.size"
            )
        top, left = (height - rows) // 2, (width - columns) // 2
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[top : top + rows, left : left + columns] = True
        return mask


class RectangleMask:
    """Rectangular holes of random size at random places.

    Args:
        size: (smallest, largest) side of a rectangle; whole numbers are pixels, numbers below 1 a
            fraction of the picture's side.
        count: (fewest, most) rectangles; they may overlap.
        margin: distance kept from the border, in pixels or as a fraction of the side.
    """

    def __init__(
        self,
        size: tuple[float, float] = (0.25, 0.5),
        count: tuple[int, int] = (1, 1),
        margin: float = 0,
    ) -> None:
        for side in size:
            _check_length("size", side)
        _check_range("size", size)
        _check_counts("count", count)
        if margin < 0:
            raise ValueError(f"margin={margin}: expected pixels or a fraction, 0 or more")
        self.size = size
        self.count = count
        self.margin = margin

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Draw the rectangles."""

        def draw() -> Mask:
            mask = np.zeros((height, width), dtype=np.bool_)
            for _ in range(rng.integers(self.count[0], self.count[1] + 1)):
                top, rows = self._interval(height, rng)
                left, columns = self._interval(width, rng)
                mask[top : top + rows, left : left + columns] = True
            return mask

        return draw_until_partial(draw, self)

    def _interval(self, side: int, rng: np.random.Generator) -> tuple[int, int]:
        low, high = (_pixels(length, side) for length in self.size)
        margin = _pixels(self.margin, side) if self.margin else 0
        room = side - 2 * margin
        if low > room:
            raise ValueError(
                f"a rectangle of {low} pixels does not fit into the {room} of a side of {side} "
                f"inside its margin of {margin}: choose a smaller mask.size or mask.margin"
            )
        length = int(rng.integers(low, min(high, room) + 1))
        return margin + int(rng.integers(room - length + 1)), length


class FreeformMask:
    """Brush strokes as of a hand that rubs something out: the vertex-and-angle brush.

    Yu et al., "Free-Form Image Inpainting with Gated Convolution" (ICCV 2019), §3.4. A stroke is a
    chain of straight segments with round joints; successive segments turn back on each other, by
    `angle` and by a full turn less `angle` in alternation. Lengths are relative to the picture, so
    one setting serves every size; the defaults are that paper's values for 256×256.

    Args:
        strokes: (fewest, most) strokes.
        vertices: (fewest, most) segments of a stroke.
        angle: (smallest, largest) angle of a segment, in radians.
        length: mean length of a segment, as a fraction of the picture's diagonal; its standard
            deviation is half of that, and it is at most twice as long.
        brush_width: (thinnest, thickest) stroke, as a fraction of the picture's short side.
    """

    def __init__(
        self,
        strokes: tuple[int, int] = (1, 4),
        vertices: tuple[int, int] = (4, 12),
        angle: tuple[float, float] = (4 / 15 * math.pi, 8 / 15 * math.pi),
        length: float = 0.125,
        brush_width: tuple[float, float] = (0.047, 0.157),
    ) -> None:
        _check_counts("strokes", strokes)
        _check_counts("vertices", vertices)
        _check_range("angle", angle)
        _check_range("brush_width", brush_width)
        if length <= 0:
            raise ValueError(f"length={length}: expected a positive fraction of the diagonal")
        if brush_width[0] <= 0:
            raise ValueError(f"brush_width={brush_width}: expected positive fractions of the side")
        self.strokes = strokes
        self.vertices = vertices
        self.angle = angle
        self.length = length
        self.brush_width = brush_width

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Draw the strokes."""

        def draw() -> Mask:
            canvas = Image.new("L", (width, height))
            pen = ImageDraw.Draw(canvas)
            mirror = rng.random(2) < 0.5
            for _ in range(rng.integers(self.strokes[0], self.strokes[1] + 1)):
                points, brush = self._stroke(height, width, rng)
                if mirror[0]:
                    points = [(x, height - y) for x, y in points]
                if mirror[1]:
                    points = [(width - x, y) for x, y in points]
                pen.line(points, fill=1, width=brush)
                for point in points:
                    pen.circle(point, brush / 2, fill=1)
            return nonzero(canvas)

        return draw_until_partial(draw, self)

    def _stroke(
        self, height: int, width: int, rng: np.random.Generator
    ) -> tuple[list[tuple[float, float]], int]:
        """The joints of a stroke as (x, y), and its width, in pixels."""
        mean_length = self.length * math.hypot(height, width)
        brush = max(1, round(rng.uniform(*self.brush_width) * min(height, width)))
        count = int(rng.integers(self.vertices[0], self.vertices[1] + 1))
        angles = rng.uniform(*self.angle, count)
        angles[::2] = 2 * math.pi - angles[::2]
        lengths = rng.normal(mean_length, mean_length / 2, count).clip(0, 2 * mean_length)
        right, down = lengths * np.cos(angles), lengths * np.sin(angles)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        points = [(x, y)]
        for dx, dy in zip(right.tolist(), down.tolist(), strict=True):
            x, y = min(max(x + dx, 0), width), min(max(y + dy, 0), height)
            points.append((x, y))
        return points, brush


class BorderMask:
    """The picture continues beyond what is known: holes along its borders (outpainting).

    Args:
        width: (thinnest, thickest) band, as a fraction of the side it is taken from; drawn for each
            border.
        sides: which borders: any of "left", "right", "top" and "bottom".
        count: (fewest, most) of these borders that are holes at a time; None takes all.
    """

    def __init__(
        self,
        width: tuple[float, float] = (0.125, 0.25),
        sides: Sequence[str] = ("left", "right", "top", "bottom"),
        count: tuple[int, int] | None = None,
    ) -> None:
        _check_range("width", width)
        if not 0 < width[0] <= width[1] < 0.5:
            raise ValueError(f"width={width}: expected fractions of a side between 0 and 0.5")
        unknown = set(sides) - {"left", "right", "top", "bottom"}
        if unknown or not sides:
            raise ValueError(f"sides={list(sides)}: expected some of left, right, top, bottom")
        if count is not None:
            _check_counts("count", count)
            if count[1] > len(sides):
                raise ValueError(f"count={count}: there are only {len(sides)} sides to choose from")
        self.width = width
        self.sides = tuple(sides)
        self.count = (len(sides), len(sides)) if count is None else count

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Draw the bands."""

        def draw() -> Mask:
            mask = np.zeros((height, width), dtype=np.bool_)
            count = rng.integers(self.count[0], self.count[1] + 1)
            for side in rng.choice(self.sides, count, replace=False):
                view = {"left": mask.T, "right": mask.T[::-1], "top": mask, "bottom": mask[::-1]}
                band = view[str(side)]
                band[: max(1, round(rng.uniform(*self.width) * len(band)))] = True
            return mask

        return draw_until_partial(draw, self)


class BlobMask:
    """Holes with the outline of an object: rounded shapes whose radius varies smoothly around them.

    Args:
        count: (fewest, most) blobs; they may overlap and touch the border.
        radius: (smallest, largest) mean radius, as a fraction of the picture's short side.
        irregularity: how far the outline departs from an ellipse, from 0 (not at all) to 1.
    """

    def __init__(
        self,
        count: tuple[int, int] = (1, 3),
        radius: tuple[float, float] = (0.1, 0.25),
        irregularity: float = 0.5,
    ) -> None:
        _check_counts("count", count)
        _check_range("radius", radius)
        if radius[0] <= 0:
            raise ValueError(f"radius={radius}: expected positive fractions of the short side")
        if not 0 <= irregularity <= 1:
            raise ValueError(f"irregularity={irregularity}: expected 0 to 1")
        self.count = count
        self.radius = radius
        self.irregularity = irregularity

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Draw the blobs."""

        def draw() -> Mask:
            canvas = Image.new("L", (width, height))
            pen = ImageDraw.Draw(canvas)
            for _ in range(rng.integers(self.count[0], self.count[1] + 1)):
                x, y = self._outline(rng)
                scale = rng.uniform(*self.radius) * min(height, width)
                x, y = rng.uniform(0, width) + scale * x, rng.uniform(0, height) + scale * y
                pen.polygon(np.stack([x, y], axis=1).ravel().tolist(), fill=1)
            return nonzero(canvas)

        return draw_until_partial(draw, self)

    def _outline(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Points (2, 64) around the origin at a mean distance of 1."""
        turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        order = np.arange(2, 7)[:, None]
        # Amplitudes fall with the order, so that the outline is smooth and never crosses itself.
        amplitude = self.irregularity * rng.uniform(0, 0.6, (5, 1)) / order
        waves = amplitude * np.cos(order * turn + rng.uniform(0, 2 * np.pi, (5, 1)))
        radius = 1 + waves.sum(axis=0)
        stretch = math.sqrt(rng.uniform(1, 1 + self.irregularity))
        x, y = radius * np.cos(turn) * stretch, radius * np.sin(turn) / stretch
        tilt = rng.uniform(0, 2 * np.pi)
        return np.stack(
            [x * math.cos(tilt) - y * math.sin(tilt), x * math.sin(tilt) + y * math.cos(tilt)]
        )


def _pair(size: float | Sequence[float]) -> tuple[float, float]:
    if isinstance(size, Sequence):
        if len(size) != 2:
            raise ValueError(f"size={size}: expected one number or (height, width)")
        return size[0], size[1]
    return size, size


def _pixels(length: float, side: int) -> int:
    return max(1, round(length * side)) if length < 1 else int(length)


def _check_length(name: str, length: float) -> None:
    if length <= 0 or (length >= 1 and length != int(length)):
        raise ValueError(
            f"{name}={length}: expected a whole number of pixels, or a fraction of the side below 1"
        )


def _check_range(name: str, limits: tuple[float, float]) -> None:
    if len(limits) != 2 or limits[0] > limits[1]:
        raise ValueError(f"{name}={limits}: expected (smallest, largest)")


def _check_counts(name: str, limits: tuple[int, int]) -> None:
    _check_range(name, limits)
    if limits[0] < 1:
        raise ValueError(f"{name}={limits}: expected whole numbers, at least 1")
