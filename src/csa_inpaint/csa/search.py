"""Search: the most similar known patch of each hole patch."""

import torch
from torch import Tensor

# Number of similarities in memory at once, 16 MB of float32. A large map is searched in blocks of
# hole patches.
BLOCK = 4 * 1024 * 1024


def search_pytorch(patches: Tensor, hole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the match of each hole patch: the known patch of largest cosine similarity.

    The search goes sample by sample, so that it compares hole queries with known keys only.

    Shape:
        - patches: (B, P, D); hole: (B, P), boolean.
        - returns the match (B, P), and the directions (K, B, D) and lengths (K, B, 1) of the hole
          patches, which the recurrence needs as well. The match is the first of equals in raster
          order; a known patch is its own match. Directions and lengths are in raster order, and
          zero beyond the last hole patch of a sample.
    """
    dtype = torch.promote_types(patches.dtype, torch.float32)
    match = torch.arange(hole.shape[1], device=hole.device).repeat(hole.shape[0], 1)
    most = int(hole.sum(1).amax()) if len(hole) else 0
    unit = patches.new_zeros(most, len(patches), patches.shape[2], dtype=dtype)
    norm = unit.new_zeros(most, len(patches), 1)
    for sample, (columns, is_hole, index) in enumerate(zip(patches.mT, hole, match, strict=True)):
        queries, known = is_hole.nonzero()[:, 0], (~is_hole).nonzero()[:, 0]
        if len(queries) == 0:
            continue
        query = take_columns(columns, queries).to(dtype)  # (D, K)
        norm[: len(queries), sample] = normalize_(query, dim=0).T
        unit[: len(queries), sample] = query.T
        keys = take_columns(columns, known).to(dtype)  # (D, N)
        normalize_(keys, dim=0)
        size = max(1, BLOCK // len(known))
        for part, directions in zip(
            queries.split(size), torch.split(query, size, dim=1), strict=True
        ):
            index[part] = known[_first_of_best(keys, directions)]
    return match, unit, norm


def _first_of_best(keys: Tensor, queries: Tensor) -> Tensor:
    """Find the first of the most similar keys of each query: (D, N) and (D, K) → (K,).

    Keys and queries have length one. A matrix product may round two copies of one key differently,
    by more than ``rounding`` allows, because it splits its columns into tiles. So the keys within a
    wider margin are candidates. A candidate that is worse than the best key by more than
    ``rounding`` is compared with the best key once more, by a separate sum for each of the two.
    """
    similarity = keys.T @ queries  # (N, K) is faster than (K, N).
    best = similarity.amax(0)
    if best.isnan().any():  # A key with NaN resembles no query.
        best = similarity.nan_to_num_(nan=-torch.inf).amax(0)
    tie = rounding(keys.dtype)
    almost = best - tie * len(keys) ** 0.5
    first = _first(similarity >= almost)
    unsure = (similarity.gather(0, first[None])[0] < best - tie).nonzero()[:, 0]
    while len(unsure):
        rows = queries.T[unsure]
        candidate, top = first[unsure], similarity[:, unsure].argmax(0)
        its, largest = (torch.linalg.vecdot(keys.T[i], rows) for i in (candidate, top))
        worse = its < largest - tie
        unsure = unsure[worse]
        similarity[candidate[worse], unsure] = -torch.inf
        first[unsure] = _first(similarity[:, unsure] >= almost[unsure])
    return first


def _first(chosen: Tensor) -> Tensor:
    """Index of the first true value of each column, or the last index where there is none."""
    position = torch.arange(len(chosen), dtype=torch.int32, device=chosen.device)[:, None]
    return torch.where(chosen, position, position[-1]).amin(0).long()


def rounding(dtype: torch.dtype) -> float:
    """The difference up to which cosine similarities count as equal, and as equal to zero."""
    return 4 * torch.finfo(dtype).eps


def take_columns(columns: Tensor, index: Tensor) -> Tensor:
    """Take columns (D, P) by index (K,) → (D, K). ``gather`` is thrice as fast as a selection."""
    return columns.gather(1, index.expand(len(columns), -1))


def normalize_(patches: Tensor, dim: int) -> Tensor:
    """Scale patches to length one along a dimension, in place. A zero patch stays zero.

    The result is right for any finite length: where the squares would leave the range of the dtype,
    the patch is first divided by its largest entry.

    Returns:
        The lengths of the given patches; the dimension keeps size one.
    """
    norm = (patches * patches).sum(dim, keepdim=True).sqrt_()
    if in_range(norm).all():
        patches /= norm
        return norm
    largest = patches.abs().amax(dim, keepdim=True)
    largest = torch.where(in_range(norm) | (largest == 0), 1, largest)
    patches /= largest
    norm = (patches * patches).sum(dim, keepdim=True).sqrt_()
    patches /= torch.where(norm > 0, norm, 1)
    return norm * largest


def in_range(norm: Tensor) -> Tensor:
    """True where the squares of a patch of this length stay far from the limits of the dtype."""
    info = torch.finfo(norm.dtype)
    inside: Tensor = (norm > info.tiny**0.5 / info.eps) & (norm < info.max**0.5 * info.eps)
    return inside
