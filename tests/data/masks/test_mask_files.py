import logging
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csa_inpaint.data import (
    BadMaskError,
    FileList,
    FolderMask,
    HoleRatioMask,
    InvertedMaskWarning,
    IrregularTestMask,
    PairedMask,
    SoftMaskWarning,
    View,
)
from csa_inpaint.data.images import BadImageError
from csa_inpaint.data.masks import Shown, reading

Save = Callable[[Path, np.ndarray], Path]

HOLE = np.zeros((12, 16), dtype=bool)
HOLE[3:7, 2:9] = True
NO_FILES = FileList(Path("nowhere"), [])


def test_folder_masks_use_every_file_and_resize_with_nearest_neighbour(
    tmp_path: Path, save: Save
) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png", np.roll(HOLE, number, axis=1))
    generator = FolderMask(tmp_path)
    found = {generator(24, 32, np.random.default_rng(seed)).tobytes() for seed in range(50)}
    expected = {
        np.roll(HOLE, number, axis=1).repeat(2, 0).repeat(2, 1).tobytes() for number in range(4)
    }
    assert found == expected


def test_folder_masks_of_another_size_are_refused_without_resizing(
    tmp_path: Path, save: Save
) -> None:
    save(tmp_path / "a.png", HOLE)
    with pytest.raises(ValueError, match=r"a\.png has 12x16 pixels .* its picture 16x16"):
        FolderMask(tmp_path, resize=False)(16, 16, np.random.default_rng(0))


