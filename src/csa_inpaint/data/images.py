"""Image files to upright 8-bit RGB pictures."""

import io
import math
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
    with open_image(path) as image, naming(path):
        return to_rgb(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) in pixels that a picture has once its EXIF orientation is applied."""
    turned = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)


def decode_at_least(image: Image.Image, scale: float) -> Image.Image:
    """The picture upright, RGB and 8-bit, perhaps smaller, but not below `scale` times its size.

    JPEG holds a picture as frequencies of 8x8 blocks, of which a decoder can leave out the high
    ones: a half, a quarter or an eighth of the size costs a fraction of the time.

    Args:
        image: an opened picture, its pixels not decoded yet.
        scale: the smallest scale that is wanted, up to 1.
    """
    if image.format == "JPEG" and scale <= 0.5:
        wanted = math.ceil(image.width * scale), math.ceil(image.height * scale)
        image.draft(None, wanted)
    return to_rgb(image)


def open_image(path: Path | str, content: bytes | None = None) -> Image.Image:
    """Open an image file, its pixels not decoded yet; close it, or use it in a `with` statement.

    Args:
        path: the file.
        content: its bytes, where they are already read; `path` then only names it in messages.

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: the file is empty, no image, too large to be decoded safely, or of
            floating point pixels.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; an image file is needed")
    with naming(path):
        image = Image.open(path if content is None else io.BytesIO(content))
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise UnreadableImageError(
            f"{path} has {image.width}x{image.height} pixels, more than the {limit} that are "
            "decoded: it may be a decompression bomb. Remove it or scale it down "
            "(PIL.Image.MAX_IMAGE_PIXELS sets the limit)"
        )
    if image.mode == "F":
        image.close()
        raise UnreadableImageError(
            f"{path} has floating point pixels, whose range a file does not tell: save it with 8 "
            "or 16 bits"
        )
    return image


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """What Pillow raises while it reads an image file, as an error that names the file.

    The block is for reading alone: every failure in it is reported as one of the file.

    Raises:
        FileNotFoundError: no such file.
        PermissionError: the file may not be read.
        UnreadableImageError: the file is empty, no image, truncated or damaged.
    """
    path = Path(path)
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"the image {path} does not exist: check the path") from None
    except PermissionError as error:
        raise PermissionError(f"no permission to read {path}: check its access rights") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(
            f"{path} is far too large to be decoded ({error}): remove it or scale it down"
        ) from error
    except UnidentifiedImageError as error:
        # No file has the path of an image in a shard.
        empty = path.is_file() and path.stat().st_size == 0
        reason = "is empty (0 bytes)" if empty else "is not an image"
        raise UnreadableImageError(
            f"{path} {reason}: remove it or replace it by a picture"
        ) from error
    except _DECODER_ERRORS as error:
        raise UnreadableImageError(
            f"{path} cannot be decoded, it is truncated or damaged ({error}): replace or remove it"
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture upright, 8-bit and RGB; see `load_image` for what is converted and how."""
    if image.getexif().get(EXIF_ORIENTATION, 1) != 1:  # else it would copy the picture
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
