from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csa_inpaint.data import UnreadableImageError, load_image

RAMP = np.linspace(0, 255, 24 * 32 * 3).reshape(24, 32, 3).astype(np.uint8)
GREY = RAMP[..., 0]


def read(path: Path) -> np.ndarray:
    image = load_image(path)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def test_rgb_is_read_unchanged(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), RAMP)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif"])
def test_grey_is_read_as_equal_channels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(GREY).save(path)
    np.testing.assert_allclose(read(path), np.repeat(GREY[..., None], 3, 2), atol=6)


def test_floating_point_is_refused_in_words(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32) / 255).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match=r"a\.tif has floating point pixels"):
        load_image(tmp_path / "a.tif")


def test_one_bit_is_read_as_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(GREY > 127).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[..., 0], 255 * (GREY > 127))


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    Image.fromarray(RAMP).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    with Image.open(tmp_path / "a.jpg") as stored:
        assert stored.mode == "CMYK"
    np.testing.assert_allclose(read(tmp_path / "a.jpg"), RAMP, atol=8)


def test_palette_is_resolved(tmp_path: Path) -> None:
    colours = RAMP[::8, ::8].repeat(8, 0).repeat(8, 1)
    Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode == "P"
    np.testing.assert_array_equal(read(tmp_path / "a.png"), colours)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode.startswith("I")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[..., 1], GREY)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 2, 2))
    image.convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0, :, 0], [255, 255, 0, 0])


def test_transparent_colour_of_rgb_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2), (9, 9, 9))
    image.paste((0, 0, 0), (0, 0, 2, 2))
    image.save(tmp_path / "a.png", transparency=(9, 9, 9))
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0, :, 0], [0, 0, 255, 255])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    stored = {  # how a camera that was turned stores the picture: the inverse of what EXIF asks for
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](RAMP)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), RAMP)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.png does not exist"):
        load_image(tmp_path / "a.png")


def test_folder_instead_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_image(tmp_path)


def test_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UnreadableImageError, match=r"a\.jpg is empty \(0 bytes\): remove"):
        load_image(tmp_path / "a.jpg")


def test_text_file_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    with pytest.raises(UnreadableImageError, match=r"a\.jpg is not an image: remove"):
        load_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.98])
def test_truncated_file_is_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableImageError, match=rf"a\.{suffix} (cannot be decoded|is not)"):
        load_image(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [1000, 500])  # Pillow warns above the limit, fails above twice it
def test_decompression_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadableImageError, match=r"a\.png .*(bomb|too large)"):
        load_image(tmp_path / "a.png")
