"""Image files to upright 8-bit RGB pictures."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

EXIF_ORIENTATION = 0x0112

# What Pillow's decoders raise for damaged files: of PNG chunks, of palettes, of headers cut short.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)


class BadImageError(ValueError):
    """An image file cannot be used; the message names it and says why."""


class UnreadableImageError(BadImageError):
    """A file that should be an image cannot be read as one."""


class SmallImageError(BadImageError):
    """A picture has fewer pixels than the model is to see of it."""


def load_image(path: Path | str) -> Image.Image:
    """Read an image file as an upright 8-bit RGB picture.

    Grey, palette and CMYK pictures are converted, 16-bit ones scaled to 8 bits, EXIF orientation is
    applied, and transparent parts are laid over white.

    Args:
        path: a file in any format Pillow reads.

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: the file is empty, no image, truncated or too large to be decoded
            safely.
    """
    with open_image(path) as image:
        return to_rgb(image)


@contextmanager
def open_image(path: Path | str) -> Iterator[Image.Image]:
    """Open an image file, its pixels not decoded yet.

    The block is for decoding alone: every failure in it is reported as one of the file.

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: the file is empty, no image, truncated or too large to be decoded
            safely.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; an image file is needed")
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise UnreadableImageError(
                    f"{path} has {image.width}x{image.height} pixels, more than the {limit} that "
                    "are decoded: it may be a decompression bomb. Remove it or scale it down "
                    "(PIL.Image.MAX_IMAGE_PIXELS sets the limit)"
                )
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"the image {path} does not exist: check the path") from None
    except PermissionError as error:
        raise PermissionError(f"no permission to read {path}: check its access rights") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(
            f"{path} is far too large to be decoded ({error}): remove it or scale it down"
        ) from error
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        reason = "is empty (0 bytes)" if path.stat().st_size == 0 else "is not an image"
        raise UnreadableImageError(
            f"{path} {reason}: remove it or replace it by a picture"
        ) from error
    except _DECODER_ERRORS as error:
        raise UnreadableImageError(
            f"{path} cannot be decoded, it is truncated or damaged ({error}): replace or remove it"
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture upright, 8-bit and RGB; see `load_image` for what is converted and how."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion of 16-bit grey clips at 255 instead of scaling.
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.rint(values / 257).clip(0, 255).astype(np.uint8))
