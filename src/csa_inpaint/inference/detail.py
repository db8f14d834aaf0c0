"""Detail that a filling lacks, taken from the known parts of the picture.

A network that reduces the mean error predicts the mean of all textures that may be there, which is
smooth, and it cannot hold what is finer than the cells that it sees. Yi et al. ("Contextual
residual aggregation for ultra high-resolution image inpainting", CVPR 2020) fill a reduced picture
and add what the reduction lost of the known patches that the filling resembles. Here blocks are
matched by their colours, so that any method's filling can be completed, and what is added is also
what the filling lacks at the network's own scale.
"""

from functools import reduce
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from csa_inpaint.inference.blend import blur
from csa_inpaint.inference.holes import Box
from csa_inpaint.inference.scale import any_pixel, enlarge

BLOCK = 16  # side of a block, in cells
STEP = BLOCK // 2  # between neighbouring blocks
MATCHED = 2  # cells of a side of what is compared
SMOOTH = 4.0  # standard deviation of the Gaussian that takes detail away, in cells
DISTANCE = 0.3  # what the farthest candidate costs, in squared colour
REUSE = 0.02  # what a candidate costs once it has been taken, in squared colour
COHERENT = 0.05  # what a candidate saves that continues a neighbour's match, in squared colour
RIM = 2  # cells that bicubic enlargement looks beyond a block's edge
CANDIDATES = 16384  # known blocks: where there are more, those of a coarser grid are compared
TARGETS = 256  # blocks with a hole that are compared at a time


def complete(
    cells: Tensor,
    hole: Tensor,
    image: Tensor,
    known: Tensor,
    factor: int,
    box: Box,
    amount: float = 1.0,
) -> Tensor:
    """Enlarge a part of a filled picture and add the detail of known blocks to its hole.

    Each block with a hole takes from its match what the enlarged cells lack of the pixels, and what
    a blur takes away of the cells as far as the filling has less of it. So a filling that is sharp
    at the network's scale stays as it is there.

    Args:
        cells: the filled picture.
        hole: True where a cell was filled.
        image: the picture, whatever it holds where it is not known.
        known: True where the picture is known.
        factor: side of a cell in pixels.
        box: the part, in cells.
        amount: share of the detail that is added: 0 for none, 1 for as much as the known blocks
            have.

    Shape: (3, h, w), (1, h, w), (3, H, W), (1, H, W) → (3, height, width), the whole box in pixels
    """
    result = enlarged(cells, box, factor)
    if amount == 0:
        return result
    # Sources are known to the pixel. A cell that reaches beyond the picture is not.
    height, width = known.shape[-2:]
    beyond = (0, -width % factor, 0, -height % factor)
    unknown = any_pixel(F.pad(~known, beyond, value=True), factor)
    # Blocks are matched at a fraction of the cells' resolution, which must reach the last cells.
    rest = (0, -cells.shape[2] % MATCHED, 0, -cells.shape[1] % MATCHED)
    cells = F.pad(cells[None], rest, mode="replicate")[0]
    hole, unknown = F.pad(hole, rest), F.pad(unknown, rest, value=True)
    middle = cells - blur(cells, SMOOTH)
    whole = Box(0, 0, cells.shape[1], cells.shape[2])
    side = BLOCK * factor
    tent = 1 - (torch.arange(side) + 0.5 - side / 2).abs() * 2 / side
    window = tent[:, None] * tent
    total = torch.zeros_like(result)
    power = torch.zeros_like(result[:1])
    pairs = sorted(match(cells, hole, unknown, box), key=_offset)
    for _, group in groupby(pairs, key=_offset):
        moved_alike = list(group)
        parts = [block.meet(box).within(box).times(factor) for block, _ in moved_alike]
        span = reduce(Box.union, parts)
        weight = torch.zeros(span.height, span.width)
        for (block, source), target in zip(moved_alike, parts, strict=True):
            gain = _missing(
                middle[:, *block.slices], hole[:, *block.slices], middle[:, *source.slices]
            )
            near = source.grow(RIM).meet(whole)
            without = cells[:, *near.slices] - gain * middle[:, *near.slices]
            there = enlarged(without, source.within(near), factor)
            copied = window * (image[:, *source.times(factor).slices] - there)
            copy = block.meet(box).within(block).times(factor).slices
            total[:, *target.slices] += copied[:, *copy]
            weight[target.within(span).slices] += window[copy]
        power[0, *span.slices] += weight.square()
    # Blocks that are moved alike continue each other. Others have nothing in common: their mean
    # would be paler than each of them. Divided by the root of the squared weights, a sum keeps the
    # variance.
    return result + amount * total / power.sqrt().clamp_min(1e-6)


