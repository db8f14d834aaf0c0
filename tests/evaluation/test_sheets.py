"""Contact sheets: which results are shown, and where."""

import numpy as np
from PIL import Image

from csa_inpaint.evaluation.sheets import Row, choose, masked, sheet


def test_choice_is_of_the_lowest_middle_and_highest() -> None:
    values = {
        name: float(value) for name, value in zip("abcdefg", (3, 1, 7, 5, 2, 6, 4), strict=True)
    }
    assert choose({**values, "none": float("nan")}, 2) == {
        "lowest": ["b", "e"],
        "median": ["a", "g"],
        "highest": ["c", "f"],
    }
    assert choose(values, 100)["median"] == ["b", "e", "a", "g", "d", "f", "c"]


def test_sheet_shows_every_picture_in_its_place() -> None:
    colours = [["red", "lime"], ["blue", "yellow"]]
    rows = [Row("caption", [Image.new("RGB", (20, 10), c) for c in row]) for row in colours]
    pixels = np.asarray(sheet(["one", "two"], rows))
    centres = {}
    for name, colour in {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255)}.items():
        y, x = np.nonzero((pixels == colour).all(axis=-1))
        assert len(y) == 20 * 10
        centres[name] = (y.mean(), x.mean())
    assert centres["red"][0] == centres["lime"][0] < centres["blue"][0]
    assert centres["red"][1] == centres["blue"][1] < centres["lime"][1]


def test_wide_heading_moves_the_next_column() -> None:
    rows = [Row("", [Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")])]
    narrow = sheet(["a", "b"], rows).width
    assert sheet(["a", "a heading that is wider than its picture"], rows).width > 2 * narrow


def test_masked_picture_is_white_in_its_hole() -> None:
    mask = Image.new("RGB", (4, 2))
    mask.putpixel((3, 1), (255, 255, 255))
    result = masked(Image.new("RGB", (4, 2), "teal"), mask)
    assert result.getpixel((3, 1)) == (255, 255, 255)
    assert result.getpixel((0, 0)) == (0, 128, 128)
