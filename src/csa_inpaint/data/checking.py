"""Image files read to their end, to find the bad ones before a training does."""

import hashlib
from typing import NamedTuple

from csa_inpaint.data.images import EXIF_ORIENTATION, naming, open_image, upright_size
from csa_inpaint.data.listing import FileList


class ImageCheck(NamedTuple):
    """What there is to know about an image file."""

    path: str
    problem: str | None
    size: tuple[int, int]  # (height, width) of the upright picture, in pixels
    mode: str
    digest: bytes


def check_image(files: FileList, index: int) -> ImageCheck:
    """Read one of a list of image files to its end."""
    path = files.path(index)
    try:
        content = files.read(index)
        with open_image(path, content) as image, naming(path):
            size, mode = upright_size(image), image.mode
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            # At an eighth of its size a JPEG is decoded several times faster, but read to its end.
            image.draft("RGB", (1, 1))
            image.load()
    except (OSError, ValueError) as error:
        return ImageCheck(str(path), str(error), (0, 0), "", b"")
    digest = hashlib.blake2b(content, digest_size=16).digest()
    rotated = " rotated by EXIF" if orientation != 1 else ""
    return ImageCheck(str(path), None, size, mode + rotated, digest)