def match(cells: Tensor, hole: Tensor, unknown: Tensor, box: Box) -> list[tuple[Box, Box]]:
    """Find the known block that resembles each block with a hole in the box, one after the other.

    A block prefers what continues the match of its left or upper neighbour, as the CSA layer's
    patches do (paper, Sec. 3.2).

    Shape: (3, h, w), (1, h, w), (1, h, w) → boxes of cells; none where no whole block is known
    """
    within = torch.zeros_like(hole)
    within[:, *box.slices] = hole[:, *box.slices]
    height, width = hole.shape[-2:]
    rows, columns = height // MATCHED, width // MATCHED
    side = BLOCK // MATCHED
    if min(rows, columns) < side:
        return []
    reduced = F.avg_pool2d(cells[None], MATCHED)[0]
    free = F.max_pool2d(unknown[None].float(), BLOCK, stride=MATCHED)[0, 0] == 0
    candidates = free.nonzero()  # (n, 2), corners of blocks
    if len(candidates) == 0:
        return []
    step = STEP // MATCHED
    for pitch in (2, step):  # on grids from which a match can be continued
        on_grid = candidates[(candidates % pitch == 0).all(dim=1)]
        if len(candidates) > CANDIDATES and len(on_grid):
            candidates = on_grid
    targets = torch.tensor(
        [
            (top, left)
            for top in _starts(rows, side)
            for left in _starts(columns, side)
            if within[:, *_block(top, left).slices].any()
        ]
    )
    known = _blocks(reduced, candidates, side)
    norm = known.square().mean(dim=1)
    places = candidates.float()
    number = torch.full((rows, columns), -1)  # of the candidate with that corner
    number[*candidates.T] = torch.arange(len(candidates))
    taken = torch.zeros(len(candidates))
    chosen: dict[tuple[int, int], tuple[int, int]] = {}
    for first in range(0, len(targets), TARGETS):
        some = targets[first : first + TARGETS]
        wanted = _blocks(reduced, some, side)
        # What all candidates have in common does not choose between them.
        cost = norm - 2 / known.shape[1] * wanted @ known.T
        cost += DISTANCE * torch.cdist(some.float(), places) / max(rows, columns)
        for (top, left), costs in zip(some.tolist(), cost, strict=True):
            costs += taken
            for down, right in ((0, step), (step, 0)):
                if (neighbour := chosen.get((top - down, left - right))) is not None:
                    row, column = neighbour[0] + down, neighbour[1] + right
                    if row < rows and column < columns and number[row, column] >= 0:
                        costs[number[row, column]] -= COHERENT
            best = int(costs.argmin())
            chosen[top, left] = tuple(candidates[best].tolist())
            squared = (places - places[best]).square().sum(dim=1)
            taken += REUSE * torch.exp(-squared / (2 * (side / 4) ** 2))
    return [(_block(*target), _block(*source)) for target, source in chosen.items()]


def _offset(pair: tuple[Box, Box]) -> tuple[int, int]:
    """By how many cells the detail of a pair of blocks is moved."""
    block, source = pair
    return block.top - source.top, block.left - source.left


def _blocks(image: Tensor, corners: Tensor, side: int) -> Tensor:
    """Square blocks by their corners, as rows: (3, h, w), (n, 2) → (n, 3 · side²)."""
    offsets = torch.arange(side)
    rows = (corners[:, 0, None] + offsets)[:, :, None]
    columns = (corners[:, 1, None] + offsets)[:, None, :]
    return image[:, rows, columns].transpose(0, 1).flatten(1)


def _starts(length: int, side: int) -> list[int]:
    step = STEP // MATCHED
    return sorted({*range(0, length - side + 1, step), length - side})


def _block(top: int, left: int) -> Box:
    top, left = MATCHED * top, MATCHED * left
    return Box(top, left, top + BLOCK, left + BLOCK)


def enlarged(cells: Tensor, box: Box, factor: int) -> Tensor:
    """A box of the enlarged cells, without enlarging the others."""
    height, width = cells.shape[-2:]
    around = box.grow(RIM).meet(Box(0, 0, height, width))
    inner = box.within(around).times(factor)
    return enlarge(cells[:, *around.slices], factor)[:, *inner.slices]


def _missing(filled: Tensor, hole: Tensor, source: Tensor) -> Tensor:
    """The share of the source's amplitude that the filling lacks: their energies then are equal."""
    wanted = source.square().mean()
    there = filled.square().masked_fill(~hole, 0).sum() / (3 * hole.sum()).clamp_min(1)
    return (1 - there / wanted.clamp_min(1e-12)).clamp_min(0).sqrt()
