"""What the page does with uploads, paint and clicks, without a browser."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from csa_inpaint import CSAInpainter
from csa_inpaint.inference.holes import Box
from csa_inpaint.inference.page import (
    PLACE,
    PREVIEW,
    SOURCE,
    drawn,
    explain,
    fill_upload,
    open_upload,
    painted,
    save,
    told,
)
from csa_inpaint.inference.sources import Place, Source

LIMIT = 4_000_000


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture twice as large as a preview."""
    pixels = np.random.default_rng(0).integers(0, 255, (90, 2 * PREVIEW, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def model(make_module: Callable[..., CSAInpainter]) -> CSAInpainter:
    module = make_module().eval()
    module.trained_size = 64
    return module


def paint(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """A layer of the editor with a painted rectangle: top, left, bottom, right."""
    layer = np.zeros((height, width, 4), dtype=np.uint8)
    layer[box[0] : box[2], box[1] : box[3]] = (255, 0, 255, 255)
    return layer


def test_upload_is_shown_reduced(photo: Path) -> None:
    upload = open_upload(photo, LIMIT)
    assert upload.preview.size == (PREVIEW, 45)
    assert upload.photo.size == (90, 2 * PREVIEW)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"^photo.png is empty \(0 bytes\)"),
        (b"this is no picture", "^photo.png is not an image"),
        (None, "^photo.png cannot be decoded, it is truncated or damaged"),
    ],
)
def test_upload_that_is_no_picture_is_told_without_the_server_folder(
    photo: Path, content: bytes | None, message: str
) -> None:
    photo.write_bytes(photo.read_bytes()[:5000] if content is None else content)
    with pytest.raises(ValueError, match=message) as caught:
        open_upload(photo, LIMIT)
    assert str(photo.parent) not in str(caught.value)


def test_upload_with_too_many_pixels_is_refused(photo: Path) -> None:
    with pytest.raises(ValueError, match=r"^photo.png has 2048x90 pixels, and this page takes"):
        open_upload(photo, 2048 * 90 - 1)
    open_upload(photo, 2048 * 90)


def test_paint_is_enlarged_to_the_photo() -> None:
    layers = [paint(10, 20, (2, 4, 5, 8)), paint(10, 20, (9, 19, 10, 20))]
    hole = painted(layers, (30, 60))
    expected = np.zeros((30, 60), dtype=bool)
    expected[6:15, 12:24] = expected[27:, 57:] = True
    assert (hole == expected).all()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "Nothing is painted"),
        ([paint(10, 20, (0, 0, 0, 0))], "Nothing is painted"),
        ([paint(10, 20, (0, 0, 10, 20))], "Everything is painted"),
    ],
)
def test_paint_must_leave_something_and_cover_something(
    layers: list[np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        painted(layers, (30, 60))


def test_result_has_full_size_and_the_known_pixels(
    photo: Path, model: CSAInpainter, tmp_path: Path
) -> None:
    upload = open_upload(photo, LIMIT)
    hole = painted([paint(45, PREVIEW, (10, 100, 30, 120))], upload.photo.size)
    filled = fill_upload(model, upload, hole)
    path = save(filled, tmp_path)
    assert path.name == "photo_filled.png"
    with Image.open(path) as result, Image.open(photo) as given:
        changed = (np.asarray(result) != np.asarray(given)).any(axis=2)
    assert not changed[~hole].any()
    assert changed[hole].mean() > 0.9
    for shown in (filled.rough, filled.refined, filled.composite):
        assert shown.size == upload.preview.size


def test_click_into_the_hole_outlines_the_place(photo: Path, model: CSAInpainter) -> None:
    torch.manual_seed(0)
    upload = open_upload(photo, LIMIT)
    hole = painted([paint(45, PREVIEW, (10, 100, 30, 120))], upload.photo.size)
    filled = fill_upload(model, upload, hole)
    picture, sentence = explain(model, filled, 110, 20)
    assert sentence.startswith("The CSA layer makes the features at this place of those at ")
    outlined = (np.asarray(picture) == PLACE).all(axis=2)
    rows, columns = np.nonzero(outlined)
    assert abs(rows.mean() - 20) < 8
    assert abs(columns.mean() - 110) < 8
    with pytest.raises(ValueError, match="is not in the hole"):
        explain(model, filled, 300, 20)


def test_outlines_lie_where_place_and_source_are() -> None:
    place = Place(Box(40, 40, 60, 60), [Source(Box(100, 80, 120, 100), 1.0)])
    pixels = np.asarray(drawn(Image.new("RGB", (60, 60)), place, scale=2))
    assert tuple(pixels[20, 20]) == PLACE
    assert tuple(pixels[55, 40]) == SOURCE
    assert tuple(pixels[5, 5]) == (0, 0, 0)


def test_place_that_takes_itself_is_told_to_be_known() -> None:
    box = Box(0, 0, 8, 8)
    assert "counts this place as known" in told(Place(box, [Source(box, 1.0)]))
