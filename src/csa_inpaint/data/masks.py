"""Holes: generators of random masks, and mask files.

A mask is a boolean array (H, W); True is the hole. A generator is called with the height, the width
and the sample's own source of randomness, and returns a mask whose hole is neither empty nor
everything.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from csa_inpaint.data.files import list_images
from csa_inpaint.data.images import open_image

Mask = npt.NDArray[np.bool_]
Polarity = Literal["white", "black"]

# A freehand mask may come out empty or full; this many draws in a row mean that it always will.
_MAX_DRAWS = 100


class SoftMaskWarning(UserWarning):
    """A mask has values between hole and known, which were thresholded at half."""


class MaskGenerator(Protocol):
    """Whatever makes masks."""

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Make a mask.

        Args:
            height: rows of the mask, in pixels.
            width: columns of the mask, in pixels.
            rng: source of randomness; the same state gives the same mask.

        Shape:
            (height, width), True in the hole
        """


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

        return _draw_until_partial(draw, self)

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
            for _ in range(rng.integers(self.strokes[0], self.strokes[1] + 1)):
                self._stroke(pen, height, width, rng)
            mask = _nonzero(canvas)
            if rng.random() < 0.5:
                mask = mask[::-1]
            if rng.random() < 0.5:
                mask = mask[:, ::-1]
            return mask

        return np.ascontiguousarray(_draw_until_partial(draw, self))

    def _stroke(
        self, pen: ImageDraw.ImageDraw, height: int, width: int, rng: np.random.Generator
    ) -> None:
        mean_length = self.length * math.hypot(height, width)
        brush = max(1, round(rng.uniform(*self.brush_width) * min(height, width)))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        points = [(x, y)]
        low, high = self.angle
        for segment in range(rng.integers(self.vertices[0], self.vertices[1] + 1)):
            angle = rng.uniform(low, high)
            if segment % 2 == 0:
                angle = 2 * math.pi - angle
            length = min(max(rng.normal(mean_length, mean_length / 2), 0), 2 * mean_length)
            x = min(max(x + length * math.cos(angle), 0), width)
            y = min(max(y + length * math.sin(angle), 0), height)
            points.append((x, y))
        pen.line(points, fill=1, width=brush)
        for x, y in points:
            pen.circle((x, y), brush / 2, fill=1)


