"""Holes that are drawn: rectangles, brush strokes, borders, blobs."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from csa_inpaint.data.masks.generator import Mask, draw_until_partial
from csa_inpaint.data.masks.raster import nonzero
from csa_inpaint.data.masks.sizing import (
    HoleSize,
    MadeToMeasure,
    Scaled,
    closest_rectangle,
    enlarge,
    filled_up,
    narrow,
)

# Each further stroke is as many times as large as the one before, so that a few strokes cover any
# share.
_LARGER_STROKES = 1.3


class CenterMask(MadeToMeasure):
    """A rectangular hole in the middle of the picture.

    With a hole ratio, the rectangle is scaled to a random area of that range and keeps its shape.

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
        return _central(rows, columns, height, width)

    def of_size(
        self, hole: HoleSize, height: int, width: int, rng: np.random.Generator
    ) -> Mask | None:
        """The rectangle of this area whose shape is closest to the hole's."""
        shape = _pixels(self.size[0], height), _pixels(self.size[1], width)
        wanted = _scaled_sides(shape, hole.target, (height, width))
        found = closest_rectangle(hole, wanted, range(1, height + 1), range(1, width + 1))
        return None if found is None else _central(*found, height, width)


class RectangleMask(MadeToMeasure):
    """Rectangular holes of random size at random places.

    With a hole ratio, rectangles are drawn as without one and then scaled together.

    Args:
        size: (smallest, largest) side of a rectangle, both in pixels (whole numbers) or both as a
            fraction of the picture's side (below 1). A side is at most that of the picture.
        count: (fewest, most) rectangles; they may overlap.
        margin: distance kept from the border, in pixels or as a fraction of the side.
    """

    def __init__(
        self,
        size: tuple[float, float] = (0.25, 0.5),
        count: tuple[int, int] = (1, 1),
        margin: float = 0,
    ) -> None:
        _check_range("size", size)
        for side in size:
            _check_length("size", side)
        if (size[0] < 1) != (size[1] < 1):
            raise ValueError(
                f"size={size} is a fraction of the side and a number of pixels: give both below 1 "
                "or both in whole pixels"
            )
        _check_counts("count", count)
        if margin < 0:
            raise ValueError(f"margin={margin}: expected pixels or a fraction, 0 or more")
        self.size = size
        self.count = count
        self.margin = margin

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Draw the rectangles."""

        def draw() -> Mask:
            count = int(rng.integers(self.count[0], self.count[1] + 1))
            mask = np.zeros((height, width), dtype=np.bool_)
            for _ in range(count):
                top, rows = self._interval(height, rng)
                left, columns = self._interval(width, rng)
                mask[top : top + rows, left : left + columns] = True
            return mask

        return draw_until_partial(draw, self)

    def of_size(
        self, hole: HoleSize, height: int, width: int, rng: np.random.Generator
    ) -> Mask | None:
        """Draw rectangles at relative places and scale them together."""
        rooms = self._room(height), self._room(width)
        count = int(rng.integers(self.count[0], self.count[1] + 1))
        lengths = [[self._length(side, rng) for side in (height, width)] for _ in range(count)]
        places = rng.random((count, 2)).tolist()

        def draw(scale: float) -> Mask:
            mask = np.zeros((height, width), dtype=np.bool_)
            for sides, place in zip(lengths, places, strict=True):
                rows, columns = (
                    min(max(round(scale * length), 1), room)
                    for length, room in zip(sides, rooms, strict=True)
                )
                top = (height - rooms[0]) // 2 + round(place[0] * (rooms[0] - rows))
                left = (width - rooms[1]) // 2 + round(place[1] * (rooms[1] - columns))
                mask[top : top + rows, left : left + columns] = True
            return mask

        area = sum(rows * columns for rows, columns in lengths)
        fitting, _ = enlarge(draw, math.sqrt(hole.target / area), hole)
        return fitting.mask if hole.fits(fitting.pixels) else None

    def largest(self, height: int, width: int) -> int:
        """What the margins leave, and all but one pixel at most."""
        room = max(self._room(height), 0) * max(self._room(width), 0)
        return min(room, height * width - 1)

    def _interval(self, side: int, rng: np.random.Generator) -> tuple[int, int]:
        """Start and length of a rectangle's side."""
        length = self._length(side, rng)
        room = self._room(side)
        return (side - room) // 2 + int(rng.integers(room - length + 1)), length

    def _length(self, side: int, rng: np.random.Generator) -> int:
        low, high = (_pixels(length, side) for length in self.size)
        room = self._room(side)
        if low > room:
            raise ValueError(
                f"a rectangle of {low} pixels does not fit into the {room} of a side of {side} "
                f"inside its margin of {(side - room) // 2}: choose a smaller mask.size or "
                "mask.margin"
            )
        return int(rng.integers(low, min(high, room) + 1))

    def _room(self, side: int) -> int:
        """The pixels of a side that are within the margins."""
        return side - 2 * (_pixels(self.margin, side) if self.margin else 0)


