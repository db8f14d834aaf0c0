import numpy as np
import pytest

from csa_inpaint.data.masks.sizing import (
    HoleSize,
    Scaled,
    closest_rectangle,
    enlarge,
    filled_up,
    hole_limits,
    narrow,
)


@pytest.mark.parametrize("area", [1, 6, 20, 35, 77])
def test_closest_rectangle_is_the_best_of_all(area: int) -> None:
    hole, wanted = HoleSize(area - 1, area + 1, area), (4.3, 6.8)
    sides = [(r, c) for r in range(1, 10) for c in range(2, 12) if hole.fits(r * c)]
    best = min(sides, key=lambda side: (side[0] - wanted[0]) ** 2 + (side[1] - wanted[1]) ** 2)
    found = closest_rectangle(hole, wanted, range(1, 10), range(2, 12))
    assert found is not None
    assert hole.fits(found[0] * found[1])
    distance = [(r - wanted[0]) ** 2 + (c - wanted[1]) ** 2 for r, c in (found, best)]
    # The width is rounded before it is compared, which may cost a fraction of a pixel.
    assert distance[0] == pytest.approx(distance[1], abs=0.5)


def test_no_rectangle_of_a_prime_area_fits_into_a_smaller_picture() -> None:
    assert closest_rectangle(HoleSize(13, 13, 13), (3, 4), range(1, 12), range(1, 12)) is None
    assert closest_rectangle(HoleSize(13, 13, 13), (3, 4), range(1, 14), range(1, 12)) == (13, 1)


@pytest.mark.parametrize(
    ("ratio", "limits"),
    [
        ((0.07, 0.29), (7, 29)),
        ((0.071, 0.289), (8, 28)),
        ((0, 1), (1, 99)),
        ((0.5, 0.501), (50, 50)),
    ],
)
def test_limits_are_whole_pixels_within_the_range(
    ratio: tuple[float, float], limits: tuple[int, int]
) -> None:
    assert hole_limits(ratio, 10, 10) == limits


def test_range_without_a_whole_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hole_ratio=\(0\.501, 0\.509\): .* 10x10 picture"):
        hole_limits((0.501, 0.509), 10, 10)


def square(scale: float) -> np.ndarray:
    mask = np.zeros((50, 50), dtype=bool)
    mask[: round(scale), : round(scale)] = True
    return mask


@pytest.mark.parametrize("start", [0.6, 7.0, 45.0])
@pytest.mark.parametrize("target", [1, 100, 1225, 2400])
def test_scale_is_found_from_anywhere(start: float, target: int) -> None:
    side = round(target**0.5)
    fitting, _ = enlarge(square, start, HoleSize(side * side, side * side, side * side))
    assert fitting.pixels == side * side
    assert fitting.mask.sum() == side * side


def test_hole_between_two_scales_is_filled_up_to_the_pixel() -> None:
    hole = HoleSize(130, 130, 130)
    smaller, larger = narrow(square, Scaled.of(0, square(0)), Scaled.of(50, square(50)), hole)
    assert (smaller.pixels, larger.pixels) == (121, 144)
    mask = filled_up(smaller, larger, hole)
    assert mask.sum() == 130
    assert (mask >= smaller.mask).all()
    assert (mask <= larger.mask).all()
    assert smaller.mask.sum() == 121  # what was found before stays as it is
