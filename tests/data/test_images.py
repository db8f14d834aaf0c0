import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from csa_inpaint.data import UnreadableImageError, list_images, load_image
from csa_inpaint.data.images import StorageError

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
    with pytest.raises(UnreadableImageError, match=r"a\.jpg is not an image: it begins with b'<h"):
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


def test_decompression_bomb_is_refused_with_the_key_that_allows_it(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    message = r"a\.png has 40x30 pixels, more than max_pixels=1199: .*set max_pixels=1200"
    with pytest.raises(UnreadableImageError, match=message):
        load_image(tmp_path / "a.png", max_pixels=1199)
    assert load_image(tmp_path / "a.png", max_pixels=1200).size == (40, 30)


@pytest.mark.filterwarnings("error")
def test_limit_of_pillow_does_not_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load_image(tmp_path / "a.png").size == (40, 30)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_postscript_is_named_and_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args: pytest.fail("started"))
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImageError, match=r"a\.jpg is not an image: it holds EPS"):
        load_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["gif", "jfif", "jpe", "avif"])
def test_less_common_suffixes_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    flat = np.full((16, 16, 3), 120, dtype=np.uint8)
    Image.fromarray(flat).save(path)
    assert list(list_images(tmp_path).names()) == [path.name]
    np.testing.assert_allclose(read(path), flat, atol=3)


@pytest.mark.parametrize("factor", [1, 257])
def test_values_of_32_bit_grey_tell_their_range(tmp_path: Path, factor: int) -> None:
    Image.fromarray(GREY.astype(np.int32) * factor).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as stored:
        assert stored.mode == "I"
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], GREY)


@pytest.mark.parametrize("value", [70000, -1])
def test_32_bit_values_out_of_range_are_refused(tmp_path: Path, value: int) -> None:
    Image.fromarray(np.full((4, 4), value, dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match=rf"a\.tif: .*32-bit pixels from {value}"):
        load_image(tmp_path / "a.tif")


def test_link_onto_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("a.jpg")
    with pytest.raises(UnreadableImageError, match=r"a\.jpg is a link that leads back to itself"):
        load_image(tmp_path / "a.jpg")


class Disk:
    """Fails some times with an error of the system, then gives the file."""

    def __init__(self, number: int, failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = failures
        read_bytes = Path.read_bytes

        def fails(path: Path) -> bytes:
            if self.left == 0:
                return read_bytes(path)
            self.left -= 1
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(Path, "read_bytes", fails)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_failing_disk_is_asked_again_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    disk = Disk(number, 1, monkeypatch)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), RAMP)
    disk.left = 2
    with pytest.raises(StorageError, match=r"a\.png could not be read because its disk") as caught:
        load_image(tmp_path / "a.png")
    assert os.strerror(number) in str(caught.value)
    assert "Errno" not in str(caught.value)


def test_forbidden_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(errno.EACCES, 1, monkeypatch)  # root may read files of mode 000
    with pytest.raises(PermissionError, match=r"no permission to read .*a\.png: check its access"):
        load_image(tmp_path / "a.png")
