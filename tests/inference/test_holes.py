"""Groups of holes, their scale, and the windows that cover them."""

import numpy as np
import pytest

from csa_inpaint.inference.holes import (
    Box,
    Strategy,
    boxes,
    check_strategy,
    coarse,
    group_cell,
    label,
    own_hole,
    plan,
    spread,
    thickness,
)


def flood(mask: np.ndarray) -> np.ndarray:
    """Numbers of connected groups, one pixel after the other."""
    labels = np.zeros(mask.shape, dtype=np.int64)
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        number = labels.max() + 1
        pending = [start]
        while pending:
            row, column = pending.pop()
            if labels[row, column] or not mask[row, column]:
                continue
            labels[row, column] = number
            pending += [
                (r, c)
                for r in range(max(row - 1, 0), min(row + 2, mask.shape[0]))
                for c in range(max(column - 1, 0), min(column + 2, mask.shape[1]))
            ]
    return labels


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (17, 23), (40, 31)])
def test_label_numbers_connected_groups_in_raster_order(
    shape: tuple[int, int], share: float
) -> None:
    mask = np.random.default_rng(1).random(shape) < share
    assert np.array_equal(label(mask), flood(mask))


def test_label_follows_a_long_winding_group() -> None:
    spiral = np.zeros((61, 61), dtype=bool)
    row, column, step = 0, 0, (0, 1)
    for length in [60, *(side for side in range(60, 1, -2) for _ in range(2))]:
        for _ in range(length):
            spiral[row, column] = True
            row, column = row + step[0], column + step[1]
        step = (step[1], -step[0])
    assert label(spiral).max() == flood(spiral).max() == 1


def test_boxes_are_exact_to_the_pixel() -> None:
    hole = np.zeros((50, 70), dtype=bool)
    hole[3:9, 5:20] = True
    hole[30:50, 69] = True
    labels = label(coarse(hole, 8))
    assert boxes(labels, hole, 8) == [Box(3, 5, 9, 20), Box(30, 69, 50, 70)]


@pytest.mark.parametrize("seed", range(20))
def test_thickness_is_the_side_of_the_largest_square(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hole = rng.random((12, 15)) < rng.uniform(0.5, 1)
    largest = max(
        side
        for side in range(13)
        if side == 0
        or any(
            hole[top : top + side, left : left + side].all()
            for top in range(13 - side)
            for left in range(16 - side)
        )
    )
    assert thickness(hole) == largest


@pytest.mark.parametrize("window", [8, 16, 33])
def test_spread_covers_an_interval_with_cores(window: int) -> None:
    for length in (5, 16, 50, 120):
        for start in range(0, length, 7):
            for end in range(start + 1, length + 1, 5):
                core = window // 2
                starts = spread(start, end, length, window, core)
                covered = np.zeros(length, dtype=bool)
                margin = (window - core) // 2
                for left in starts:
                    right = min(left + window, length)
                    assert left >= 0
                    # One pixel on each side is for rounding; beyond the edge there is no window.
                    first = left + margin - 1 if left > 0 else 0
                    last = right - margin + 1 if right < length else length
                    covered[first:last] = True
                assert covered[start:end].all()


def regions_of(hole: np.ndarray, size: int, strategy: Strategy = "crop") -> list[tuple[Box, int]]:
    regions, labels = plan(hole, size, strategy)
    total = np.zeros(hole.shape, dtype=int)
    for region in regions:
        whole = Box(0, 0, *hole.shape)
        own = own_hole(hole, labels, group_cell(size), region, whole)
        total += own
        assert not own[: region.box.top].any()
        assert not own[region.box.bottom :].any()
    assert np.array_equal(total, hole)  # each hole pixel belongs to one region
    return [(region.box, region.factor) for region in regions]


def test_plan_takes_a_small_picture_as_it_is() -> None:
    hole = np.zeros((64, 50), dtype=bool)
    hole[3:50, 5:40] = hole[60, 45] = True
    assert regions_of(hole, 64) == [(Box(3, 5, 61, 46), 1)]


def test_plan_reduces_a_hole_until_it_fills_half_a_window() -> None:
    hole = np.zeros((2000, 3000), dtype=bool)
    hole[700:1300, 1150:1850] = True
    assert regions_of(hole, 128) == [(Box(700, 1150, 1300, 1850), 10)]
    assert regions_of(hole, 256) == [(Box(700, 1150, 1300, 1850), 5)]


def test_plan_keeps_the_scale_of_a_long_thin_hole() -> None:
    hole = np.zeros((500, 900), dtype=bool)
    for column in range(20, 880):
        hole[column // 2 : column // 2 + 6, column] = True
    ((box, factor),) = regions_of(hole, 64)
    assert factor == 1
    assert box.width == 860


def test_plan_counts_a_hole_at_the_edge_twice() -> None:
    hole = np.zeros((800, 800), dtype=bool)
    hole[300:400, 300:400] = True
    inside = regions_of(hole, 64)[0][1]
    hole = np.roll(hole, (400, 400), (0, 1))
    hole = np.zeros((800, 800), dtype=bool)
    hole[700:, 700:] = True
    assert regions_of(hole, 64)[0][1] > 1.5 * inside


def test_plan_joins_what_is_close_and_parts_what_is_far() -> None:
    hole = np.zeros((600, 600), dtype=bool)
    hole[100:120, 100:120] = hole[100:120, 122:140] = True
    hole[500:520, 500:520] = True
    assert [box for box, _ in regions_of(hole, 64)] == [
        Box(100, 100, 120, 140),
        Box(500, 500, 520, 520),
    ]


def test_plan_gives_many_scratches_few_windows() -> None:
    rng = np.random.default_rng(0)
    hole = np.zeros((1000, 1500), dtype=bool)
    for top, left in zip(rng.integers(0, 990, 1000), rng.integers(0, 1480, 1000), strict=True):
        hole[top : top + 2, left : left + 15] = True
    regions = regions_of(hole, 128)
    assert len(regions) < 300
    assert {factor for _, factor in regions} == {1}


def test_plan_resizes_or_keeps_the_whole_picture() -> None:
    hole = np.zeros((300, 500), dtype=bool)
    hole[10:20, 10:20] = hole[200:220, 300:420] = True
    assert regions_of(hole, 64, "resize") == [(Box(10, 10, 220, 420), 8)]
    assert regions_of(hole, 64, "full") == [(Box(10, 10, 220, 420), 1)]


def test_strategy_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="size_strategy='croop': expected crop, resize, full"):
        check_strategy("croop")
