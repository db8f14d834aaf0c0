import re
from collections.abc import Callable

import numpy as np
import pytest

from csa_inpaint.data import (
    BlobMask,
    BorderMask,
    CenterMask,
    FreeformMask,
    HoleRatioMask,
    MaskGenerator,
    RectangleMask,
)
from csa_inpaint.data.masks import Mask


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
    coverage = np.mean([generator(64, 64, rng) for _ in range(4000)], axis=0)
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


def test_borders_are_bands_of_the_asked_width() -> None:
    generator = BorderMask((0.1, 0.2), sides=["left"])
    widths = set()
    for seed in range(100):
        mask = generator(20, 100, np.random.default_rng(seed))
        width = int(mask[0].sum())
        assert mask[:, :width].all()
        assert not mask[:, width:].any()
        widths.add(width)
    assert min(widths) == 10
    assert max(widths) == 20
    corners = {"top": (0, 50), "bottom": (-1, 50), "right": (50, -1)}
    for side, place in corners.items():
        mask = BorderMask((0.1, 0.1), [side])(100, 100, np.random.default_rng(0))
        assert mask.mean() == 0.1
        assert mask[place]


def test_borders_are_chosen_by_count() -> None:
    generator = BorderMask((0.1, 0.1), count=(1, 2))
    ratios = {
        round(float(generator(100, 100, np.random.default_rng(seed)).mean()), 2)
        for seed in range(100)
    }
    assert ratios == {0.1, 0.19, 0.2}


def test_blobs_without_irregularity_are_disks() -> None:
    def whole_blobs(irregularity: float) -> list[np.ndarray]:
        generator = BlobMask((1, 1), (0.1, 0.1), irregularity)
        masks = [generator(200, 200, np.random.default_rng(seed)) for seed in range(60)]
        borders = [(mask[[0, -1]].any() or mask[:, [0, -1]].any()) for mask in masks]
        return [mask for mask, border in zip(masks, borders, strict=True) if not border]

    for mask in whole_blobs(0):
        assert mask.sum() == pytest.approx(np.pi * 20**2, rel=0.06)
        assert mask.any(0).sum() == pytest.approx(40, abs=2)
    widths = [mask.any(0).sum() for mask in whole_blobs(1)]
    assert min(widths) < 36
    assert max(widths) > 48


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (CenterMask, {"size": 0}),
        (CenterMask, {"size": 10.5}),
        (CenterMask, {"size": (1, 2, 3)}),
        (RectangleMask, {"size": (0.5, 0.2)}),
        (RectangleMask, {"size": 64}),
        (RectangleMask, {"size": (0.1, 0.2, 0.3)}),
        (RectangleMask, {"count": (0, 1)}),
        (RectangleMask, {"count": 3}),
        (RectangleMask, {"count": (1, 1.5)}),
        (RectangleMask, {"margin": -1}),
        (FreeformMask, {"strokes": (0, 2)}),
        (FreeformMask, {"vertices": (3, 2)}),
        (FreeformMask, {"brush_width": (0.0, 0.1)}),
        (FreeformMask, {"brush_width": (12, 40)}),
        (FreeformMask, {"length": 0}),
        (FreeformMask, {"length": 32}),
        (BorderMask, {"width": (0.1, 0.5)}),
        (BorderMask, {"sides": ["up"]}),
        (BorderMask, {"count": (1, 5)}),
        (BlobMask, {"count": (2, 1)}),
        (BlobMask, {"radius": (0, 0.1)}),
        (BlobMask, {"radius": (20, 60)}),
        (BlobMask, {"irregularity": 2}),
    ],
)
def test_settings_out_of_range_are_named(
    kind: Callable[..., MaskGenerator], settings: dict[str, object]
) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(
        ValueError, match=rf"^{name}={re.escape(str(value))}.*: (expected|there are)"
    ):
        kind(**settings)


