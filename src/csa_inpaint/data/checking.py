"""Image files read to their end, to find the bad ones before a training does."""

import hashlib
import os
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from csa_inpaint.data.images import (
    BAD_FILE_ERRORS,
    EXIF_ORIENTATION,
    MAX_PIXELS,
    naming,
    open_image,
    upright_size,
)
from csa_inpaint.data.listing import FileList
from csa_inpaint.data.masks import FolderMask, HoleRatioMask, MaskGenerator, MixtureMask

# Samples of a pixel by a PNG's number for its kind of colour.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PLAIN_CHUNKS = {
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT"),
    *(b"bKGD", b"pHYs", b"tIME", b"hIST"),
}


class ImageCheck(NamedTuple):
    """What there is to know about an image file."""

    path: str
    problem: str | None
    size: tuple[int, int]  # (height, width) of the upright picture, in pixels
    mode: str
    digest: str  # of the file's bytes
    skippable: bool = True  # whether a problem is this file's, and not a disk's or a shard's


def mask_folders(*generators: MaskGenerator) -> Iterator[FolderMask]:
    """The mask folders that generators read from, each once."""
    pending, done = list(generators), set()
    while pending:
        generator = pending.pop()
        if id(generator) in done:
            continue
        done.add(id(generator))
        if isinstance(generator, FolderMask):
            yield generator
        elif isinstance(generator, HoleRatioMask):
            pending.append(generator.mask)
        elif isinstance(generator, MixtureMask):
            pending += generator.kinds.values()


def printable(text: str) -> str:
    """The text with file names that are not UTF-8 spelt by their bytes, as in `caf\\xe9.jpg`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def most_bad(share: float, total: int) -> int:
    """How many of some files may be bad: a share of them, but one at least.

    Args:
        share: from 0, which allows none, to 1.
        total: how many files there are.
    """
    return max(1, int(share * total)) if share > 0 else 0


def check_image(files: FileList, index: int, max_pixels: int = MAX_PIXELS) -> ImageCheck:
    """Read one of a list of image files to its end."""
    path = files.path(index)
    try:
        content = files.read(index)
        with open_image(path, content, max_pixels) as image, naming(path):
            if image.format == "PNG" and _inflate(content, image.width, image.height):
                size, rotated = (image.height, image.width), ""
            else:
                size = upright_size(image)
                turned = image.getexif().get(EXIF_ORIENTATION, 1) != 1
                rotated = " rotated by EXIF" if turned else ""
                # At an eighth of its size a JPEG is decoded several times faster, but read to its
                # end.
                image.draft("RGB", (1, 1))
                image.load()
            mode = image.mode
    except (OSError, ValueError) as error:
        skippable = isinstance(error, BAD_FILE_ERRORS)
        return ImageCheck(str(path), str(error), (0, 0), "", "", skippable)
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return ImageCheck(str(path), None, size, mode + rotated, digest)


def _inflate(content: bytes, width: int, height: int) -> bool:
    """Unpack a PNG's rows of pixels without undoing their filters, which takes longer.

    What decoding can fail at is looked at: the compressed stream, the number of rows and the
    filters' numbers.

    Args:
        content: the file.
        width: of the picture, in pixels.
        height: of the picture, in pixels.

    Returns:
        False where the PNG is interlaced, animated or says more of itself (orientation, profiles):
        then only decoding it tells.

    Raises:
        ValueError: the rows are damaged or incomplete.
    """
    depth, colour, interlaced = content[24], content[25], content[28]
    parts = dict(_chunks(content))
    if b"Raw profile" not in (text := parts.get(b"tEXt", b"")) and b"XML:com" not in text:
        parts.pop(b"tEXt", None)
    if interlaced or not parts.keys() <= _PLAIN_CHUNKS:
        return False
    row = 1 + -(-width * depth * _CHANNELS[colour] // 8)
    try:
        pixels = zlib.decompressobj().decompress(parts.get(b"IDAT", b""), height * row)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(pixels) < height * row:
        raise ValueError(f"it has {len(pixels) // row} of {height} rows")
    if np.frombuffer(pixels, np.uint8)[::row].max() > 4:
        raise ValueError("unknown filter")
    return True


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kinds of chunks of a PNG, and what the chunks of each kind hold together."""
    found: dict[bytes, list[bytes]] = {}
    start = 8
    while start + 8 <= len(content):
        end = start + 8 + int.from_bytes(content[start : start + 4])
        found.setdefault(content[start + 4 : start + 8], []).append(content[start + 8 : end])
        start = end + 4
    return ((kind, b"".join(parts)) for kind, parts in found.items())
