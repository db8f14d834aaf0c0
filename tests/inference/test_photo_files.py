"""Picture files: what is kept of them, and that results are written whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from csa_inpaint.inference import files, inpaint
from csa_inpaint.inference.files import Photo, ReducedDepthWarning, read_photo, write_photo

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKER, ORIENTATION = 0x010F, 0x0112
HOLE = np.zeros((30, 40), dtype=bool)
HOLE[8:20, 10:30] = True


def values(*shape: int, depth: type[Any] = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(depth).max, shape, dtype=depth)


def filled(painter: Any, path: Path, output: Path) -> tuple[Photo, Photo]:
    """A picture file as it is read, and its filled version as it is read again."""
    photo = read_photo(path)
    if photo.deep is None:
        result = Photo(inpaint(painter, photo.image, HOLE), None)
    else:
        deep = photo.deep.copy()
        deep[..., :3] = inpaint(painter, np.ascontiguousarray(deep[..., :3]), HOLE)
        result = photo._replace(deep=deep)
    write_photo(result, output)
    return photo, read_photo(output)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_lossless_format_keeps_known_pixels_and_alpha(
    make_painter: Callable[..., Any], tmp_path: Path, mode: str, suffix: str
) -> None:
    image = Image.fromarray(values(30, 40, 4)).convert("RGB" if mode in ("P", "CMYK") else "RGBA")
    image = image.convert(mode)
    source = tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}"
    image.save(source)
    before, after = filled(make_painter(), source, tmp_path / f"b{suffix}")
    expected = {"P": "RGB", "CMYK": "RGB", "1": "L"}.get(mode, mode)
    if suffix == ".webp":
        expected = {"L": "RGB", "LA": "RGBA"}.get(expected, expected)
    assert after.image.mode == expected
    old, new = (np.asarray(photo.image.convert(expected)) for photo in (before, after))
    assert np.array_equal(old[~HOLE], new[~HOLE])
    assert not np.array_equal(old[HOLE], new[HOLE])
    if expected.endswith("A"):
        assert np.array_equal(old[..., -1], new[..., -1])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_profile_and_exif_are_kept_and_the_picture_turned_upright(
    make_painter: Callable[..., Any], tmp_path: Path, suffix: str
) -> None:
    exif = Image.Exif()
    exif[MAKER], exif[ORIENTATION] = "Camera", 6
    Image.fromarray(values(40, 30, 3)).save(tmp_path / "a.png", icc_profile=PROFILE, exif=exif)
    before, after = filled(make_painter(), tmp_path / "a.png", tmp_path / f"b{suffix}")
    assert before.size == after.size == (30, 40)
    assert after.image.info["icc_profile"] == PROFILE
    assert after.image.getexif()[MAKER] == "Camera"
    assert after.image.getexif().get(ORIENTATION, 1) == 1


def test_exif_of_a_tiff_file_describes_the_picture_alone(
    make_painter: Callable[..., Any], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[MAKER] = "Camera"
    exif[0x8769] = {0x829D: 2.8}  # the aperture, in EXIF's own part
    Image.fromarray(values(30, 40, 3)).save(
        tmp_path / "a.tif", exif=exif.tobytes(), icc_profile=PROFILE
    )
    _, after = filled(make_painter(), tmp_path / "a.tif", tmp_path / "b.png")
    kept = Image.open(tmp_path / "b.png").getexif()
    assert kept[MAKER] == "Camera"
    assert kept.get_ifd(0x8769)[0x829D] == 2.8
    assert not {0x0111, 0x0117, 0x0103} & set(kept)  # places and sizes of strips, compression
    assert after.image.info["icc_profile"] == PROFILE


def test_profile_of_other_channels_is_left_out(
    make_painter: Callable[..., Any], tmp_path: Path
) -> None:
    image = Image.fromarray(values(30, 40, 4), mode="CMYK")
    image.save(tmp_path / "a.tif", icc_profile=b"of ink")
    _, after = filled(make_painter(), tmp_path / "a.tif", tmp_path / "b.png")
    assert "icc_profile" not in after.image.info


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_grey_is_kept(make_painter: Callable[..., Any], tmp_path: Path, suffix: str) -> None:
    grey = values(30, 40, depth=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    _, after = filled(make_painter(), tmp_path / "a.png", tmp_path / f"b{suffix}")
    result = np.asarray(after.image)
    assert np.array_equal(result[~HOLE], grey[~HOLE])
    assert result.max() > 255


@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colour_is_kept_with_profile_and_exif(
    make_painter: Callable[..., Any], tmp_path: Path, channels: int
) -> None:
    cv2 = pytest.importorskip("cv2")
    deep = values(30, 40, channels, depth=np.uint16)
    cv2.imwrite(str(tmp_path / "cv.png"), deep[..., [2, 1, 0, 3][:channels]])
    photo = read_photo(tmp_path / "cv.png")
    assert photo.deep is not None
    assert np.array_equal(photo.deep, deep)
    exif = Image.Exif()
    exif[MAKER] = "Camera"
    photo.image.info |= {"icc_profile": PROFILE, "exif": exif.tobytes()}
    write_photo(photo, tmp_path / "a.png")  # by our own writer, read by both libraries

    _, after = filled(make_painter(), tmp_path / "a.png", tmp_path / "b.png")
    assert after.deep is not None
    assert np.array_equal(after.deep[~HOLE], deep[~HOLE])
    assert np.array_equal(after.deep[..., 3:], deep[..., 3:])
    assert not np.array_equal(after.deep[HOLE], deep[HOLE])
    assert after.image.info["icc_profile"] == PROFILE
    assert after.image.getexif()[MAKER] == "Camera"
    eight = np.asarray(after.image)
    assert np.abs(eight.astype(int) - after.deep // 256).max() <= 1


def test_deep_colour_without_opencv_is_read_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = values(30, 40, 3, depth=np.uint16)
    write_photo(Photo(Image.new("RGB", (40, 30)), deep), tmp_path / "a.png")
    monkeypatch.setattr(files, "_opencv", lambda: None)
    with pytest.warns(ReducedDepthWarning, match=r"a\.png has 16-bit colour.*pip install"):
        assert read_photo(tmp_path / "a.png").deep is None


def test_alpha_gives_the_hole(tmp_path: Path) -> None:
    pixels = values(30, 40, 4)
    pixels[..., 3] = np.where(HOLE, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert np.array_equal(photo.alpha_hole("a.png"), HOLE)
    assert photo.opaque().image.mode == "RGB"
    assert np.array_equal(np.asarray(photo.opaque().image), pixels[..., :3])


@pytest.mark.parametrize(
    ("mode", "message"), [("RGB", r"a\.png has no transparency"), ("RGBA", r"the alpha of a\.png")]
)
def test_alpha_without_a_hole_is_refused(tmp_path: Path, mode: str, message: str) -> None:
    Image.new(mode, (40, 30), "red").save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        read_photo(tmp_path / "a.png").alpha_hole("a.png")


@pytest.mark.parametrize(
    ("mode", "name", "message"),
    [
        ("RGBA", "b.jpg", "cannot hold transparency"),
        ("I;16", "b.jpg", "cannot hold 16 bits"),
        ("I;16", "b.webp", "cannot hold 16 bits"),
        ("RGB", "b.gif", r"written as \.png"),
    ],
)
def test_format_that_loses_something_is_refused(
    tmp_path: Path, mode: str, name: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_photo(Photo(Image.new(mode, (8, 8)), None), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_write_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"before")

    def stop(self: Image.Image, path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        write_photo(Photo(Image.new("RGB", (8, 8)), None), tmp_path / "a.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_written_file_has_the_users_usual_rights(tmp_path: Path) -> None:
    write_photo(Photo(Image.new("RGB", (8, 8)), None), tmp_path / "a.png")
    (tmp_path / "other").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "other").stat().st_mode
