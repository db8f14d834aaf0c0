"""Reducing pictures to cells, and completing the detail that this takes away."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from csa_inpaint.inference import detail
from csa_inpaint.inference.detail import complete, enlarged, match
from csa_inpaint.inference.holes import Box
from csa_inpaint.inference.scale import enlarge, reduce

FACTOR = 4


def texture(cells: int = 64) -> tuple[Tensor, Tensor, Tensor, Tensor, Box]:
    """A picture of noise in two colours, and a smooth filling of its hole."""
    side = cells * FACTOR
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, side, side, generator=generator) - 0.5
    base = torch.full((3, side, side), 0.3)
    base[:, :, side // 2 :] = -0.3
    image = base + noise
    known = torch.ones(1, side, side, dtype=torch.bool)
    known[:, side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = False
    small, seen = reduce(image, known, FACTOR)
    smooth = F.avg_pool2d(base[None], FACTOR)[0]
    box = Box(cells // 3 - 2, cells // 3 - 2, 2 * cells // 3 + 3, 2 * cells // 3 + 3)
    return torch.where(seen, small, smooth), ~seen, image, known, box


def test_reduce_looks_at_known_pixels_only() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 10, 13, generator=generator)
    known = torch.rand(1, 10, 13, generator=generator) > 0.4
    known[:, ::4, ::4] = True  # a pixel of each cell at least
    cells, seen = reduce(image.masked_fill(~known, torch.nan), known, 4)
    assert cells.shape == (3, 3, 4)
    for row in range(3):
        for column in range(4):
            part = (slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            inside = known[0][part]
            mean = image[:, *part][:, inside].mean(dim=1)
            torch.testing.assert_close(cells[:, row, column], mean)
            assert bool(seen[0, row, column]) == (inside.float().mean() >= 0.5)


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_enlarged_cells_are_interpolated(factor: int) -> None:
    cells = torch.rand(3, 7, 4, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(cells[None], scale_factor=factor, mode="bicubic")[0]
    torch.testing.assert_close(enlarge(cells, factor), expected)


def test_enlarged_box_is_that_of_the_whole() -> None:
    cells = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0))
    for box in (Box(0, 0, 5, 5), Box(7, 9, 15, 24), Box(3, 3, 20, 8)):
        whole = enlarge(cells, 3)[:, *box.times(3).slices]
        torch.testing.assert_close(enlarged(cells, box, 3), whole)


def test_complete_gives_the_hole_the_variance_of_its_surroundings() -> None:
    cells, hole, image, known, box = texture()
    inside = ~known[:, *box.times(FACTOR).slices].expand(3, -1, -1)
    plain = enlarged(cells, box, FACTOR)
    detailed = complete(cells, hole, image, known, FACTOR, box)
    noise = image[:, :50, :50] - 0.3
    assert (detailed - plain)[inside].std() > 0.8 * noise.std()
    assert (detailed - plain)[inside].std() < 1.3 * noise.std()
    # The colours are those of the filling.
    left = inside.clone()
    left[:, :, inside.shape[-1] // 2 :] = False
    assert abs(float(detailed[left].mean() - plain[left].mean())) < 0.05


def test_complete_adds_the_share_of_the_detail_that_is_asked_for() -> None:
    cells, hole, image, known, box = texture()
    plain = complete(cells, hole, image, known, FACTOR, box, amount=0)
    assert torch.equal(plain, enlarged(cells, box, FACTOR))
    whole = complete(cells, hole, image, known, FACTOR, box) - plain
    half = complete(cells, hole, image, known, FACTOR, box, amount=0.5) - plain
    torch.testing.assert_close(half, whole / 2)


def test_complete_adds_detail_to_a_filling_of_the_pictures_own_size() -> None:
    _, _, image, known, _ = texture()
    box = Box(80, 80, 176, 176)
    hole = ~known
    smooth = torch.where(known, image, torch.where(torch.arange(256) < 128, 0.3, -0.3))
    detailed = complete(smooth, hole, image, known, 1, box)
    inside = hole[:, *box.slices].expand(3, -1, -1)
    added = (detailed - smooth[:, *box.slices])[inside]
    noise = image[:, :50, :50] - 0.3
    assert 0.8 * noise.std() < added.std() < 1.3 * noise.std()


def test_complete_keeps_a_filling_that_is_as_sharp_as_its_surroundings() -> None:
    _, _, image, known, _ = texture()
    box = Box(80, 80, 176, 176)
    detailed = complete(image, ~known, image, known, 1, box)
    added = (detailed - image[:, *box.slices]).std()
    assert added < 0.2 * image.std()


def test_complete_takes_nothing_from_hidden_pixels() -> None:
    cells, hole, image, known, box = texture()
    expected = complete(cells, hole, image, known, FACTOR, box)
    hidden = image.masked_fill(~known, torch.nan)
    assert torch.equal(complete(cells, hole, hidden, known, FACTOR, box), expected)


def test_match_prefers_blocks_of_the_same_colour() -> None:
    cells, hole, _, _, box = texture()
    pairs = match(cells, hole, hole, box)
    assert pairs
    for block, source in pairs:
        assert not hole[:, *source.slices].any()
        if block.right <= 32:
            assert source.left < 32 - 8
        if block.left >= 32:
            assert source.right > 32 + 8


def test_match_prefers_near_blocks() -> None:
    flat = torch.zeros(3, 96, 96)
    hole = torch.zeros(1, 96, 96, dtype=torch.bool)
    hole[:, 64:80, 64:80] = True  # far from where a search begins
    pairs = match(flat, hole, hole, Box(64, 64, 80, 80))
    for block, source in pairs:
        assert max(abs(source.top - block.top), abs(source.left - block.left)) <= 32


def test_match_does_not_repeat_one_block() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = torch.rand(3, 96, 96, generator=generator) * 0.02
    hole = torch.zeros(1, 96, 96, dtype=torch.bool)
    hole[:, 24:72, 24:72] = True
    cells[:, hole[0]] = 0.01
    sources = Counter(source for _, source in match(cells, hole, hole, Box(24, 24, 72, 72)))
    assert max(sources.values()) <= 3


def test_match_continues_the_match_of_a_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, hole, _, _, box = texture()

    def offsets() -> int:
        pairs = match(cells, hole, hole, box)
        return len({(block.top - one.top, block.left - one.left) for block, one in pairs})

    monkeypatch.setattr(detail, "COHERENT", 0.0)
    apart = offsets()
    monkeypatch.setattr(detail, "COHERENT", 10.0)
    assert offsets() < apart / 2


def test_complete_copies_what_continues_a_match_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, hole, image, known, box = texture()
    monkeypatch.setattr(detail, "COHERENT", 10.0)
    inside = ~known[:, *box.times(FACTOR).slices].expand(3, -1, -1)
    plain = enlarged(cells, box, FACTOR)
    added = (complete(cells, hole, image, known, FACTOR, box) - plain)[inside]
    noise = image[:, :50, :50] - 0.3
    assert 0.85 * noise.std() < added.std() < 1.15 * noise.std()


def test_match_of_very_many_blocks_looks_at_some_and_continues_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
    hole = torch.zeros(1, 96, 96, dtype=torch.bool)
    hole[:, 30:62, 30:62] = True
    box = Box(30, 30, 62, 62)
    every = match(cells, hole, hole, box)
    monkeypatch.setattr(detail, "COHERENT", 10.0)
    monkeypatch.setattr(detail, "CANDIDATES", 60)  # fewer than those of the finer grid
    some = match(cells, hole, hole, box)
    assert all(source.top % 8 == source.left % 8 == 0 for _, source in some)
    assert any(source.top % 8 or source.left % 8 for _, source in every)
    moves = Counter((block.top - one.top, block.left - one.left) for block, one in some)
    assert len(moves) < len(some) / 4


def test_match_does_not_depend_on_how_many_blocks_are_compared_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells, hole, _, _, box = texture()
    expected = match(cells, hole, hole, box)
    monkeypatch.setattr(detail, "TARGETS", 3)
    assert match(cells, hole, hole, box) == expected


def test_complete_reaches_the_last_cells_of_an_odd_number() -> None:
    cells, _, image, known, _ = texture(63)
    known = torch.ones_like(known)
    known[:, -30:, -30:] = False
    _, seen = reduce(image, known, FACTOR)
    box = Box(53, 53, 63, 63)
    detailed = complete(cells, ~seen, image, known, FACTOR, box)
    assert (detailed - enlarged(cells, box, FACTOR))[:, -4:, -4:].abs().min() > 0


@pytest.mark.parametrize("side", [8, 20])
def test_complete_without_a_known_block_only_enlarges(side: int) -> None:
    cells = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))
    hole = torch.ones(1, side, side, dtype=torch.bool)
    hole[:, 0, 0] = False
    known = torch.zeros(1, side * FACTOR, side * FACTOR, dtype=torch.bool)
    box = Box(0, 0, side, side)
    image = torch.full((3, side * FACTOR, side * FACTOR), torch.nan)
    assert torch.equal(complete(cells, hole, image, known, FACTOR, box), enlarge(cells, FACTOR))