class FreeformMask(MadeToMeasure):
    """Brush strokes as of a hand that rubs something out: the vertex-and-angle brush.

    Yu et al., "Free-Form Image Inpainting with Gated Convolution" (ICCV 2019), §3.4. A stroke is a
    chain of straight segments with round joints; successive segments turn back on each other, by
    `angle` and by a full turn less `angle` in alternation. Lengths are relative to the picture, so
    one setting serves every size; the defaults are that paper's values for 256×256.

    With a hole ratio, strokes are drawn until they cover the share. The last stroke is scaled to
    what is lacking. Where the random number of `strokes` does not cover the share, further strokes
    follow, each larger than the one before.

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
        _check_fractions("brush_width", brush_width)
        if not 0 < length <= 1:
            raise ValueError(
                f"length={length}: expected a fraction of the diagonal, above 0 and at most 1"
            )
        self.strokes = strokes
        self.vertices = vertices
        self.angle = angle
        self.length = length
        self.brush_width = brush_width

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Draw the strokes."""

        def draw() -> Mask:
            canvas = Image.new("L", (width, height))
            mirror = (rng.random(2) < 0.5).tolist()
            for _ in range(rng.integers(self.strokes[0], self.strokes[1] + 1)):
                canvas = self._stroke(height, width, mirror, rng).painted(canvas)
            return nonzero(canvas)

        return draw_until_partial(draw, self)

    def of_size(self, hole: HoleSize, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Draw strokes until the hole is large enough; scale the last one to what is lacking."""
        mirror = (rng.random(2) < 0.5).tolist()
        count = int(rng.integers(self.strokes[0], self.strokes[1] + 1))
        canvas = Image.new("L", (width, height))
        for number in itertools.count(1):
            stroke = self._stroke(height, width, mirror, rng)
            scale = _LARGER_STROKES ** max(0, number - count)
            painted = stroke.painted(canvas, scale)
            larger = Scaled.of(scale, nonzero(painted))
            if larger.pixels >= hole.target:
                break
            canvas = painted

        def draw(scale: float) -> Mask:
            return nonzero(stroke.painted(canvas, scale))

        smaller = Scaled.of(0.0, nonzero(canvas))
        return filled_up(*narrow(draw, smaller, larger, hole), hole)

    def _stroke(
        self, height: int, width: int, mirror: Sequence[bool], rng: np.random.Generator
    ) -> "_Stroke":
        # A few calls for many numbers, and Python's floats: half the time of arrays this small.
        for_brush, for_count, for_x, for_y = rng.random(4).tolist()
        (thinnest, thickest), (fewest, most) = self.brush_width, self.vertices
        brush = (thinnest + (thickest - thinnest) * for_brush) * min(height, width)
        count = fewest + int((most - fewest + 1) * for_count)
        mean = self.length * math.hypot(height, width)
        angles = rng.uniform(*self.angle, count).tolist()
        lengths = rng.normal(mean, mean / 2, count).tolist()
        x, y = width * for_x, height * for_y
        points = [(x, y)]
        for number, (angle, length) in enumerate(zip(angles, lengths, strict=True)):
            if number % 2 == 0:
                angle = 2 * math.pi - angle
            length = min(max(length, 0.0), 2 * mean)
            x = min(max(x + length * math.cos(angle), 0.0), width)
            y = min(max(y + length * math.sin(angle), 0.0), height)
            points.append((x, y))
        if mirror[0]:
            points = [(x, height - y) for x, y in points]
        if mirror[1]:
            points = [(width - x, y) for x, y in points]
        return _Stroke(points, brush)


class _Stroke(NamedTuple):
    points: list[tuple[float, float]]  # the joints as (x, y), in pixels
    brush: float  # the width, in pixels

    def painted(self, canvas: Image.Image, scale: float = 1.0) -> Image.Image:
        """A copy of the canvas with the stroke on it, scaled about the stroke's first joint."""
        x, y = self.points[0]
        points = [(x + scale * (px - x), y + scale * (py - y)) for px, py in self.points]
        brush = max(1, round(scale * self.brush))
        painted = canvas.copy()
        pen = ImageDraw.Draw(painted)
        pen.line(points, fill=1, width=brush)
        for point in points:
            pen.circle(point, brush / 2, fill=1)
        return painted


class BorderMask(MadeToMeasure):
    """The picture continues beyond what is known: holes along its borders (outpainting).

    With a hole ratio, bands are drawn as without one and then widened or narrowed together.

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
            widths = {
                side: max(1, round(share * (height if side in ("top", "bottom") else width)))
                for side, share in self._bands(rng).items()
            }
            return _bordered(widths, height, width)

        return draw_until_partial(draw, self)

    def of_size(
        self, hole: HoleSize, height: int, width: int, rng: np.random.Generator
    ) -> Mask | None:
        """Draw the shares of the bands and scale them together."""
        bands = self._bands(rng)
        upright = sum(bands.get(side, 0.0) for side in ("top", "bottom"))
        across = sum(bands.get(side, 0.0) for side in ("left", "right"))
        # The scale s of (1 - s upright)(1 - s across) = 1 - share, what the bands leave.
        share = hole.target / (height * width)
        both = upright + across
        scale = 2 * share / (both + math.sqrt(max(both**2 - 4 * upright * across * share, 0.0)))
        known = closest_rectangle(
            HoleSize(height * width - hole.highest, height * width - hole.lowest, hole.target),
            (height * (1 - scale * upright), width * (1 - scale * across)),
            range(1, height + 1) if upright else range(height, height + 1),
            range(1, width + 1) if across else range(width, width + 1),
        )
        if known is None:
            return None
        widths: dict[str, int] = {}
        for sides, left in (
            (("top", "bottom"), height - known[0]),
            (("left", "right"), width - known[1]),
        ):
            first, second = (bands.get(side, 0.0) for side in sides)
            part = round(left * first / (first + second)) if first + second else 0
            widths |= dict(zip(sides, (part, left - part), strict=True))
        return _bordered(widths, height, width)

    def _bands(self, rng: np.random.Generator) -> dict[str, float]:
        """The sides that are holes, and the share of the picture's side that each takes."""
        count = int(rng.integers(self.count[0], self.count[1] + 1))
        sides = rng.choice(self.sides, count, replace=False).tolist()
        return {side: rng.uniform(*self.width) for side in sides}


class BlobMask(MadeToMeasure):
    """Holes with the outline of an object: rounded shapes whose radius varies smoothly around them.

    With a hole ratio, blobs are drawn as without one and then scaled together.

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
        _check_fractions("radius", radius)
        if not 0 <= irregularity <= 1:
            raise ValueError(f"irregularity={irregularity}: expected 0 to 1")
        self.count = count
        self.radius = radius
        self.irregularity = irregularity

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Draw the blobs."""
        return draw_until_partial(
            lambda: _blobs(self._shapes(height, width, rng), 1.0, height, width), self
        )

    def of_size(self, hole: HoleSize, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Draw blobs and scale each about its middle."""
        shapes = self._shapes(height, width, rng)
        area = sum(math.pi * shape.radius**2 for shape in shapes)
        start = math.sqrt(hole.target / area)
        return filled_up(
            *enlarge(lambda scale: _blobs(shapes, scale, height, width), start, hole), hole
        )

    def _shapes(self, height: int, width: int, rng: np.random.Generator) -> list["_Blob"]:
        shapes = []
        for _ in range(rng.integers(self.count[0], self.count[1] + 1)):
            outline = self._outline(rng)
            radius = rng.uniform(*self.radius) * min(height, width)
            middle = np.array([rng.uniform(0, width), rng.uniform(0, height)])
            shapes.append(_Blob(middle, radius, outline))
        return shapes

    def _outline(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Points (64, 2) around the origin at a mean distance of 1."""
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
            [x * math.cos(tilt) - y * math.sin(tilt), x * math.sin(tilt) + y * math.cos(tilt)],
            axis=1,
        )


class _Blob(NamedTuple):
    middle: npt.NDArray[np.float64]  # (x, y), in pixels
    radius: float  # mean distance of the outline, in pixels
    outline: npt.NDArray[np.float64]  # (64, 2) around the origin at a mean distance of 1


def _blobs(shapes: Sequence[_Blob], scale: float, height: int, width: int) -> Mask:
    canvas = Image.new("L", (width, height))
    pen = ImageDraw.Draw(canvas)
    for blob in shapes:
        points = blob.middle + scale * blob.radius * blob.outline
        pen.polygon(points.ravel().tolist(), fill=1)
    return nonzero(canvas)


def _central(rows: int, columns: int, height: int, width: int) -> Mask:
    top, left = (height - rows) // 2, (width - columns) // 2
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[top : top + rows, left : left + columns] = True
    return mask


def _bordered(widths: Mapping[str, int], height: int, width: int) -> Mask:
    mask = np.ones((height, width), dtype=np.bool_)
    top, left = widths.get("top", 0), widths.get("left", 0)
    bottom, right = height - widths.get("bottom", 0), width - widths.get("right", 0)
    mask[top:bottom, left:right] = False
    return mask


def _scaled_sides(
    sides: tuple[int, int], area: int, limits: tuple[int, int]
) -> tuple[float, float]:
    """The sides of a rectangle that is scaled to an area, within limits.

    Where one side is at its limit, the other grows alone.
    """
    scale = math.sqrt(area / (sides[0] * sides[1]))
    rows, columns = scale * sides[0], scale * sides[1]
    if rows > limits[0]:
        return limits[0], area / limits[0]
    if columns > limits[1]:
        return area / limits[1], limits[1]
    return rows, columns


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


def _check_range(name: str, limits: Sequence[float]) -> None:
    if not isinstance(limits, Sequence) or len(limits) != 2 or limits[0] > limits[1]:
        raise ValueError(f"{name}={limits}: expected two numbers, (smallest, largest)")


def _check_fractions(name: str, limits: Sequence[float]) -> None:
    _check_range(name, limits)
    if not 0 < limits[0] <= limits[1] <= 1:
        raise ValueError(f"{name}={limits}: expected fractions, above 0 and at most 1")


def _check_counts(name: str, limits: Sequence[int]) -> None:
    _check_range(name, limits)
    if limits[0] < 1 or any(limit != int(limit) for limit in limits):
        raise ValueError(f"{name}={limits}: expected whole numbers, at least 1")
