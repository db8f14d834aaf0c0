"""Picture files with all that the format can keep: alpha, ICC profile, EXIF data and 16 bits."""

import os
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, ImageOps

from csa_inpaint.data.images import EXIF_ORIENTATION, MAX_PIXELS, naming, open_image
from csa_inpaint.data.masks import Mask, mask_from_array

# How each kind of file is written; all but JPEG keep every pixel.
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG", "compress_level": 2},
    ".tif": {"format": "TIFF", "compression": "tiff_deflate"},
    ".tiff": {"format": "TIFF", "compression": "tiff_deflate"},
    ".webp": {"format": "WEBP", "lossless": True, "exact": True},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}

# EXIF tags that describe a picture, not how a file stores it.
DESCRIPTIVE = {
    ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model,
    ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright,
    ExifTags.Base.XResolution, ExifTags.Base.YResolution, ExifTags.Base.ResolutionUnit,
    ExifTags.Base.ExifOffset, ExifTags.Base.GPSInfo,
}  # fmt: skip


class ReducedDepthWarning(UserWarning):
    """A picture of 16-bit colour is read with 8 bits."""


class Photo(NamedTuple):
    """A picture file, upright."""

    image: Image.Image  # with its ICC profile and EXIF data; of 16-bit colour an 8-bit version
    deep: npt.NDArray[np.uint16] | None  # (H, W, 3 or 4) of 16-bit colour

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.height, self.image.width

    def alpha_hole(self, name: str) -> Mask:
        """The mask that the transparency gives: less than half opaque is the hole.

        Args:
            name: of the file, for messages.

        Raises:
            ValueError: there is no transparency, or nothing but transparency.
        """
        if not self.image.has_transparency_data:
            raise ValueError(f"{name} has no transparency: give a mask, or erase the hole in it")
        alpha = self.image.convert("RGBA").getchannel("A")
        return mask_from_array(alpha, polarity="black", name=f"the alpha of {name}")

    def opaque(self) -> "Photo":
        """The same colours without the alpha."""
        mode = "L" if self.image.mode in ("L", "LA") else "RGB"
        image = self.image.convert("LA" if mode == "L" else "RGBA").convert(mode)
        image.info.pop("transparency", None)
        return Photo(image, None if self.deep is None else self.deep[..., :3])


def read_photo(path: Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a picture file.

    Args:
        path: the file.
        max_pixels: pixels of the largest picture that is decoded.

    Raises:
        FileNotFoundError, UnreadableImageError: as ``open_image``.
        ValueError: a picture of 16-bit colour is not stored upright.

    Warns:
        ReducedDepthWarning: 16-bit colour needs OpenCV, which is not installed.
    """
    with open_image(path, max_pixels=max_pixels) as opened, naming(path):
        deep = _is_deep_colour(opened)
        turned = opened.getexif().get(EXIF_ORIENTATION, 1) != 1
        image = ImageOps.exif_transpose(opened)
        image.info["exif"] = _exif(opened)
    if not deep:
        return Photo(image, None)
    cv2 = _opencv()
    if cv2 is None:
        warnings.warn(
            f"{path} has 16-bit colour and is read with 8 bits: pip install "
            "'csa-inpaint[baselines]' (OpenCV) keeps all 16",
            ReducedDepthWarning,
            stacklevel=2,
        )
        return Photo(image, None)
    if turned:
        raise ValueError(
            f"{path} has 16-bit colour and an EXIF orientation: save it upright, without one"
        )
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    order = [2, 1, 0, 3][: pixels.shape[2]]  # OpenCV's colours are blue, green, red
    return Photo(image, np.ascontiguousarray(pixels[..., order]))


def check_format(path: Path) -> None:
    """Raise a ``ValueError`` unless pictures are written with this file name's extension."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"output {path}: pictures are written as {', '.join(FORMATS)}; .png keeps everything"
        )


def write_photo(photo: Photo, path: Path) -> None:
    """Write a picture whole or not at all: to a temporary name first, then under its own.

    Raises:
        ValueError: the format cannot hold the picture's alpha or its 16 bits, or is not known.
        OSError: the file cannot be written.
    """
    check_format(path)
    suffix = path.suffix.lower()
    image = photo.image
    if photo.deep is not None and suffix != ".png":
        raise ValueError(f"output {path}: 16-bit colour is written as .png")
    if image.mode.startswith("I") and suffix in (".jpg", ".jpeg", ".webp"):
        raise ValueError(f"output {path}: {suffix} cannot hold 16 bits; write a .png or .tif")
    if image.has_transparency_data and suffix in (".jpg", ".jpeg"):
        raise ValueError(f"output {path}: {suffix} cannot hold transparency; write a .png")
    meta = {
        key: value for key in ("icc_profile", "exif") if (value := image.info.get(key))
    }  # Pillow takes no empty ones
    with _replacing(path) as temporary:
        if photo.deep is not None:
            temporary.write_bytes(_deep_png(photo.deep, **meta))
        else:
            image.save(temporary, **FORMATS[suffix], **meta)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside the path; what is written there takes the path's place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # a temporary file is the owner's alone
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _exif(image: Image.Image) -> bytes:
    """The EXIF data of a file, without its orientation."""
    exif = image.getexif()
    for tag in list(exif):
        # A TIFF file lists among them how its own pixels are stored.
        if tag == EXIF_ORIENTATION or (image.format == "TIFF" and tag not in DESCRIPTIVE):
            del exif[tag]
    return exif.tobytes() if exif else b""


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether a file has more than 8 bits for each of several channels.

    Pillow has no such mode and drops the low bits; the name of the raw mode says so.
    """
    if len(image.getbands()) == 1 or not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return False
    arguments: Any = image.tile[0][3]
    raw = arguments[0] if isinstance(arguments, tuple) else arguments
    return ";16" in str(raw)


def _opencv() -> ModuleType | None:
    try:
        import cv2
    except ModuleNotFoundError:
        return None
    module: ModuleType = cv2
    return module


def _deep_png(pixels: npt.NDArray[np.uint16], icc_profile: bytes = b"", exif: bytes = b"") -> bytes:
    """A PNG file of 16-bit colour, which neither Pillow writes nor OpenCV with a profile."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    # Filter 2, "up": each row as its difference from the row above, modulo 256.
    filtered = np.full((height, rows.shape[1] + 1), 2, dtype=np.uint8)
    filtered[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    colour_type = {3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if icc_profile:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 3)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        content += struct.pack(">I", len(data)) + name + data + checksum
    return content
