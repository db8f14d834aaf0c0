from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csa_inpaint.data import (
    BadMaskError,
    BlobMask,
    BorderMask,
    CenterMask,
    FileList,
    FolderMask,
    FreeformMask,
    HoleRatioMask,
    MaskGenerator,
    MixtureMask,
    PairedMask,
    RectangleMask,
    SegmentationMask,
)
from csa_inpaint.data.masks import Mask

Save = Callable[[Path, np.ndarray], Path]

HOLE = np.zeros((12, 16), dtype=bool)
HOLE[3:7, 2:9] = True

KINDS = [
    "center",
    "rectangle",
    "freeform",
    "folder",
    "mixture",
    "border",
    "blob",
    "varied folder",
    "ratio",
    "segmentation",
]
NO_FILES = FileList(Path("nowhere"), [])


@pytest.fixture
def generators(tmp_path: Path, save: Save) -> dict[str, MaskGenerator]:
    for number in range(4):
        save(tmp_path / "masks" / f"{number}.png", np.roll(HOLE, number, axis=1))
    labels = tmp_path / "labels"
    labels.mkdir()
    Image.fromarray(HOLE.astype(np.uint8) * 7).save(labels / "a.png")
    return {
        "center": CenterMask(0.5),
        "rectangle": RectangleMask((0.1, 0.9), count=(1, 3)),
        "freeform": FreeformMask(),
        "folder": FolderMask(tmp_path / "masks"),
        "mixture": MixtureMask({"a": CenterMask(3), "b": FreeformMask()}),
        "border": BorderMask(count=(1, 4)),
        "blob": BlobMask(),
        "varied folder": FolderMask(tmp_path / "masks", flip=True, rotate=True, dilate=(0, 2)),
        "ratio": HoleRatioMask(RectangleMask((0.1, 0.9)), (0.2, 0.3)),
        "segmentation": SegmentationMask(labels),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(64, 64), (24, 56)])
def test_hole_is_never_empty_or_everything_and_follows_the_seed(
    generators: dict[str, MaskGenerator], kind: str, size: tuple[int, int]
) -> None:
    masks = []
    for seed in range(40):
        mask = generators[kind](*size, np.random.default_rng(seed))
        assert mask.dtype == bool
        assert set(mask.view(np.uint8).flat) == {0, 1}  # Pillow's own boolean arrays hold 255
        assert mask.shape == size
        assert mask.any()
        assert not mask.all()
        np.testing.assert_array_equal(mask, generators[kind](*size, np.random.default_rng(seed)))
        masks.append(mask.tobytes())
    assert len(set(masks)) == 1 if kind == "center" else len(set(masks)) > 3


def test_mixture_follows_its_weights() -> None:
    kinds = {"small": CenterMask(2), "large": CenterMask(8), "never": CenterMask(4)}
    generator = MixtureMask(kinds, {"large": 3, "small": 1, "never": 0})
    rng = np.random.default_rng(0)
    holes = [int(generator(16, 16, rng).sum()) for _ in range(800)]
    assert set(holes) == {4, 64}
    assert np.mean(np.array(holes) == 64) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("weights", [{"a": 1}, {"a": -1, "b": 2}, {"a": 0, "b": 0}])
def test_mixture_refuses_weights_that_do_not_fit(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"mask\.weights"):
        MixtureMask({"a": CenterMask(3), "b": CenterMask(4)}, weights)


RATIOS = [(0.01, 0.03), (0.1, 0.2), (0.45, 0.5), (0.5, 0.9), (0.93, 0.95)]


@pytest.fixture
def of_every_ratio(tmp_path: Path, save: Save) -> dict[str, MaskGenerator]:
    """Every kind of mask; the files have holes of all sizes."""
    for number in range(1, 100):
        hole = np.zeros((20, 50), dtype=bool)
        hole.flat[: 10 * number] = True
        save(tmp_path / "masks" / f"{number:02}.png", hole)
    labels = tmp_path / "labels"
    labels.mkdir()
    ring = np.zeros((40, 60), dtype=np.uint8)
    ring[5:35, 5:50] = 3
    ring[10:30, 10:45] = 0
    Image.fromarray(ring).save(labels / "ring.png")
    folder = tmp_path / "masks"
    drawn = {
        "center": CenterMask((0.5, 0.25)),
        "rectangle": RectangleMask(),
        "rectangles": RectangleMask((4, 20), count=(2, 4)),
        "freeform": FreeformMask(),
        "thin": FreeformMask(brush_width=(0.01, 0.02)),
        "border": BorderMask(count=(1, 4)),
        "borders": BorderMask(width=(0.1, 0.1)),
        "blob": BlobMask(),
        "small blobs": BlobMask((1, 1), (0.01, 0.02), 1.0),
    }
    return {
        **drawn,
        "folder": FolderMask(folder),
        "varied folder": FolderMask(folder, flip=True, rotate=True, dilate=(1, 3)),
        "segmentation": SegmentationMask(labels),
        "wide segmentation": SegmentationMask(labels, dilate=(0, 3)),
        "mixture": MixtureMask(
            {**drawn, "never": PairedMask(folder)}, {**dict.fromkeys(drawn, 1), "never": 0}
        ),
        "ratio": HoleRatioMask(FreeformMask(), (0.005, 0.99)),
    }


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("size", [(64, 64), (40, 96)])
def test_hole_ratio_is_met_by_every_kind_and_draw(
    of_every_ratio: dict[str, MaskGenerator], ratio: tuple[float, float], size: tuple[int, int]
) -> None:
    for name, kind in of_every_ratio.items():
        generator = HoleRatioMask(kind, ratio)
        assert generator.prepare(NO_FILES, size) == []
        for seed in range(40):
            mask = generator(*size, np.random.default_rng(seed))
            assert mask.shape == size
            assert mask.dtype == bool
            assert ratio[0] <= mask.mean() <= ratio[1], (name, seed)
            again = HoleRatioMask(kind, ratio)(*size, np.random.default_rng(seed))
            np.testing.assert_array_equal(mask, again, err_msg=f"{name}, {seed}")


