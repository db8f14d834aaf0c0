"""Contact sheets: the same pictures by several methods, side by side and labelled."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

_GAP = 4  # pixels between pictures
_FONT_SIZE = 12


class Row(NamedTuple):
    """One line of a sheet."""

    caption: str
    pictures: Sequence[Image.Image]


def masked(truth: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with its hole in white."""
    return Image.composite(Image.new("RGB", truth.size, "white"), truth, mask.convert("1"))


def sheet(headings: Sequence[str], rows: Sequence[Row]) -> Image.Image:
    """A picture with a heading over each column and a caption over each row."""
    font = ImageFont.load_default(_FONT_SIZE)
    line = _FONT_SIZE + _GAP
    height = max(picture.height for row in rows for picture in row.pictures)
    widths = [math.ceil(font.getlength(heading)) for heading in headings]
    column = max([*widths, *(p.width for row in rows for p in row.pictures)]) + _GAP
    canvas = Image.new(
        "RGB", (_GAP + column * len(headings), line + len(rows) * (height + line + _GAP)), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for index, text in enumerate(headings):
        draw.text((_GAP + index * column, 1), text, "black", font)
    for number, row in enumerate(rows):
        top = line + number * (height + line + _GAP)
        draw.text((_GAP, top + 1), row.caption, "dimgrey", font)
        for index, picture in enumerate(row.pictures):
            canvas.paste(picture, (_GAP + index * column, top + line))
    return canvas


def choose(values: Mapping[str, float], count: int) -> dict[str, list[str]]:
    """The names of the lowest, the middle and the highest values, ``count`` of each.

    Names whose value is NaN are left out.

    Returns:
        ``lowest`` in rising order, ``median`` in rising order, ``highest`` in falling order.
    """
    ordered = sorted(
        (name for name, value in values.items() if not math.isnan(value)),
        key=lambda name: values[name],
    )
    start = max(0, (len(ordered) - count) // 2)
    return {
        "lowest": ordered[:count],
        "median": ordered[start : start + count],
        "highest": ordered[::-1][:count],
    }


def load(path: Path) -> Image.Image:
    """A picture that an evaluation wrote."""
    with Image.open(path) as image:
        return image.convert("RGB")
