"""Detail that the network's scale cannot hold, taken from the known parts of the picture.

Yi et al. ("Contextual residual aggregation for ultra high-resolution image inpainting", CVPR 2020)
fill a reduced picture and add what the reduction lost of the known patches that the filling
resembles. Here blocks are matched by their colours, so that any method's filling can be completed.
"""

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
RIM = 2  # cells that bicubic enlargement looks beyond a block's edge


def complete(
    cells: Tensor, hole: Tensor, image: Tensor, known: Tensor, factor: int, box: Box
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

    Shape: (3, h, w), (1, h, w), (3, H, W), (1, H, W) → (3, height, width), the whole box in pixels
    """
    result = enlarged(cells, box, factor)
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
    for block, source in match(cells, hole, unknown, box):
        gain = _missing(middle[:, *block.slices], hole[:, *block.slices], middle[:, *source.slices])
        near = source.grow(RIM).meet(whole)
        without = cells[:, *near.slices] - gain * middle[:, *near.slices]
        there = enlarged(without, source.within(near), factor)
        copied = window * (image[:, *source.times(factor).slices] - there)
        part = block.meet(box)
        target = part.within(box).times(factor).slices
        copy = part.within(block).times(factor).slices
        total[:, *target] += copied[:, *copy]
        power[:, *target] += window[copy].square()
    # Blocks have nothing in common: their mean would be paler than each of them. Divided by the
    # root of the squared weights, a sum keeps the variance.
    return result + total / power.sqrt().clamp_min(1e-6)


def match(cells: Tensor, hole: Tensor, unknown: Tensor, box: Box) -> list[tuple[Box, Box]]:
    """Find the known block that resembles each block with a hole in the box, one after the other.

    Shape: (3, h, w), (1, h, w), (1, h, w) → boxes of cells; none where no whole block is known
    """
    within = torch.zeros_like(hole)
    within[:, *box.slices] = hole[:, *box.slices]
    height, width = hole.shape[-2:]
    rows, columns = height // MATCHED, width // MATCHED
    side = BLOCK // MATCHED
    if min(rows, columns) < side:
        return []
    reduced = F.avg_pool2d(cells[None], MATCHED)
    blocks = F.unfold(reduced, side)[0].T  # (positions, 3 · side²)
    corners = torch.cartesian_prod(torch.arange(rows - side + 1), torch.arange(columns - side + 1))
    free = F.max_pool2d(unknown[None].float(), BLOCK, stride=MATCHED)[0, 0].flatten() == 0
    candidates = free.nonzero()[:, 0]
    if len(candidates) == 0:
        return []
    wanted = [
        top * (columns - side + 1) + left
        for top in _starts(rows, side)
        for left in _starts(columns, side)
        if within[:, *_block(top, left).slices].any()
    ]
    targets = torch.tensor(wanted)
    norm = blocks.square().sum(dim=1)
    cost = norm[targets, None] - 2 * blocks[targets] @ blocks[candidates].T + norm[candidates]
    cost /= blocks.shape[1]
    places = corners[candidates].float()
    cost += DISTANCE * torch.cdist(corners[targets].float(), places) / max(rows, columns)
    taken = torch.zeros(len(candidates))
    matches = []
    for target, costs in zip(targets.tolist(), cost, strict=True):
        best = int((costs + taken).argmin())
        matches.append(
            (_block(*corners[target].tolist()), _block(*corners[candidates[best]].tolist()))
        )
        squared = (places - places[best]).square().sum(dim=1)
        taken += REUSE * torch.exp(-squared / (2 * (side / 4) ** 2))
    return matches


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