@pytest.mark.parametrize("size", [(0.5, 100), (100, 100.5)])
def test_size_of_mixed_units_is_refused(size: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=rf"size={re.escape(str(size))} |size=100\.5: expected"):
        RectangleMask(size)
    with pytest.raises(ValueError, match="give both below 1 or both in whole pixels"):
        RectangleMask((0.5, 100))


def measured(kind: MaskGenerator, ratio: tuple[float, float], size: tuple[int, int]) -> list[Mask]:
    generator = HoleRatioMask(kind, ratio)
    return [generator(*size, np.random.default_rng(seed)) for seed in range(60)]


def extent(mask: Mask) -> tuple[int, int]:
    return int(mask.any(1).sum()), int(mask.any(0).sum())


def test_center_hole_keeps_its_shape_and_middle_at_every_ratio() -> None:
    areas = set()
    for mask in measured(CenterMask((0.5, 0.25)), (0.02, 0.4), (100, 100)):
        rows, columns = extent(mask)
        assert mask.sum() == rows * columns
        assert rows / columns == pytest.approx(2, abs=2 / columns)
        middle = mask[::-1, ::-1]
        assert (mask ^ middle).sum() <= 2 * (rows + columns)  # an odd side is off by a pixel
        areas.add(int(mask.sum()))
    assert len(areas) > 30
    for mask in measured(CenterMask((0.5, 0.25)), (0.8, 0.9), (100, 100)):
        assert extent(mask)[0] >= 98  # as high as the picture, and wider than by its shape


def test_rectangles_keep_count_shape_and_margin_at_every_ratio() -> None:
    for mask in measured(RectangleMask((10, 10), margin=5), (0.1, 0.5), (64, 64)):
        rows, columns = extent(mask)
        assert rows == columns
        assert mask.sum() == rows * columns
        assert not mask[:5].any()
        assert not mask[:, -5:].any()
    places = {mask.argmax() for mask in measured(RectangleMask((10, 10)), (0.1, 0.2), (64, 64))}
    assert len(places) > 40
    apart = [
        mask.sum() < 0.8 * np.prod(extent(mask))
        for mask in measured(RectangleMask((8, 12), count=(2, 2)), (0.02, 0.04), (64, 64))
    ]
    assert np.mean(apart) > 0.5


def test_borders_keep_their_sides_at_every_ratio() -> None:
    for mask in measured(BorderMask(sides=["left", "top"]), (0.05, 0.9), (64, 64)):
        known = ~mask
        assert known.sum() == np.prod(extent(known))  # a rectangle
        assert known[-1, -1]
        assert mask[0].all()
        assert mask[:, 0].all()
    for mask in measured(BorderMask(sides=["right"]), (0.05, 0.9), (64, 64)):
        assert mask.all(0).sum() == mask.any(0).sum() == mask[0].sum()
        assert mask[0, -1]
        assert not mask[0, 0]
    widths = [
        (mask[32].argmin(), mask[32, ::-1].argmin())
        for mask in measured(BorderMask((0.1, 0.3), ["left", "right"]), (0.3, 0.6), (64, 64))
    ]
    shares = [left / (left + right) for left, right in widths]
    assert min(shares) < 0.4  # bands are of different widths, as without a ratio
    assert max(shares) > 0.6


def test_freeform_of_a_small_ratio_is_a_small_stroke() -> None:
    heights = [extent(mask)[0] for mask in measured(FreeformMask(), (0.01, 0.02), (128, 128))]
    assert np.mean(heights) < 48
    large = measured(FreeformMask(), (0.5, 0.6), (128, 128))
    assert np.mean([extent(mask)[0] for mask in large]) > 110


def test_blobs_keep_their_outline_at_every_ratio() -> None:
    kind = BlobMask((1, 1), (0.1, 0.1), irregularity=0)
    for mask in measured(kind, (0.02, 0.04), (100, 100)):
        if not (mask[[0, -1]].any() or mask[:, [0, -1]].any()):
            rows, columns = extent(mask)
            assert rows == pytest.approx(columns, abs=2)
            assert mask.sum() == pytest.approx(np.pi * rows * columns / 4, rel=0.1)
