"""Image files to upright 8-bit RGB pictures."""

import errno
import io
import logging
import math
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

EXIF_ORIENTATION = 0x0112

# What is read. Pillow knows more formats, and hands some of them to other programs (EPS to
# Ghostscript) whatever a file is called.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF")
IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    ".avif",
)

MAX_PIXELS = 250_000_000
"""Pixels of the largest picture that is decoded: 0.75 GB in memory."""

# What Pillow's decoders raise for damaged files: of PNG chunks, of palettes, of headers cut short.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)


class BadImageError(ValueError):
    """An image file cannot be used; the message names it and says why.

    Args:
        message: names the file and says why.
        path: the file.
    """

    def __init__(self, message: str, path: Path | str = "") -> None:
        # `path` may be left out: a loader's process sends an error on with its message alone.
        super().__init__(message)
        self.path = str(path)


class UnreadableImageError(BadImageError):
    """A file that should be an image cannot be read as one."""


class SmallImageError(BadImageError):
    """A picture has fewer pixels than the model is to see of it."""


class StorageError(OSError):
    """A disk or a network file system failed to give a file, of which that says nothing."""


BAD_FILE_ERRORS = (
    BadImageError,
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
"""What is the fault of one file, which a training may pass over."""

_log = logging.getLogger(__name__)
_pillow_limit = threading.Lock()


def load_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image file as an upright 8-bit RGB picture.

    Grey, palette and CMYK pictures are converted, 16-bit ones scaled to 8 bits, EXIF orientation is
    applied, and transparent parts are laid over white. Of a 32-bit picture, values up to 255 are
    taken as they are and values up to 65535 as 16 bits. Of an animation the first picture is read.

    Args:
        path: a file in one of the `FORMATS`.
        max_pixels: pixels of the largest picture that is decoded.

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: the file is empty, no image, truncated or too large to be decoded
            safely.
        StorageError: the disk failed.
    """
    with open_image(path, max_pixels=max_pixels) as image, naming(path):
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


def open_image(
    path: Path | str, content: bytes | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Open an image file, its pixels not decoded yet; close it, or use it in a `with` statement.

    Args:
        path: the file.
        content: its bytes, where they are already read; `path` then only names it in messages.
        max_pixels: pixels of the largest picture that is decoded.

    Raises:
        FileNotFoundError: no such file.
        IsADirectoryError: `path` is a folder.
        PermissionError: the file may not be read.
        UnreadableImageError: the file is empty, no image, too large to be decoded safely, or of
            floating point pixels.
        StorageError: the disk failed.
    """
    if content is None:
        content = read_file(path)
    if not content:
        raise UnreadableImageError(
            f"{path} is empty (0 bytes): remove it or replace it by a picture", path
        )
    try:
        with naming(path), _without_pillow_limit():
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            f"{path} is not an image: {_content(content)}. Remove it or replace it by a picture "
            f"({', '.join(FORMATS)})",
            path,
        ) from error
    if image.width * image.height > max_pixels:
        image.close()
        raise UnreadableImageError(
            f"{path} has {image.width}x{image.height} pixels, more than max_pixels={max_pixels}: "
            "it may be a decompression bomb. Remove it, scale it down, or set max_pixels="
            f"{image.width * image.height} (data.max_pixels of a data set) if it is an ordinary "
            "picture",
            path,
        )
    if image.mode == "F":
        image.close()
        raise UnreadableImageError(
            f"{path} has floating point pixels, whose range a file does not tell: save it with 8 "
            "or 16 bits",
            path,
        )
    return image


def read_file(path: Path | str) -> bytes:
    """The bytes of a file, asked for a second time where the disk fails.

    Raises:
        FileNotFoundError: no such file.
        IsADirectoryError: `path` is a folder.
        NotADirectoryError: a part of `path` is a file.
        PermissionError: the file may not be read.
        UnreadableImageError: `path` is a link that leads back to itself.
        StorageError: the disk failed twice.
    """
    try:
        return _bytes(Path(path))
    except StorageError as error:
        _log.warning("%s. Trying once more", error)
        return _bytes(Path(path))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"the image {path} does not exist: check the path") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder; an image file is needed") from None
    except NotADirectoryError:
        raise NotADirectoryError(
            f"{path} does not exist: {path.parent} is a file, not a folder"
        ) from None
    except PermissionError:
        raise PermissionError(
            f"no permission to read {path}: check its access rights (ls -l)"
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnreadableImageError(
                f"{path} is a link that leads back to itself: remove it", path
            ) from None
        raise StorageError(
            f"{path} could not be read because its disk or network file system failed "
            f"({error.strerror}): look at the disk, not at the file"
        ) from error


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """What Pillow raises while it decodes an image, as an error that names the file.

    The block is for decoding alone: every failure in it is reported as one of the file.

    Raises:
        UnreadableImageError: the file is truncated or damaged.
    """
    try:
        yield
    except UnidentifiedImageError:
        raise
    except BadImageError as error:
        raise UnreadableImageError(f"{path}: {error}", path) from error
    except _DECODER_ERRORS as error:
        raise UnreadableImageError(
            f"{path} cannot be decoded, it is truncated or damaged ({error}): replace or remove it",
            path,
        ) from error


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Open without Pillow's own limit of pixels, which is a global variable and cannot be passed:
    `max_pixels` is compared instead."""
    with _pillow_limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _content(content: bytes) -> str:
    """What a file that is no picture holds, in words."""
    head = content[:16].ljust(16)
    Image.init()
    for name, (_, accept) in Image.OPEN.items():
        if accept is not None and accept(head) is True:
            return f"its header is damaged ({name})" if name in FORMATS else f"it holds {name}"
    return f"it begins with {content[:24]!r}"


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
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > 65535:
        raise UnreadableImageError(
            f"a picture has 32-bit pixels from {lowest:.0f} to {highest:.0f}, expected 0 to 255 or "
            "0 to 65535: save it with 8 or 16 bits"
        )
    # Only the values tell of a 32-bit picture whether they are meant as 8 or as 16 bits.
    full = 255 if image.mode == "I" and highest <= 255 else 65535
    return Image.fromarray(np.rint(values * (255 / full)).astype(np.uint8))
