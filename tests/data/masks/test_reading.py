import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from csa_inpaint.data import (
    SoftMaskWarning,
    UnreadableImageError,
    load_mask,
    mask_from_array,
)

Save = Callable[[Path, np.ndarray], Path]

HOLE = np.zeros((12, 16), dtype=bool)
HOLE[3:7, 2:9] = True


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16", "labels"])
def test_mask_files_of_any_depth(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(HOLE.astype(np.uint16) * 65535)
    elif mode == "labels":
        image = Image.fromarray(HOLE.astype(np.uint8))
    else:
        image = Image.fromarray(HOLE.astype(np.uint8) * 255).convert(mode)
    image.save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_mask(tmp_path / "a.png"), HOLE)


def test_soft_mask_is_thresholded_at_half_with_one_warning(tmp_path: Path) -> None:
    values = HOLE.astype(np.uint8) * 255
    values[0, :6] = [1, 60, 127, 128, 200, 254]
    Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.warns(SoftMaskWarning, match=r"a\.png has soft edges: 3\.1%") as caught:
        mask = load_mask(tmp_path / "a.png")
    assert len(caught) == 1
    expected = HOLE.copy()
    expected[0, 3:6] = True
    np.testing.assert_array_equal(mask, expected)


def test_mask_file_of_another_size_names_both(tmp_path: Path, save: Save) -> None:
    path = save(tmp_path / "a.png", HOLE)
    with pytest.raises(ValueError, match=r"a\.png has 12x16 .*its picture 16x12"):
        load_mask(path, size=(16, 12))


@pytest.mark.parametrize(("value", "message"), [(0, "no hole"), (255, "no known pixel")])
def test_mask_file_without_hole_or_known_pixel_is_named(
    tmp_path: Path, value: int, message: str
) -> None:
    Image.new("L", (8, 8), value).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png has {message}.*polarity=black"):
        load_mask(tmp_path / "a.png")


def test_partly_transparent_mask_is_refused(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (255, 255, 255, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is partly transparent"):
        load_mask(tmp_path / "a.png")


def test_mask_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("mask")
    with pytest.raises(UnreadableImageError, match=r"a\.png is not an image"):
        load_mask(tmp_path / "a.png")


@pytest.mark.parametrize(
    "mask",
    [
        HOLE,
        HOLE.astype(np.uint8),
        HOLE.astype(np.int64) * 255,
        HOLE.astype(np.float32),
        HOLE[None, None],
        HOLE[..., None],
        HOLE.astype(np.float16),
        torch.from_numpy(HOLE)[None].float(),
        Image.fromarray(HOLE),
        Image.fromarray(HOLE.astype(np.uint8) * 255).convert("RGB"),
    ],
    ids=lambda mask: f"{type(mask).__name__}",
)
def test_masks_from_arrays_tensors_and_pictures(mask: object) -> None:
    np.testing.assert_array_equal(mask_from_array(mask, size=(12, 16)), HOLE)
    np.testing.assert_array_equal(mask_from_array(mask, polarity="black"), ~HOLE)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 3, 4)), "shape"),
        (np.zeros(5), "shape"),
        (np.full((3, 3), np.nan), "values outside"),
        (-HOLE.astype(float), "values outside"),
        (HOLE * 2.5, "floating-point values up to 2.5"),
        (np.zeros((3, 3)), "no hole"),
        (np.zeros((0, 3)), "shape"),
        (HOLE.astype(complex), "values of type complex128"),
        (HOLE.astype(str), "values of type <U5"),
        (torch.from_numpy(HOLE).to(torch.complex64), "values of type complex64"),
    ],
)
def test_arrays_that_are_no_mask_are_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"the mask.*{message}"):
        mask_from_array(mask)


def test_unknown_polarity_is_named() -> None:
    with pytest.raises(ValueError, match="polarity='grey': expected white or black"):
        mask_from_array(HOLE, polarity="grey")


REAL_TYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.float8_e4m3fn,
]


@pytest.mark.parametrize("dtype", REAL_TYPES, ids=str)
def test_masks_from_tensors_of_every_real_type(dtype: torch.dtype) -> None:
    mask = torch.from_numpy(HOLE).to(dtype)
    np.testing.assert_array_equal(mask_from_array(mask), HOLE)
    if dtype.is_floating_point:
        np.testing.assert_array_equal(mask_from_array(mask.requires_grad_()), HOLE)


def test_half_precision_is_thresholded_at_half() -> None:
    values = torch.tensor([[0.25, 0.75], [0.0, 1.0]], dtype=torch.bfloat16)
    with pytest.warns(SoftMaskWarning, match=r"50\.0%"):
        mask = mask_from_array(values)
    assert mask.tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK"])
def test_coloured_mask_is_refused(tmp_path: Path, mode: str) -> None:
    red = np.zeros((8, 8, 3), dtype=np.uint8)
    red[2:5, 2:5, 0] = 255  # the grey value of red, 76, would pass for known
    path = tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}"
    Image.fromarray(red).convert(mode).save(path)
    with pytest.raises(ValueError, match=r"a\.\w+ is coloured .*differ by up to 2\d\d of 255"):
        load_mask(path)
    with pytest.raises(ValueError, match=r"the mask is coloured .*mask=segmentation"):
        mask_from_array(Image.open(path))


def test_grey_masks_with_a_tint_are_read(tmp_path: Path) -> None:
    tinted = np.where(HOLE[..., None], np.array([255, 250, 240]), np.array([10, 0, 5]))
    Image.fromarray(tinted.astype(np.uint8)).save(tmp_path / "a.png")
    with pytest.warns(SoftMaskWarning):
        np.testing.assert_array_equal(load_mask(tmp_path / "a.png"), HOLE)


def test_floating_point_pictures_are_read_like_arrays() -> None:
    np.testing.assert_array_equal(mask_from_array(Image.fromarray(HOLE.astype(np.float32))), HOLE)
    with pytest.raises(ValueError, match=r"floating-point values up to 255"):
        mask_from_array(Image.fromarray(HOLE.astype(np.float32) * 255))
