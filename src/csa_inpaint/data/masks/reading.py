"""Reading masks: from files, arrays, tensors and pictures, with the hole white or black."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from csa_inpaint.data.images import MAX_PIXELS, naming, open_image
from csa_inpaint.data.masks.generator import BadMaskError, Mask

Polarity = Literal["white", "black"]

# Channels of a grey picture differ by less, also where it is a tinted scan.
_MOST_COLOUR = 16


class SoftMaskWarning(UserWarning):
    """A mask has values between hole and known, which were thresholded at half."""


def load_mask(
    path: Path | str,
    polarity: Polarity = "white",
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Mask:
    """Read a mask file, thresholded at half; values in between are warned about.

    Pictures whose values are only 0 and 1 are taken as labels: 1 as white.

    Args:
        path: the file, of any bit depth; its channels must be equal, if it has several.
        polarity: colour of the hole, "white" or "black".
        size: (height, width) in pixels of the picture it belongs to; None accepts any.
        max_pixels: pixels of the largest mask that is decoded.

    Shape:
        (H, W), True in the hole

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: not an image, or a damaged one.
        ValueError: another size than `size`, transparency, colour, no hole or no known pixel.
    """
    mask, soft = read_mask(Path(path), polarity, max_pixels)
    if size is not None and mask.shape != tuple(size):
        raise ValueError(other_size(str(path), mask, size))
    check_partial(mask, str(path))
    if soft:
        warn_soft(str(path), soft)
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
            floats from 0 to 1, of any precision; or integers: 0 and 1 only, 0 to 255, or 0 to
            65535.
        polarity: value of the hole, "white" (high) or "black" (low).
        size: (height, width) in pixels of the picture it belongs to; None accepts any.
        name: what messages call it.

    Shape:
        (H, W), True in the hole

    Raises:
        ValueError: another size than `size`, another shape, other values, colour, transparency, no
            hole or no known pixel.
    """
    result, soft = _binarise(_values(mask, name), polarity, name)
    if size is not None and result.shape != tuple(size):
        raise ValueError(other_size(name, result, size))
    check_partial(result, name)
    if soft:
        warn_soft(name, soft)
    return result


def read_mask(path: Path, polarity: Polarity, max_pixels: int = MAX_PIXELS) -> tuple[Mask, float]:
    """A mask file as it is, and the share of its pixels that are neither white nor black.

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: not an image, or a damaged one.
        ValueError: transparency or colour.
    """
    with open_image(path, max_pixels=max_pixels) as image, naming(path):
        image.load()
    return _binarise(_values(image, str(path)), polarity, str(path))


def _values(mask: Any, name: str) -> npt.NDArray[Any]:
    """The mask as a two-dimensional array of its own type."""
    if isinstance(mask, Image.Image):
        return _grey(mask, name)
    if hasattr(mask, "detach"):
        mask = mask.detach().cpu()
        if mask.is_floating_point():
            mask = mask.float()  # NumPy has no bfloat16
    values = np.asarray(mask)
    if values.dtype.kind not in "buif":
        raise ValueError(
            f"{name} has values of type {values.dtype}: expected booleans, integers or floats"
        )
    shape = [length for length in values.shape if length != 1]
    if len(shape) > 2 or values.ndim < 2 or values.size == 0:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}: expected (H, W), or that with axes of "
            "length 1"
        )
    return values if values.ndim == 2 else values.reshape(_plane(values.shape))


def _grey(picture: Image.Image, name: str) -> npt.NDArray[Any]:
    """The values of a picture without colour."""
    if picture.has_transparency_data:
        alpha = picture.convert("RGBA").getchannel("A").getextrema()
        if alpha != (255, 255):
            raise ValueError(
                f"{name} is partly transparent, so its hole is ambiguous: save it without "
                "transparency, white in the hole and black elsewhere"
            )
    if picture.mode.startswith(("I", "F")):
        return np.asarray(picture)
    if picture.mode not in ("1", "L", "LA"):
        red, green, blue = picture.convert("RGB").split()
        colour = max(
            int(np.asarray(ImageChops.difference(one, other)).max())
            for one, other in ((red, green), (green, blue), (blue, red))
        )
        if colour > _MOST_COLOUR:
            raise ValueError(
                f"{name} is coloured (its channels differ by up to {colour} of 255), so its hole "
                "is ambiguous: save it without colour, white in the hole and black elsewhere. "
                "If it is a map of labels, use mask=segmentation"
            )
    # Not a "1" picture as it is: its array holds 255 for True, which is no valid boolean byte.
    return np.asarray(picture.convert("L"))


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    # Of (1, 1, H, W), (1, H, W) and (H, W, 1): drop the channel axis at the end, else those in
    # front.
    if shape[-1] == 1 and len(shape) == 3:
        return shape[0], shape[1]
    return shape[-2], shape[-1]


def _binarise(values: npt.NDArray[Any], polarity: Polarity, name: str) -> tuple[Mask, float]:
    """The mask, and the share of its pixels that were neither white nor black."""
    check_polarity(polarity)
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
        # Counting is several times faster than the mean of booleans.
        clear = np.count_nonzero(values == 0) + np.count_nonzero(values == full)
        soft = 1 - clear / values.size
    return (white if polarity == "white" else ~white), soft


def check_partial(mask: Mask, name: str) -> None:
    """Refuse a mask that has no hole or no known pixel.

    Raises:
        ValueError: it names the mask.
    """
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


def check_polarity(polarity: str) -> None:
    """Refuse what is no polarity.

    Raises:
        ValueError: it is neither "white" nor "black".
    """
    if polarity not in ("white", "black"):
        raise ValueError(f"polarity={polarity!r}: expected white or black, the colour of the hole")


def warn_soft(name: str, share: float, more: str = "") -> None:
    """Warn that a mask has values between black and white."""
    warnings.warn(
        f"{name} has soft edges: {share:.1%} of its pixels are neither black nor white. They were "
        f"thresholded at half{more}",
        SoftMaskWarning,
        stacklevel=3,
    )


def other_size(name: str, mask: Mask, size: tuple[int, int]) -> str:
    """What to say of a mask that has another size than its picture."""
    return (
        f"{name} has {mask.shape[0]}x{mask.shape[1]} pixels (height x width), its picture "
        f"{size[0]}x{size[1]}: give a mask of the picture's size"
    )


def read_usable(
    path: Path, polarity: Polarity, size: tuple[int, int] | None = None
) -> tuple[Mask, float]:
    """A mask file with a hole, and the share of its pixels that are neither white nor black.

    Args:
        path: the file.
        polarity: colour of the hole, "white" or "black".
        size: (height, width) in pixels that it must have; None accepts any.

    Raises:
        BadMaskError: the file cannot be read or is no such mask.
    """
    with as_bad_mask(path):
        mask, soft = read_mask(path, polarity)
        if size is not None and mask.shape != size:
            raise ValueError(other_size(str(path), mask, size))
        check_partial(mask, str(path))
    return mask, soft


@contextmanager
def as_bad_mask(path: Path) -> Iterator[None]:
    """Raise what is wrong with a file as an error that says so of a mask file.

    Raises:
        BadMaskError: the file is missing, cannot be read or is no mask.
    """
    try:
        yield
    except (ValueError, FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise BadMaskError(str(error), path) from error
