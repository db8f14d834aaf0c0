"""Contextual attention (Yu et al., CVPR 2018, arXiv 1801.07892, Sec. 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_FLOOR = 1e-4  # smallest length by which a key is divided


class ContextualAttention(nn.Module):
    """Replace features by patches of the known region, weighted by their similarity.

    Query and key patches come from the features at ``1 / rate`` of their resolution. The weight of
    a key is the softmax, over all keys, of ``scale · ⟨key / ‖key‖, query⟩``. The layer pastes
    patches of the features at full resolution at the query. All positions are replaced, also the
    known ones; a sample without a known key becomes zero.

    Args:
        kernel_size: side of the patches that are compared; odd.
        rate: ratio of the features' resolution to that of the comparison; even. The pasted patches
            have the side ``2 · rate``.
        scale: factor on the similarities in the softmax.
        fuse: number of neighbours along a diagonal whose similarities are summed: the neighbour of
            a key supports the key for the same neighbour of the query. Odd; 1 fuses nothing.
        exclude_hole: False gives a key that touches the hole the score 0 and no weight, as the
            authors' code does: the weights of the other keys then sum to less than 1. True leaves
            such a key out of the softmax.
        count_overlaps: False divides the sum of the pasted patches by 4 everywhere, as the authors'
            code does; the outermost rows and columns come out darker. True divides by the number of
            patches at each position.
        align_corners: False compares the features of every ``rate``-th row and column, from 0. True
            spreads rows and columns from the first to the last, as TensorFlow's resizing with
            aligned corners does; the mask is reduced in the same manner, in one step.

    Shape:
        - features: (B, C, H, W), H and W multiples of ``rate``.
        - mask: (B, 1, h, w), above 0.5 in the hole; h and w whole multiples of H / rate and
          W / rate.
        - returns (B, C, H, W) in the dtype of the features. The comparison runs in float32.

    Raises:
        ValueError: for an even ``kernel_size`` or ``fuse``, an odd ``rate``, and for shapes that do
            not fit.
    """

    def __init__(
        self,
        kernel_size: int = 3,
        rate: int = 2,
        scale: float = 10.0,
        fuse: int = 3,
        exclude_hole: bool = False,
        count_overlaps: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("kernel_size", kernel_size), ("fuse", fuse)):
            if value < 1 or value % 2 == 0:
                raise ValueError(f"{name}={value}, expected an odd number of at least 1")
        if rate < 2 or rate % 2:
            raise ValueError(f"rate={rate}, expected an even number of at least 2")
        self.kernel_size = kernel_size
        self.rate = rate
        self.scale = scale
        self.fuse = fuse
        self.exclude_hole = exclude_hole
        self.count_overlaps = count_overlaps
        self.align_corners = align_corners

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            x = features.to(torch.promote_types(features.dtype, torch.float32))
            output = self.paste(x, self.attend(x, mask))
        return output.to(features.dtype)

    def attend(self, features: Tensor, mask: Tensor) -> Tensor:
        """The weight of every key for every query: (B, keys, queries), both in raster order."""
        size = self._reduced_size(features, mask)
        small = self._reduce(features, size)
        padding = self.kernel_size // 2
        queries = F.unfold(small, self.kernel_size, padding=padding)  # (B, C·k·k, P)
        similarity = fuse(self.unit(queries).mT @ queries, *size, self.fuse)
        # Positions outside the map count as known.
        hole = (self._reduce(mask, size) > 0.5).float()
        touched = F.max_pool2d(hole, self.kernel_size, stride=1, padding=padding)
        excluded = touched.flatten(2).mT > 0  # (B, P, 1)
        # The score is finite: with -∞ the softmax of a sample that is all hole would be NaN.
        score = torch.finfo(similarity.dtype).min if self.exclude_hole else 0.0
        weights = (self.scale * similarity).masked_fill(excluded, score).softmax(dim=1)
        return weights.masked_fill(excluded, 0.0)

    def unit(self, keys: Tensor) -> Tensor:
        """The keys, (B, D, P), divided by their lengths."""
        length: Tensor = torch.linalg.vector_norm(keys, dim=1, keepdim=True)
        return keys / length.clamp(min=NORM_FLOOR)

    def paste(self, features: Tensor, weights: Tensor) -> Tensor:
        """The patches of the features, mixed by (B, keys, queries) weights, at the queries."""
        side, padding = 2 * self.rate, self.rate // 2
        patches = F.unfold(features, side, stride=self.rate, padding=padding)  # (B, C·s·s, P)
        size = features.shape[-2:]
        total = F.fold(patches @ weights, size, side, stride=self.rate, padding=padding)
        if not self.count_overlaps:
            return total / 4
        ones = torch.ones_like(patches[:1, : side * side])
        return total / F.fold(ones, size, side, stride=self.rate, padding=padding)

    def _reduced_size(self, features: Tensor, mask: Tensor) -> tuple[int, int]:
        batch, _, height, width = features.shape
        if height % self.rate or width % self.rate:
            raise ValueError(
                f"features of {height}×{width}: contextual attention with rate={self.rate} needs "
                f"multiples of {self.rate}; pad or resize them"
            )
        size = height // self.rate, width // self.rate
        if mask.dim() != 4 or mask.shape[:2] != (batch, 1):
            raise ValueError(f"mask has shape {tuple(mask.shape)}, expected ({batch}, 1, h, w)")
        if mask.shape[2] % size[0] or mask.shape[3] % size[1] or 0 in mask.shape[2:]:
            raise ValueError(
                f"mask has size {tuple(mask.shape[2:])}, which is no whole multiple of {size}, the "
                f"features' size divided by rate={self.rate}; resize or pad the mask first"
            )
        return size

    def _reduce(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Pick as many rows and columns of x as the size says."""
        if not self.align_corners:
            return x[..., :: x.shape[-2] // size[0], :: x.shape[-1] // size[1]]
        rows, columns = (
            aligned_indices(given, wanted, x.device)
            for given, wanted in zip(x.shape[-2:], size, strict=True)
        )
        return x[..., rows[:, None], columns]


def fuse(similarity: Tensor, height: int, width: int, taps: int) -> Tensor:
    """Let neighbours along a diagonal share their similarities, first along rows, then columns.

    A diagonal runs through the whole matrix. So it also joins the end of a row of the map with the
    start of the next row, as in the authors' code.

    Args:
        similarity: of every key with every query.
        height: rows of the map.
        width: columns of the map.
        taps: number of neighbours that are summed, the key itself included; odd.

    Shape: (B, P, P), keys and queries of a map of height · width in raster order → the same.
    """
    along_rows = sum_diagonals(similarity, taps)
    along_columns = sum_diagonals(renumber(along_rows, height, width), taps)
    return renumber(along_columns, width, height)


def sum_diagonals(similarity: Tensor, taps: int) -> Tensor:
    """Sum of ``taps`` neighbours along the diagonal, zero outside: (B, P, P) → the same."""
    reach = taps // 2
    count = similarity.shape[-1]
    padded = F.pad(similarity, (reach, reach, reach, reach))
    fused = similarity
    for start in (*range(reach), *range(reach + 1, taps)):
        fused = fused + padded[:, start : start + count, start : start + count]
    return fused


def renumber(similarity: Tensor, height: int, width: int) -> Tensor:
    """Renumber keys and queries of a map from row by row to column by column."""
    grids = similarity.reshape(-1, height, width, height, width)
    return grids.permute(0, 2, 1, 4, 3).reshape_as(similarity)


def aligned_indices(given: int, wanted: int, device: torch.device) -> Tensor:
    """``round(i · (given - 1) / (wanted - 1))``, a half rounded up."""
    steps = max(wanted - 1, 1)
    return (2 * torch.arange(wanted, device=device) * (given - 1) + steps) // (2 * steps)