class FolderMask:
    """Masks from files, one at random for each picture.

    A mask whose size is not the picture's is resized with nearest neighbour, so that it stays
    binary.

    Args:
        root: folder of the mask files; folders below it count too.
        polarity: colour of the hole in the files, "white" or "black".
        resize: False refuses a mask of another size than the picture instead of resizing it.

    Raises:
        FileNotFoundError: the folder does not exist or holds no image.
        ValueError: when called: a file has no hole, no known pixel, or another size with
            `resize=False`.
    """

    def __init__(
        self, root: Path | str | None, polarity: Polarity = "white", resize: bool = True
    ) -> None:
        if root is None:
            raise ValueError("the folder of the masks is missing: add mask.root=/path/to/masks")
        _check_polarity(polarity)
        self.files = list_images(Path(root))
        self.polarity: Polarity = polarity
        self.resize = resize
        self._warned = False

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Read a random one of the files."""
        path = self.files[int(rng.integers(len(self.files)))]
        mask, soft = _read(path, self.polarity)
        if soft and not self._warned:  # one example says it all; a folder may have thousands
            self._warned = True
            _warn_soft(str(path), soft, f" (other masks in {self.files.root} are not reported)")
        if mask.shape != (height, width):
            if not self.resize:
                raise ValueError(_other_size(str(path), mask, (height, width)))
            mask = _resize(mask, height, width)
        _check_partial(mask, str(path))
        return mask


class MixtureMask:
    """One of several kinds of mask for each picture.

    Args:
        kinds: the generators, by a name for messages.
        weights: how often each is used, relative to the others and by the same names; equal by
            default.
    """

    def __init__(
        self, kinds: dict[str, MaskGenerator], weights: dict[str, float] | None = None
    ) -> None:
        if not kinds:
            raise ValueError("a mixture needs at least one kind of mask: fill mask.kinds")
        if weights is None:
            weights = dict.fromkeys(kinds, 1.0)
        if weights.keys() != kinds.keys():
            raise ValueError(
                f"mask.weights names {sorted(weights)}, mask.kinds {sorted(kinds)}: give one "
                "weight for each kind (0 to leave it out)"
            )
        if min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ValueError(f"mask.weights={weights}: expected 0 or more, one of them positive")
        self.kinds = kinds
        self.weights = weights

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        """Choose a kind and call it."""
        weights = np.array([self.weights[name] for name in self.kinds])
        choice = int(rng.choice(len(weights), p=weights / weights.sum()))
        return list(self.kinds.values())[choice](height, width, rng)


def load_mask(
    path: Path | str,
    polarity: Polarity = "white",
    size: tuple[int, int] | None = None,
) -> Mask:
    """Read a mask file, thresholded at half; values in between are warned about.

    Pictures whose values are only 0 and 1 are taken as labels: 1 as white.

    Args:
        path: the file, of any bit depth; colour is read as grey.
        polarity: colour of the hole, "white" or "black".
        size: (height, width) in pixels of the picture it belongs to; None accepts any.

    Shape:
        (H, W), True in the hole

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: not an image, or a damaged one.
        ValueError: another size than `size`, transparency, no hole or no known pixel.
    """
    mask, soft = _read(Path(path), polarity)
    if size is not None and mask.shape != tuple(size):
        raise ValueError(_other_size(str(path), mask, size))
    _check_partial(mask, str(path))
    if soft:
        _warn_soft(str(path), soft)
    return mask


def mask_from_array(
    mask: Any,
    polarity: Polarity = "white",
    size: tuple[int, int] | None = None,
    name: str = "the mask",
) -> Mask:
    """Turn a picture, array or tensor into a mask, thresholded at half.

    Args:
        mask: a PIL image, or an array or tensor (H, W), with or without axes of length 1: boolean;
            floats from 0 to 1; or integers, either 0 and 1 only or 0 to 255.
        polarity: value of the hole, "white" (high) or "black" (low).
        size: (height, width) in pixels of the picture it belongs to; None accepts any.
        name: what messages call it.

    Shape:
        (H, W), True in the hole

    Raises:
        ValueError: another size than `size`, another shape, other values, no hole or no known
            pixel.
    """
    result, soft = _binarise(_values(mask, name), polarity, name)
    if size is not None and result.shape != tuple(size):
        raise ValueError(_other_size(name, result, size))
    _check_partial(result, name)
    if soft:
        _warn_soft(name, soft)
    return result


def _read(path: Path, polarity: Polarity) -> tuple[Mask, float]:
    with open_image(path) as image:
        image.load()
    return _binarise(_values(image, str(path)), polarity, str(path))


def _values(mask: Any, name: str) -> npt.NDArray[Any]:
    """The mask as a two-dimensional array of its own type."""
    if isinstance(mask, Image.Image):
        if mask.has_transparency_data:
            alpha = mask.convert("RGBA").getchannel("A").getextrema()
            if alpha != (255, 255):
                raise ValueError(
                    f"{name} is partly transparent, so its hole is ambiguous: save it without "
                    "transparency, white in the hole and black elsewhere"
                )
        # Not a "1" picture as it is: its array holds 255 for True, which is no valid boolean byte.
        return np.asarray(mask if mask.mode.startswith("I") else mask.convert("L"))
    if hasattr(mask, "detach"):
        mask = mask.detach().cpu()
    values = np.asarray(mask)
    shape = [length for length in values.shape if length != 1]
    if len(shape) > 2 or values.ndim < 2:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}: expected (H, W), or that with axes of "
            "length 1"
        )
    return values if values.ndim == 2 else values.reshape(_plane(values.shape))


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    # Of (1, 1, H, W), (1, H, W) and (H, W, 1): drop the channel axis at the end, else those in
    # front.
    if shape[-1] == 1 and len(shape) == 3:
        return shape[0], shape[1]
    return shape[-2], shape[-1]


def _binarise(values: npt.NDArray[Any], polarity: Polarity, name: str) -> tuple[Mask, float]:
    """The mask, and the share of its pixels that were neither white nor black."""
    _check_polarity(polarity)
    if values.dtype == np.bool_:
        white, soft = values, 0.0
    else:
        highest = float(values.max())
        if not (values.min() >= 0 and highest <= 65535):  # written so that NaN fails
            raise ValueError(f"{name} has values outside 0 to 1, 0 to 255 and 0 to 65535")
        if np.issubdtype(values.dtype, np.floating) and highest > 1:
            raise ValueError(
                f"{name} has floating-point values up to {highest:g}: expected 0 to 1 (or integers)"
            )
        full = 1 if highest <= 1 else 255 if highest <= 255 else 65535
        white = values > full / 2
        soft = float(np.mean((values != 0) & (values != full)))
    return (white if polarity == "white" else ~white), soft


def _resize(mask: Mask, height: int, width: int) -> Mask:
    image = Image.fromarray(mask.astype(np.uint8))
    return _nonzero(image.resize((width, height), Image.Resampling.NEAREST))


def _nonzero(image: Image.Image) -> Mask:
    mask: Mask = np.asarray(image) != 0
    return mask


def _check_partial(mask: Mask, name: str) -> None:
    if not mask.any():
        raise ValueError(
            f"{name} has no hole, so there is nothing to fill. If its hole is black, set "
            "polarity=black; otherwise paint the hole white or remove the mask"
        )
    if mask.all():
        raise ValueError(
            f"{name} has no known pixel: everything is hole, so there is nothing to fill it from. "
            "If its hole is black, set polarity=black; otherwise leave a part black or remove the "
            "mask"
        )


def _check_polarity(polarity: str) -> None:
    if polarity not in ("white", "black"):
        raise ValueError(f"polarity={polarity!r}: expected white or black, the colour of the hole")


def _warn_soft(name: str, share: float, more: str = "") -> None:
    warnings.warn(
        f"{name} has soft edges: {share:.1%} of its pixels are neither black nor white. They were "
        f"thresholded at half{more}",
        SoftMaskWarning,
        stacklevel=3,
    )


def _other_size(name: str, mask: Mask, size: tuple[int, int]) -> str:
    return (
        f"{name} has {mask.shape[0]}x{mask.shape[1]} pixels (height x width), its picture "
        f"{size[0]}x{size[1]}: give a mask of the picture's size"
    )


def _draw_until_partial(draw: Callable[[], Mask], generator: object) -> Mask:
    for _ in range(_MAX_DRAWS):
        mask = draw()
        if mask.any() and not mask.all():
            return mask
    raise ValueError(
        f"{type(generator).__name__} drew {_MAX_DRAWS} masks in a row that are empty or cover "
        f"everything: its settings {vars(generator)} do not suit pictures of "
        f"{mask.shape[0]}x{mask.shape[1]} pixels"
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
