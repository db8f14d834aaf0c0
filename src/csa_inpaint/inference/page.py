"""What the page of ``csa_inpaint.app`` does, without its layout."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from csa_inpaint.data.images import open_image, to_rgb
from csa_inpaint.data.masks import Mask
from csa_inpaint.inference.files import Photo, read_photo, write_photo
from csa_inpaint.inference.photos import fill_photo, stages
from csa_inpaint.inference.sources import Place, sources
from csa_inpaint.training.module import Inpainter

PREVIEW = 1024  # pixels of the longer side of what the page shows
PLACE, SOURCE = (255, 0, 255), (255, 230, 0)  # colours of outlines


class Upload(NamedTuple):
    """A photo that was given to the page."""

    name: str
    photo: Photo
    preview: Image.Image  # RGB


class Filled(NamedTuple):
    """A photo whose hole was filled, and its pictures for the page."""

    upload: Upload
    hole: Mask  # of the photo's size
    photo: Photo
    rough: Image.Image
    refined: Image.Image
    composite: Image.Image


def open_upload(path: Path, max_pixels: int) -> Upload:
    """Read a photo.

    Args:
        path: the file.
        max_pixels: of the largest photo that is accepted.

    Raises:
        ValueError: the file is no picture, damaged or too large. The message names the file without
            its folder, which is the server's.
    """
    try:
        with open_image(path, max_pixels=sys.maxsize) as opened:
            width, height = opened.size
        if width * height > max_pixels:
            raise ValueError(
                f"{path.name} has {width}x{height} pixels, and this page takes up to "
                f"{max_pixels / 1e6:.0f} million: reduce it first"
            )
        photo = read_photo(path)
        return Upload(path.name, photo, reduced(to_rgb(photo.image)))
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), path.name)) from error


def reduced(image: Image.Image) -> Image.Image:
    """The picture with at most ``PREVIEW`` pixels a side."""
    small = image.copy()
    small.thumbnail((PREVIEW, PREVIEW))
    return small


def painted(layers: Sequence[npt.NDArray[np.uint8]], size: tuple[int, int]) -> Mask:
    """The mask that was painted over a preview, enlarged to the photo.

    Args:
        layers: RGBA pictures; what is not transparent is the hole.
        size: height and width of the photo in pixels.

    Raises:
        ValueError: nothing was painted, or everything.
    """
    hole = np.zeros(size, dtype=bool)
    for layer in layers:
        touched = Image.fromarray(layer[..., 3] > 0)
        hole |= np.asarray(touched.resize((size[1], size[0]), Image.Resampling.NEAREST))
    if not hole.any():
        raise ValueError("Nothing is painted: paint over what is to be filled")
    if hole.all():
        raise ValueError("Everything is painted: leave a part to fill the hole from")
    return hole


def fill_upload(model: Inpainter, upload: Upload, hole: Mask) -> Filled:
    """Fill the hole of a photo at its own size, and make its pictures for the page."""
    rough, refined = stages(model, upload.photo.image, hole)
    photo = fill_photo(model, upload.photo, hole)
    shown = photo.image if photo.deep is None else Image.fromarray(_eight_bits(photo.deep))
    return Filled(upload, hole, photo, reduced(rough), reduced(refined), reduced(to_rgb(shown)))


def save(filled: Filled, folder: Path) -> Path:
    """Write the filled photo as a PNG file of its full size."""
    path = folder / f"{Path(filled.upload.name).stem}_filled.png"
    write_photo(filled.photo, path)
    return path


def explain(model: Inpainter, filled: Filled, x: int, y: int) -> tuple[Image.Image, str]:
    """Show where the CSA layer takes a place from.

    Args:
        model: the model that filled the photo.
        filled: the photo.
        x: column of the place in the preview.
        y: row of the place in the preview.

    Returns:
        The preview with outlines around the place and its sources, and a sentence.

    Raises:
        ValueError: see ``sources``.
    """
    height, width = filled.hole.shape
    scale = width / filled.composite.width
    row, column = min(int((y + 0.5) * scale), height - 1), min(int((x + 0.5) * scale), width - 1)
    place = sources(model, filled.upload.photo.image, filled.hole, row, column)
    return drawn(filled.composite, place, scale), told(place)


def drawn(picture: Image.Image, place: Place, scale: float) -> Image.Image:
    """A picture with outlines: the place, and each source with its share.

    Args:
        picture: RGB.
        place: in pixels of the photo.
        scale: pixels of the photo for one of the picture.
    """
    canvas = picture.copy()
    draw = ImageDraw.Draw(canvas)

    def corners(box: Any) -> list[float]:
        return [edge / scale for edge in (box.left, box.top, box.right - 1, box.bottom - 1)]

    def middle(box: Any) -> tuple[float, float]:
        return (box.left + box.right) / 2 / scale, (box.top + box.bottom) / 2 / scale

    for source in reversed(place.sources):  # the largest share is drawn last, above the others
        width = 1 + round(4 * source.share)
        draw.line([middle(source.box), middle(place.box)], fill=SOURCE, width=1)
        draw.rectangle(corners(source.box), outline=SOURCE, width=width)
        if source.share >= 0.05:
            left, top, *_ = corners(source.box)
            # Within the picture, also for a source at its top or right edge.
            where = min(left, canvas.width - 28), max(top - 14, 0)
            text = f"{source.share:.0%}"
            draw.text(where, text, fill=SOURCE, stroke_width=2, stroke_fill="black")
    draw.rectangle(corners(place.box), outline=PLACE, width=3)
    return canvas


def told(place: Place) -> str:
    """A place's sources in words."""
    if place.sources[0].box == place.box:
        return "The layer counts this place as known: most of it lies outside the hole."
    total = sum(source.share for source in place.sources)
    count = len(place.sources)
    return (
        f"The CSA layer makes the features at this place of those at {count} known "
        f"place{'' if count == 1 else 's'} (yellow, {total:.0%} together); the largest share is "
        f"{place.sources[0].share:.0%}."
    )


def _eight_bits(deep: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    return (deep[..., :3] >> 8).astype(np.uint8)