def test_hole_ratio_that_is_met_in_part_is_met_there() -> None:
    generator = HoleRatioMask(RectangleMask(margin=2), (0.55, 0.95))
    for seed in range(200):
        assert 0.55 <= generator(16, 16, np.random.default_rng(seed)).mean() <= 144 / 256


DRAWN = [
    CenterMask((0.5, 0.25)),
    RectangleMask(),
    RectangleMask((4, 20), count=(2, 4)),
    FreeformMask(),
    BorderMask(count=(1, 4)),
    BlobMask(),
]


@pytest.mark.parametrize("kind", DRAWN, ids=lambda kind: type(kind).__name__)
def test_drawn_holes_are_spread_evenly_over_the_range(kind: MaskGenerator) -> None:
    generator = HoleRatioMask(kind, (0.1, 0.9))
    ratios = [generator(64, 64, np.random.default_rng(seed)).mean() for seed in range(400)]
    counts, _ = np.histogram(ratios, bins=4, range=(0.1, 0.9))
    assert counts.min() > 70  # 100 on average


@pytest.mark.parametrize("kind", [FreeformMask(), BlobMask()])
def test_hole_ratio_is_met_to_the_pixel_by_shapes_of_any_outline(kind: MaskGenerator) -> None:
    generator = HoleRatioMask(kind, (1000 / 4096, 1001 / 4096))
    masks = [generator(64, 64, np.random.default_rng(seed)) for seed in range(200)]
    assert {int(mask.sum()) for mask in masks} <= {1000, 1001}
    coverage = np.mean(masks, axis=0)
    halves = coverage[:32].mean(), coverage[32:].mean()  # nothing is cut off by rows
    assert halves[0] == pytest.approx(halves[1], rel=0.15)


@pytest.mark.parametrize(
    ("kind", "ratio", "message"),
    [
        (CenterMask(), (0.501, 0.503), "hole_ratio=.* no hole of whole pixels covers"),
        (CenterMask(), (66.5 / 256, 67.5 / 256), "CenterMask .* no hole of 67 to 67 pixels"),
        (RectangleMask(margin=2), (0.6, 0.7), r"no hole of more than 0\.5625 of a 16x16"),
        (RectangleMask((4, 4)), (0.1, 0.12), "RectangleMask .* 26 to 30 pixels"),
        (BorderMask(sides=["left"]), (0.2, 0.24), "BorderMask .* 52 to 61 pixels"),
    ],
)
def test_hole_ratio_out_of_reach_is_told_at_set_up(
    kind: MaskGenerator, ratio: tuple[float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HoleRatioMask(kind, ratio).prepare(NO_FILES, (16, 16))


def test_settings_that_suit_no_picture_of_the_size_are_told_at_set_up() -> None:
    with pytest.raises(ValueError, match="16x16 pixels leaves nothing"):
        CenterMask(16).prepare(NO_FILES, (16, 16))
    mixture = MixtureMask({"a": CenterMask(8), "b": CenterMask(16)})
    with pytest.raises(ValueError, match="16x16 pixels leaves nothing"):
        mixture.prepare(NO_FILES, (16, 16))


@pytest.mark.parametrize("ratio", [(0.5, 0.4), (0.5, 0.5), (-0.1, 0.2), (0.5, 1.5), (0.1, 0.2, 3)])
def test_hole_ratio_that_is_no_range_is_named(ratio: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="hole_ratio="):
        HoleRatioMask(CenterMask(), ratio)


def test_hole_ratio_of_a_hole_ratio_is_in_both_ranges() -> None:
    inner = HoleRatioMask(FreeformMask(), (0.2, 0.4))
    outer = HoleRatioMask(inner, (0.3, 0.6))
    for seed in range(20):
        assert 0.3 <= outer(64, 64, np.random.default_rng(seed)).mean() <= 0.4
    with pytest.raises(ValueError, match=r"covers both 0\.2 to 0\.4 and 0\.5 to 0\.6"):
        HoleRatioMask(inner, (0.5, 0.6))


class Checkerboard(MaskGenerator):
    """A kind of mask as users write it."""

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        return np.indices((height, width)).sum(0) % 2 == 0


def test_mask_of_ones_own_needs_no_more_than_a_call(tmp_path: Path) -> None:
    assert Checkerboard().prepare(NO_FILES, (4, 4)) == []
    with pytest.raises(ValueError, match=r"Checkerboard cannot be made .* override of_ratio"):
        HoleRatioMask(Checkerboard(), (0.2, 0.3))


def test_mixture_collects_the_bad_files_of_its_kinds(tmp_path: Path, save: Save) -> None:
    for folder in "ab":
        save(tmp_path / folder / "good.png", HOLE)
        (tmp_path / folder / "bad.png").write_text("no mask")
    kinds = {folder: FolderMask(tmp_path / folder) for folder in "ab"}
    bad = HoleRatioMask(MixtureMask(kinds), (0.1, 0.2)).prepare(NO_FILES, (12, 16))
    assert [error.path for error in bad] == [str(tmp_path / folder / "bad.png") for folder in "ab"]
    assert all(isinstance(error, BadMaskError) for error in bad)
