"""Contact sheets: the same pictures by several methods, side by side and labelled."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from csa_inpaint.evaluation.metrics import HIGHER_IS_BETTER
from csa_inpaint.evaluation.records import TRUTH, Record

PICTURES = "images"  # folder of the results in that of an evaluation, a folder for each method
MASK = "mask"  # stands among the methods where pictures of the masks are kept
_GAP = 4  # pixels between pictures
_FONT_SIZE = 12


class Row(NamedTuple):
    """One line of a sheet."""

    caption: str
    pictures: Sequence[Image.Image]


def write_sheets(records: Sequence[Record], folder: Path, score: str, rows: int) -> None:
    """Write ``sheet_best.png``, ``sheet_median.png`` and ``sheet_worst.png`` of an evaluation.

    The main method, which is the composite where there is one, decides which results these are.
    Only samples whose pictures were saved are shown.

    Args:
        records: of all samples.
        folder: of the evaluation.
        score: by which results are ordered.
        rows: of each sheet.
    """
    methods = list(records[0].scores)
    main = "composite" if "composite" in methods else methods[0]
    shown = {
        record.name: record
        for record in records
        if picture_file(folder, TRUTH, record.name).is_file()
    }
    chosen = choose({name: one.scores[main][score] for name, one in shown.items()}, rows)
    rises = score.removeprefix("hole_") in HIGHER_IS_BETTER
    best, worst = ("highest", "lowest") if rises else ("lowest", "highest")
    for title, names in (("best", best), ("median", "median"), ("worst", worst)):
        lines = []
        for record in (shown[name] for name in chosen[names]):
            values = ", ".join(f"{method} {record.scores[method][score]:.3g}" for method in methods)
            caption = f"{record.name}: hole {record.hole_ratio:.0%}; {score}: {values}"
            results = [picture_file(folder, method, record.name) for method in methods]
            lines.append(row(caption, folder, record.name, results))
        sheet(["masked", *methods, TRUTH], lines).save(folder / f"sheet_{title}.png")


def picture_file(folder: Path, method: str, name: str) -> Path:
    """Where an evaluation keeps a method's result of a sample."""
    return folder / PICTURES / method / f"{name}.png"


def row(caption: str, folder: Path, name: str, results: Sequence[Path]) -> Row:
    """A sample's row: masked, the results, the truth; ``folder`` is that of an evaluation."""
    truth, mask = (_load(picture_file(folder, kind, name)) for kind in (TRUTH, MASK))
    return Row(caption, [masked(truth, mask), *(_load(path) for path in results), truth])


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


def _load(path: Path) -> Image.Image:
    """A picture that an evaluation wrote."""
    with Image.open(path) as image:
        return image.convert("RGB")
