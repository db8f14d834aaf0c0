import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from csa_inpaint.data import (
    CenterMask,
    FolderMask,
    FreeformMask,
    MaskGenerator,
    MixtureMask,
    RectangleMask,
    SoftMaskWarning,
    UnreadableImageError,
    load_mask,
    mask_from_array,
)

HOLE = np.zeros((12, 16), dtype=bool)
HOLE[3:7, 2:9] = True


def save(path: Path, hole: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(hole.astype(np.uint8) * 255).save(path)
    return path


@pytest.fixture
def generators(tmp_path: Path) -> dict[str, MaskGenerator]:
    for number in range(4):
        save(tmp_path / "masks" / f"{number}.png", np.roll(HOLE, number, axis=1))
    return {
        "center": CenterMask(0.5),
        "rectangle": RectangleMask((0.1, 0.9), count=(1, 3)),
        "freeform": FreeformMask(),
        "folder": FolderMask(tmp_path / "masks"),
        "mixture": MixtureMask({"a": CenterMask(3), "b": FreeformMask()}),
    }


KINDS = ["center", "rectangle", "freeform", "folder", "mixture"]


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


def test_center_hole_is_central_in_pixels_or_as_a_fraction() -> None:
    rng = np.random.default_rng(0)
    mask = CenterMask(6)(16, 20, rng)
    assert mask.sum() == 36
    assert mask[5:11, 7:13].all()
    assert CenterMask(0.25)(16, 20, rng).sum() == 4 * 5
    assert CenterMask((1, 0.5))(16, 20, rng).sum() == 1 * 10
    assert CenterMask((16, 3))(16, 20, rng).sum() == 16 * 3


def test_center_hole_as_large_as_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"16x16 pixels leaves nothing of a 16x16.*mask\.size"):
        CenterMask(16)(16, 16, np.random.default_rng(0))


def test_rectangles_keep_sizes_and_margin() -> None:
    generator = RectangleMask((4, 7), margin=2)
    heights = set()
    for seed in range(200):
        mask = generator(20, 30, np.random.default_rng(seed))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert rows[0] >= 2
        assert columns[-1] < 28
        heights.add(len(rows))
    assert heights == {4, 5, 6, 7}


def test_rectangle_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"12 pixels does not fit into the 10 of a side of 16"):
        RectangleMask((12, 12), margin=3)(16, 32, np.random.default_rng(0))


def test_rectangles_that_always_cover_everything_are_refused() -> None:
    with pytest.raises(ValueError, match="cover everything"):
        RectangleMask((16, 16))(16, 16, np.random.default_rng(0))


def test_freeform_scales_with_the_picture() -> None:
    def ratio(side: int) -> float:
        rng = np.random.default_rng(0)
        return float(np.mean([FreeformMask()(side, side, rng).mean() for _ in range(200)]))

    assert 0.1 < ratio(256) < 0.4
    assert ratio(64) == pytest.approx(ratio(256), rel=0.15)


def test_freeform_brush_is_as_wide_as_asked() -> None:
    generator = FreeformMask((1, 1), (1, 1), angle=(0, 0), length=0.2, brush_width=(0.1, 0.1))
    for seed in range(20):
        mask = generator(200, 200, np.random.default_rng(seed))
        assert mask.any(1).sum() == pytest.approx(20, abs=2) or mask[[0, -1]].any()


@pytest.mark.parametrize(
    "generator",
    [FreeformMask(), FreeformMask((1, 1), (1, 1), angle=(1, 1))],
    ids=["default", "segments"],
)
def test_freeform_covers_the_picture_evenly(generator: FreeformMask) -> None:
    rng = np.random.default_rng(0)
    coverage = np.mean([generator(64, 64, rng) for _ in range(800)], axis=0)
    corners = [coverage[:32, :32], coverage[32:, :32], coverage[:32, 32:], coverage[32:, 32:]]
    quadrants = [corner.mean() for corner in corners]
    assert np.ptp(quadrants) < 0.2 * np.mean(quadrants)


def test_freeform_stroke_turns_back_on_itself() -> None:
    generator = FreeformMask((1, 1), (12, 12), (1, 1), length=0.02, brush_width=(0.005, 0.005))
    heights = [
        np.ptp(np.flatnonzero(generator(400, 400, np.random.default_rng(seed)).any(1)))
        for seed in range(20)
    ]
    # A segment is 11 pixels long; twelve that all went the same way would rise by about 110.
    assert np.mean(heights) < 50


def test_folder_masks_use_every_file_and_resize_with_nearest_neighbour(
    generators: dict[str, MaskGenerator],
) -> None:
    found = {
        generators["folder"](24, 32, np.random.default_rng(seed)).tobytes() for seed in range(50)
    }
    expected = {
        np.roll(HOLE, number, axis=1).repeat(2, 0).repeat(2, 1).tobytes() for number in range(4)
    }
    assert found == expected


def test_folder_masks_of_another_size_are_refused_without_resizing(tmp_path: Path) -> None:
    save(tmp_path / "a.png", HOLE)
    with pytest.raises(ValueError, match=r"a\.png has 12x16 pixels .* its picture 16x16"):
        FolderMask(tmp_path, resize=False)(16, 16, np.random.default_rng(0))


def test_folder_masks_with_black_holes(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (CenterMask, {"size": 0}),
        (CenterMask, {"size": 10.5}),
        (RectangleMask, {"size": (0.5, 0.2)}),
        (RectangleMask, {"count": (0, 1)}),
        (RectangleMask, {"margin": -1}),
        (FreeformMask, {"strokes": (0, 2)}),
        (FreeformMask, {"vertices": (3, 2)}),
        (FreeformMask, {"brush_width": (0.0, 0.1)}),
        (FreeformMask, {"length": 0}),
    ],
)
def test_settings_out_of_range_are_named(
    kind: Callable[..., MaskGenerator], settings: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        kind(**settings)


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


def test_mask_file_of_another_size_names_both(tmp_path: Path) -> None:
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
    ],
)
def test_arrays_that_are_no_mask_are_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"the mask.*{message}"):
        mask_from_array(mask)


def test_unknown_polarity_is_named() -> None:
    with pytest.raises(ValueError, match="polarity='grey': expected white or black"):
        mask_from_array(HOLE, polarity="grey")
