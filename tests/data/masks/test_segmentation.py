from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csa_inpaint.data import BadMaskError, FileList, HoleRatioMask, SegmentationMask
from csa_inpaint.data.masks.segmentation import read_labels

NO_FILES = FileList(Path("nowhere"), [])

LABELS = np.zeros((20, 30), dtype=np.uint8)
LABELS[:5, :6] = 1  # 5x6, at the top left
LABELS[10:14, 20:30] = 2  # 4x10
LABELS[19, :] = 255


def write(path: Path, labels: np.ndarray = LABELS, mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if mode == "P":
        image = Image.fromarray(labels).convert("P")
        image.putpalette([channel for label in range(256) for channel in (255 - label, 0, label)])
    image.save(path)
    return path


def extents(generator: object, size: tuple[int, int], draws: int = 200) -> set[tuple[int, int]]:
    """Heights and widths of the holes."""
    found = set()
    for seed in range(draws):
        mask = generator(*size, np.random.default_rng(seed))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        found.add((int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1))
    return found


@pytest.mark.parametrize("mode", ["L", "P"])
def test_holes_are_regions_at_places_inside_the_picture(tmp_path: Path, mode: str) -> None:
    write(tmp_path / "a.png", mode=mode)
    generator = SegmentationMask(tmp_path, scale=(1, 1))
    assert extents(generator, (20, 30)) == {(5, 6), (4, 10)}
    coverage = np.mean(
        [generator(20, 30, np.random.default_rng(seed)) for seed in range(400)], axis=0
    )
    assert (coverage[1:-1, 1:-1] > 0).all()
    assert (coverage[:, 0].any(), coverage[:, -1].any()) == (True, True)
    assert (coverage[0].any(), coverage[-1].any()) == (True, True)


def test_regions_are_scaled_with_their_map_and_by_the_factor(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    assert extents(SegmentationMask(tmp_path, scale=(1, 1)), (40, 60)) == {(10, 12), (8, 20)}
    assert extents(SegmentationMask(tmp_path, scale=(0.5, 0.5)), (40, 60)) == {(5, 6), (4, 10)}
    found = extents(SegmentationMask(tmp_path, scale=(0.5, 2), ignore=[0, 2, 255]), (40, 60))
    assert min(found)[0] == 5
    assert max(found)[0] == 20


def test_labels_can_be_ignored_and_small_regions_are(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    assert extents(SegmentationMask(tmp_path, scale=(1, 1), ignore=[0, 1, 255]), (20, 30)) == {
        (4, 10)
    }
    only_void = SegmentationMask(tmp_path, scale=(1, 1), ignore=[0, 1, 2])
    assert extents(only_void, (20, 30)) == {(1, 30)}
    background = SegmentationMask(tmp_path, ignore=[1, 2, 255], scale=(1, 1))
    assert background(20, 30, np.random.default_rng(0)).sum() == (LABELS == 0).sum()
    larger = SegmentationMask(tmp_path, scale=(1, 1), smallest=35 / 600)
    assert extents(larger, (20, 30)) == {(4, 10)}


def test_regions_are_mirrored_on_request(tmp_path: Path) -> None:
    corner = np.zeros((12, 12), dtype=np.uint8)
    corner[4:8, 4] = corner[4, 4:8] = 9
    write(tmp_path / "a.png", corner)

    def shapes(flip: bool) -> set[bytes]:
        generator = SegmentationMask(tmp_path, scale=(1, 1), flip=flip)
        found = set()
        for seed in range(100):
            mask = generator(12, 12, np.random.default_rng(seed))
            cut = mask[mask.any(1)][:, mask.any(0)]
            found.add(cut.tobytes())
        return found

    shape = corner[4:8, 4:8] > 0
    assert shapes(flip=False) == {shape.tobytes()}
    flipped = [shape, shape[::-1], shape[:, ::-1], shape[::-1, ::-1]]
    assert shapes(flip=True) == {one.tobytes() for one in flipped}


def test_regions_are_dilated_on_request(tmp_path: Path) -> None:
    dot = np.zeros((21, 21), dtype=np.uint8)
    dot[10, 10] = 1
    write(tmp_path / "a.png", dot)
    generator = SegmentationMask(tmp_path, smallest=0, scale=(1, 1), dilate=(1, 2))
    sizes = {int(generator(21, 21, np.random.default_rng(s)).sum()) for s in range(300)}
    assert {9, 25} <= sizes  # less where the border cuts them off


def test_regions_larger_than_the_picture_show_a_part(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.tri(20, 20, dtype=np.uint8))
    generator = SegmentationMask(tmp_path, scale=(4, 4), flip=False)
    ratios = []
    for seed in range(40):
        mask = generator(20, 20, np.random.default_rng(seed))
        ratios.append(mask.mean())
        assert mask[-1, 0]  # what is seen of a triangle has its right angle at the same corner
        assert not mask[0, -1]
    assert min(ratios) < 0.6
    assert max(ratios) > 0.75


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[False, True], [True, False]]), [[0, 1], [1, 0]]),
        (np.array([[0, 300], [70000, 5]], dtype=np.int32), [[0, 300], [70000, 5]]),
        (np.array([[0, 300], [65535, 5]], dtype=np.uint16), [[0, 300], [65535, 5]]),
        (
            np.array([[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [2, 3, 4]]], dtype=np.uint8),
            [[1, 256], [65536, 2 + 3 * 256 + 4 * 65536]],
        ),
    ],
)
def test_labels_of_any_depth(tmp_path: Path, values: np.ndarray, expected: list[list[int]]) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_labels(path), expected)


def test_deep_labels_make_holes(tmp_path: Path) -> None:
    Image.fromarray(LABELS.astype(np.int32) * 1000).save(tmp_path / "a.tif")
    generator = SegmentationMask(tmp_path, scale=(1, 1), ignore=[0, 1000, 255000])
    assert extents(generator, (20, 30)) == {(4, 10)}


def test_map_of_another_kind_is_a_bad_mask(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.tif")
    with pytest.raises(BadMaskError, match=r"a\.tif is no map of labels: .* not CMYK") as caught:
        SegmentationMask(tmp_path)(8, 8, np.random.default_rng(0))
    assert caught.value.path == str(tmp_path / "a.tif")


@pytest.mark.parametrize("ratio", [None, (0.1, 0.2)])
def test_unreadable_map_is_a_bad_mask_at_set_up(
    tmp_path: Path, ratio: tuple[float, float] | None
) -> None:
    (tmp_path / "a.png").write_text("no map")
    generator = SegmentationMask(tmp_path)
    held = generator if ratio is None else HoleRatioMask(generator, ratio)
    (bad,) = held.prepare(NO_FILES, (8, 8))
    assert "a.png is not an image" in str(bad)


def test_maps_without_a_region_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "empty.png", np.zeros((20, 30), dtype=np.uint8))
    generator = SegmentationMask(tmp_path, scale=(1, 1))
    assert extents(generator, (20, 30)) == {(5, 6), (4, 10)}
    (tmp_path / "a.png").unlink()
    none = SegmentationMask(tmp_path)
    with pytest.raises(ValueError, match=r"none of 200 .* covers 0\.01 .*\[0, 255\]: .*mask\.ign"):
        none.prepare(NO_FILES, (20, 30))


@pytest.mark.parametrize(
    "settings",
    [{"smallest": 1}, {"scale": (0, 1)}, {"scale": (2, 1)}, {"dilate": (2, 1)}],
)
def test_settings_out_of_range_are_named(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SegmentationMask(tmp_path, **settings)


def test_root_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"mask\.root=/path/to/label_maps"):
        SegmentationMask(None)