def test_folder_masks_with_black_holes(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", ~HOLE)
    mask = FolderMask(tmp_path, polarity="black")(12, 16, np.random.default_rng(0))
    np.testing.assert_array_equal(mask, HOLE)


def test_folder_of_soft_masks_warns_once(tmp_path: Path) -> None:
    for name in "ab":
        Image.fromarray(np.where(HOLE, 200, 30).astype(np.uint8)).save(tmp_path / f"{name}.png")
    generator = FolderMask(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(20):
            generator(12, 16, np.random.default_rng(seed))
    assert [warning.category for warning in caught] == [SoftMaskWarning]


def test_folder_without_root_says_what_to_add() -> None:
    with pytest.raises(ValueError, match=r"mask\.root=/path/to/masks"):
        FolderMask(None)


def test_folder_masks_are_varied_on_request(tmp_path: Path, save: Save) -> None:
    hole = np.zeros((8, 8), dtype=bool)
    hole[0, 1:3] = True
    save(tmp_path / "a.png", hole)

    def draws(**settings: object) -> set[bytes]:
        generator = FolderMask(tmp_path, **settings)
        return {generator(8, 8, np.random.default_rng(seed)).tobytes() for seed in range(100)}

    turned = [np.rot90(hole, turn) for turn in range(4)]
    assert draws() == {hole.tobytes()}
    assert draws(rotate=True) == {mask.tobytes() for mask in turned}
    flipped = [hole, hole[::-1], hole[:, ::-1], hole[::-1, ::-1]]
    assert draws(flip=True) == {mask.tobytes() for mask in flipped}
    widened = np.zeros((8, 8), dtype=bool)
    widened[:3, :5] = True
    assert draws(dilate=(2, 2)) == {widened.tobytes()}


def test_folder_masks_turn_whatever_their_shape(tmp_path: Path) -> None:
    hole = np.zeros((6, 10), dtype=np.uint8)
    hole[:2] = 255  # the top third
    Image.fromarray(hole).save(tmp_path / "a.png")
    generator = FolderMask(tmp_path, rotate=True)
    masks = [generator(12, 8, np.random.default_rng(seed)) for seed in range(40)]
    assert {mask.shape for mask in masks} == {(12, 8)}
    thirds = [np.zeros((12, 8), dtype=bool) for _ in range(4)]
    thirds[0][:4] = thirds[1][8:] = True  # upright and upside down
    thirds[2][:, :3] = thirds[3][:, 5:] = True  # a third of 8 columns, to the nearest
    assert {mask.tobytes() for mask in masks} == {third.tobytes() for third in thirds}


def test_folder_mask_that_dilation_would_fill_is_drawn_again(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", np.arange(8)[None].repeat(8, 0) < 4)
    generator = FolderMask(tmp_path, dilate=(0, 8))
    ratios = {generator(8, 8, np.random.default_rng(seed)).mean() for seed in range(60)}
    assert ratios == {4 / 8, 5 / 8, 6 / 8, 7 / 8}


def test_folder_mask_without_a_hole_is_an_error_at_once(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", np.zeros((8, 8), dtype=bool))
    with pytest.raises(ValueError, match=r"a\.png has no hole"):
        FolderMask(tmp_path, dilate=(1, 2))(8, 8, np.random.default_rng(0))


def test_folder_of_the_wrong_polarity_warns(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", ~HOLE)
    with pytest.warns(InvertedMaskWarning, match=r"covers 85% .*set mask\.polarity=black"):
        FolderMask(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FolderMask(tmp_path, polarity="black")


def bar(columns: int) -> np.ndarray:
    """A hole of so many of ten columns, at the left."""
    return np.arange(10)[None].repeat(10, 0) < columns


def tenths(generator: object, size: tuple[int, int], draws: int = 100) -> set[int]:
    """The tenths of the picture that masks cover."""
    masks = [generator(*size, np.random.default_rng(seed)) for seed in range(draws)]
    return {round(10 * mask.mean()) for mask in masks}


def test_files_are_chosen_by_hole_ratio(tmp_path: Path, save: Save) -> None:
    for columns in range(1, 10):
        save(tmp_path / f"{columns}.png", bar(columns))
    assert tenths(HoleRatioMask(FolderMask(tmp_path), (0.3, 0.6)), (20, 20)) == {3, 4, 5, 6}
    assert tenths(HoleRatioMask(FolderMask(tmp_path), (0.9, 0.95)), (20, 20)) == {9}


@pytest.mark.parametrize("size", [(10, 10), (10, 40)])
def test_hole_ratio_is_that_after_turning_and_dilation(
    tmp_path: Path, save: Save, size: tuple[int, int]
) -> None:
    for columns in (1, 3, 5):
        save(tmp_path / f"{columns}.png", bar(columns))
    folder = FolderMask(tmp_path, rotate=True, flip=True, dilate=(1, 4))
    generator = HoleRatioMask(folder, (0.35, 0.55))
    seen = set()
    for seed in range(200):
        mask = generator(*size, np.random.default_rng(seed))
        assert 0.35 <= mask.mean() <= 0.55
        seen.add(mask.tobytes())
    # At 10x10: columns 1 + 3 and 4, 3 + 1 and 2, each at four sides. Five columns are widened at
    # least to six.
    upright = {(1, 3), (1, 4), (3, 1), (3, 2)}
    if size == (10, 10):
        widths = {first + by for first, by in upright}
        assert {round(10 * np.frombuffer(m, bool).mean()) for m in seen} == widths
        assert len(seen) == 4 * len(widths)
    else:  # a column of 10 is four of 40: dilation adds one tenth less
        assert len({np.frombuffer(mask, bool).mean() for mask in seen}) > 2


def test_hole_ratio_counts_no_less_than_the_least_dilation(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "5.png", bar(5))
    generator = HoleRatioMask(FolderMask(tmp_path, dilate=(1, 4)), (0.45, 0.55))
    with pytest.raises(ValueError, match=r"0 of 1 mask files .* they cover 0\.6 to 0\.9"):
        generator.prepare(NO_FILES, (10, 10))


def test_every_fitting_file_is_drawn_equally_often(tmp_path: Path, save: Save) -> None:
    for columns in range(1, 10):
        save(tmp_path / f"{columns}.png", bar(columns))
    generator = HoleRatioMask(FolderMask(tmp_path), (0.2, 0.5))
    drawn = [generator(10, 10, np.random.default_rng(seed)).sum() for seed in range(400)]
    _, counts = np.unique(drawn, return_counts=True)
    assert len(counts) == 4
    assert counts.min() > 70


def test_hole_ratio_without_files_says_how_many_there_are(tmp_path: Path, save: Save) -> None:
    for columns in (2, 5):
        save(tmp_path / f"{columns}.png", bar(columns))
    generator = HoleRatioMask(FolderMask(tmp_path), (0.6, 0.8))
    with pytest.raises(
        ValueError, match=r"0 of 2 mask files in .* cover 0\.6 to 0\.8 .* they cover 0\.2 to 0\.5"
    ):
        generator.prepare(NO_FILES, (10, 10))


def test_bad_files_are_found_while_measuring(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", bar(3))
    save(tmp_path / "no hole.png", bar(0))
    (tmp_path / "text.png").write_text("no mask")
    generator = HoleRatioMask(FolderMask(tmp_path), (0.1, 0.5))
    with pytest.raises(BadMaskError, match=r"no hole\.png has no hole"):  # not prepared
        generator(10, 10, np.random.default_rng(0))
    bad = generator.prepare(NO_FILES, (10, 10))
    assert [Path(error.path).name for error in bad] == ["no hole.png", "text.png"]
    assert "text.png is not an image" in str(bad[1])
    assert tenths(generator, (10, 10)) == {3}
    (tmp_path / "a.png").unlink()
    with pytest.raises(BadMaskError, match=r"no hole\.png has no hole"):
        HoleRatioMask(FolderMask(tmp_path), (0.1, 0.5)).prepare(NO_FILES, (10, 10))


def test_masks_of_another_size_are_bad_without_resizing(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", bar(3))
    save(tmp_path / "b.png", HOLE)
    generator = HoleRatioMask(FolderMask(tmp_path, resize=False), (0.1, 0.5))
    (bad,) = generator.prepare(NO_FILES, (10, 10))
    assert "12x16 pixels" in str(bad)


def broken_text(path: Path) -> None:
    path.write_text("no mask")


def broken_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def broken_missing(path: Path) -> None:
    path.unlink()


def broken_colour(path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(path)


@pytest.mark.parametrize(
    "break_it",
    [broken_text, broken_folder, broken_missing, broken_colour],
    ids=lambda f: f.__name__,
)
def test_file_that_cannot_be_used_is_a_bad_mask(
    tmp_path: Path, save: Save, break_it: Callable[[Path], None]
) -> None:
    path = save(tmp_path / "a.png", HOLE)
    generator = FolderMask(tmp_path)
    break_it(path)
    with pytest.raises(BadMaskError, match=r"a\.png") as caught:
        generator(12, 16, np.random.default_rng(0))
    assert caught.value.path == str(path)


def test_file_without_permission_is_a_bad_mask_and_a_failing_disk_is_not(
    tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", HOLE)
    generator = FolderMask(tmp_path)

    def failing(error: OSError) -> None:
        def read(*args: object, **settings: object) -> None:
            raise error

        monkeypatch.setattr(reading, "open_image", read)

    failing(PermissionError(f"no permission to read {path}"))
    with pytest.raises(BadMaskError, match=r"no permission to read .*a\.png"):
        generator(12, 16, np.random.default_rng(0))
    failing(OSError(5, "Input/output error"))
    with pytest.raises(OSError, match="Input/output error"):
        generator(12, 16, np.random.default_rng(0))


def test_measured_masks_travel_to_other_processes(tmp_path: Path, save: Save) -> None:
    for columns in range(1, 10):
        save(tmp_path / f"{columns}.png", bar(columns))
    generator = HoleRatioMask(FolderMask(tmp_path, rotate=True), (0.3, 0.6))
    generator.prepare(NO_FILES, (10, 10))
    copy = pickle.loads(pickle.dumps(generator))
    for seed in range(20):
        one, other = (made(10, 10, np.random.default_rng(seed)) for made in (generator, copy))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dilate", [(2, 1), (-1, 1), (1, 2, 3)])
def test_dilation_out_of_range_is_named(tmp_path: Path, dilate: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"dilate=.*expected \(least, most\)"):
        FolderMask(tmp_path, dilate=dilate)


@pytest.fixture
def packed(tmp_path: Path, save: Save) -> Path:
    """Masks of 1 to 6 of 10 columns; those of even number touch the border."""
    for number in range(1, 13):
        hole = np.zeros((20, 20), dtype=bool)
        columns = (number + 1) // 2
        start = 0 if number % 2 == 0 else 1
        hole[1:-1, start : start + 2 * columns] = True
        hole[0, start] = number % 2 == 0
        save(tmp_path / "packed" / f"{number:05}.png", hole)
    return tmp_path / "packed"


def test_irregular_test_masks_are_chosen_by_measured_ratio_and_border(packed: Path) -> None:
    def columns(**settings: object) -> set[tuple[int, bool]]:
        generator = IrregularTestMask(packed, **settings)
        masks = [generator(20, 20, np.random.default_rng(seed)) for seed in range(150)]
        return {(int(m[1].sum()) // 2, bool(m[0].any())) for m in masks}

    # Two columns of 18 rows are 0.09 of the picture.
    assert columns() == {(c, touches) for c in range(1, 7) for touches in (True, False)}
    assert columns(ratio=(0.1, 0.3)) == {(c, t) for c in (2, 3) for t in (True, False)}
    assert columns(ratio=(0.01, 0.1), border=True) == {(1, True)}
    assert columns(ratio=(0.4, 0.6), border=False) == {(5, False), (6, False)}


def test_irregular_test_ratio_is_above_the_first_limit_and_at_most_the_second(packed: Path) -> None:
    generator = IrregularTestMask(packed, ratio=(0.18, 0.36), border=False)
    ratios = {generator(20, 20, np.random.default_rng(seed)).mean() for seed in range(60)}
    assert ratios == {0.27, 0.36}


def test_irregular_test_masks_are_measured_at_the_size_of_the_picture(
    tmp_path: Path, save: Save
) -> None:
    stripes = np.zeros((20, 20), dtype=bool)
    stripes[:, 1::4] = True  # a quarter, of which nearest neighbour leaves half or nothing
    save(tmp_path / "00000.png", stripes)
    half = IrregularTestMask(tmp_path, ratio=(0.4, 0.6))
    assert half(10, 10, np.random.default_rng(0)).mean() == 0.5
    with pytest.raises(ValueError, match="none of 1 mask files"):
        half(20, 20, np.random.default_rng(0))


def test_irregular_test_masks_keep_a_hole_ratio_too(packed: Path) -> None:
    generator = HoleRatioMask(IrregularTestMask(packed, ratio=(0.1, 0.4)), (0.3, 0.6))
    ratios = {
        round(float(generator(20, 20, np.random.default_rng(seed)).mean()), 2) for seed in range(60)
    }
    assert ratios == {0.36}
    dilated = IrregularTestMask(packed, ratio=(0.1, 0.2), border=False, dilate=(2, 2))
    mask = dilated(20, 20, np.random.default_rng(0))
    assert mask.mean() == 20 * 7 / 400  # chosen before dilation: 4 columns, widened by 2 and 1


def test_choice_of_masks_is_logged_once(packed: Path, caplog: pytest.LogCaptureFixture) -> None:
    masks = IrregularTestMask(packed)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            masks.prepare(FileList(packed, []), (64, 64))
    assert caplog.text.count("mask files in") == 1


def test_irregular_test_masks_say_when_none_is_left(packed: Path) -> None:
    with pytest.raises(ValueError, match=r"ratio=\(0\.3, 0\.2\): expected"):
        IrregularTestMask(packed, ratio=(0.3, 0.2))
    none = IrregularTestMask(packed, ratio=(0.7, 0.8), border=True)
    with pytest.raises(
        ValueError,
        match=r"none of 12 mask files .* 0\.7 to 0\.8 of the picture and touches the bor",
    ):
        none.prepare(NO_FILES, (20, 20))


SHARED = Path(__file__).parents[4] / "shared" / "masks" / "nvidia_256"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_official_bins_are_those_of_the_manifest() -> None:
    rows = [line.split(",", 1) for line in (SHARED / "manifest.csv").read_text().splitlines()[1:]]
    ratios = {name: float(rest.split(",")[0]) for name, rest in rows}
    touches = {name: rest.endswith(",1") for name, rest in rows}
    for ratio in ((0.01, 0.1), (0.2, 0.3), (0.4, 0.6)):
        for border in (True, False):
            generator = IrregularTestMask(SHARED, ratio=ratio, border=border)
            assert generator.prepare(NO_FILES, (256, 256)) == []
            usable = generator.usable(generator.measured(256, 256), 256 * 256)[:, 0]
            names = {generator.files.name(index) for index in np.flatnonzero(usable)}
            assert names == {
                name
                for name in ratios
                if ratio[0] < ratios[name] <= ratio[1] and touches[name] == border
            }


def shown(name: str, picture: tuple[int, int], size: tuple[int, int], **view: object) -> Shown:
    whole = {"box": (0.0, 0.0, float(picture[1]), float(picture[0])), "flip": False}
    return Shown(name, picture, View(**{**whole, **view}), size)


def test_paired_mask_is_that_of_the_same_name(tmp_path: Path, save: Save) -> None:
    for name, columns in (("a/1.png", 1), ("b/1.tif", 2), ("b/1.2.png", 3)):
        save(tmp_path / name, bar(columns))
    paired, rng = PairedMask(tmp_path), np.random.default_rng(0)
    for name, columns in (("a/1.jpg", 1), ("b/1.jpg", 2), ("b/1.2.jpg", 3)):
        mask = paired.for_image(shown(name, (10, 10), (10, 10)), rng)
        np.testing.assert_array_equal(mask, bar(columns))
    assert tenths(paired, (10, 10)) == {1, 2, 3}  # without a picture


def test_paired_mask_is_cut_out_as_its_picture_is(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "1.png", bar(3).repeat(2, 0).repeat(4, 1))  # 12 of 40 columns
    paired, rng = PairedMask(tmp_path), np.random.default_rng(0)

    def columns(**view: object) -> list[bool]:
        mask = paired.for_image(shown("1.jpg", (20, 40), (10, 10), **view), rng)
        assert mask.shape == (10, 10)
        assert (mask == mask[0]).all()
        return mask[0].tolist()

    assert columns() == [True] * 3 + [False] * 7
    assert columns(flip=True) == [False] * 7 + [True] * 3
    assert columns(box=(10.0, 5.0, 20.0, 15.0)) == [True] * 2 + [False] * 8
    assert columns(box=(8.0, 0.0, 28.0, 20.0)) == [True] * 2 + [False] * 8


def test_paired_mask_of_the_size_shown_is_taken_as_it_is(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "1.png", bar(3))
    paired, rng = PairedMask(tmp_path), np.random.default_rng(0)
    mask = paired.for_image(shown("1.jpg", (30, 40), (10, 10), box=(5.0, 0.0, 35.0, 30.0)), rng)
    np.testing.assert_array_equal(mask, bar(3))
    with pytest.raises(BadImageError, match=r"1\.png has 10x10 .*1\.jpg 30x40.* 12x12 at which"):
        paired.for_image(shown("1.jpg", (30, 40), (12, 12)), rng)


def test_paired_mask_without_a_hole_in_the_view_is_named(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "1.png", bar(3))
    paired, rng = PairedMask(tmp_path), np.random.default_rng(0)
    with pytest.raises(BadImageError, match=r"1\.png has no hole in the part of 1\.jpg"):
        paired.for_image(shown("1.jpg", (10, 10), (5, 5), box=(5.0, 5.0, 10.0, 10.0)), rng)
    with pytest.raises(BadImageError, match=r"1\.png has no known pixel in the part of 1\.jpg"):
        paired.for_image(shown("1.jpg", (10, 10), (3, 3), box=(0.0, 0.0, 3.0, 3.0)), rng)


def test_pictures_without_a_mask_are_named_at_set_up(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a/1.png", HOLE)
    paired = PairedMask(tmp_path)
    assert paired.prepare(FileList(Path("p"), ["a/1.jpg"]), (12, 16)) == []
    names = ["a/1.jpg", *(f"b/{number}.jpg" for number in range(7))]
    with pytest.raises(
        FileNotFoundError,
        match=r"no mask in .* for b/0\.jpg, .*b/4\.jpg and 2 more: add .*b/0\.png",
    ):
        paired.prepare(FileList(Path("p"), names), (12, 16))
    with pytest.raises(FileNotFoundError, match=r"no mask in .* for b/0\.jpg: add"):
        paired.for_image(shown("b/0.jpg", (10, 10), (10, 10)), np.random.default_rng(0))


def test_bad_paired_mask_is_a_bad_image(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "1.png", np.zeros((4, 4), dtype=bool))
    with pytest.raises(BadImageError, match=r"1\.png has no hole.*the mask of 1\.jpg") as caught:
        PairedMask(tmp_path).for_image(shown("1.jpg", (4, 4), (4, 4)), np.random.default_rng(0))
    assert not isinstance(caught.value, BadMaskError)  # another mask would not help


def test_two_masks_for_one_picture_are_refused(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "1.png", HOLE)
    save(tmp_path / "1.tif", HOLE)
    with pytest.raises(ValueError, match=r"1\.png and .*1\.tif differ only in their suffix"):
        PairedMask(tmp_path)


def test_paired_masks_have_no_hole_ratio(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "1.png", HOLE)
    with pytest.raises(ValueError, match=r"mask=paired .* leave data\.hole_ratio out"):
        HoleRatioMask(PairedMask(tmp_path), (0.1, 0.2))
