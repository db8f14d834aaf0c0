"""Search: the most similar known patch of each hole patch."""

import torch
from torch import Tensor

from csa_inpaint.csa import kernels

# Similarities held at once, 16 MB of float32: large maps are searched in blocks of hole patches.
BLOCK = 4 * 1024 * 1024


def search(patches: Tensor, hole: Tensor) -> Tensor:
    """Find each hole patch's match: the known patch of largest cosine similarity.

    Shape:
        - patches: (B, P, D); hole: (B, P), boolean.
        - returns (B, P): the index of the match for hole patches, the first of equals; known
          patches match themselves.
    """
    match: Tensor = _search(patches.detach(), hole)
    return match


@torch.library.custom_op("csa_inpaint::search", mutates_args=())
def _search(patches: Tensor, hole: Tensor) -> Tensor:
    if patches.is_cuda and kernels.available():
        return kernels.search(patches, hole)
    with torch.autocast(patches.device.type, enabled=False):
        return search_pytorch(patches, hole)


@_search.register_fake
def _(patches: Tensor, hole: Tensor) -> Tensor:
    return torch.empty_like(hole, dtype=torch.int64)


def search_pytorch(patches: Tensor, hole: Tensor) -> Tensor:
    """Search sample by sample, so that only hole queries and known keys are ever touched."""
    match = torch.arange(hole.shape[1], device=hole.device).repeat(hole.shape[0], 1)
    for columns, is_hole, index in zip(patches.mT, hole, match, strict=True):
        queries, known = is_hole.nonzero()[:, 0], (~is_hole).nonzero()[:, 0]
        if len(queries) == 0:
            continue
        keys, _ = normalize(columns.index_select(1, known), dim=0)  # (D, N)
        for block in queries.split(max(1, BLOCK // len(known))):
            query, _ = normalize(columns.index_select(1, block), dim=0)
            index[block] = known[(query.T @ keys).argmax(1)]
    return match


def normalize(patches: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Scale patches to length one along a dimension; zero stays zero.

    Computed in at least float32 and for any finite length: where the squares would leave the
    range of the dtype, the patch is first divided by its largest entry.

    Returns:
        The unit patches and their lengths (that dimension kept at size one).
    """
    patches = patches.to(torch.promote_types(patches.dtype, torch.float32))
    norm = (patches * patches).sum(dim, keepdim=True).sqrt()
    extreme = ~in_range(norm)
    if extreme.any():
        largest = torch.where(extreme, patches.abs().amax(dim, keepdim=True), 1)
        largest = torch.where(largest > 0, largest, 1)
        scaled = patches / largest
        length = (scaled * scaled).sum(dim, keepdim=True).sqrt()
        return scaled / torch.where(length > 0, length, 1), length * largest
    return patches / norm, norm


def in_range(norm: Tensor) -> Tensor:
    """Where a patch of this length has squares far from the limits of the dtype."""
    info = torch.finfo(norm.dtype)
    inside: Tensor = (norm > info.tiny**0.5 / info.eps) & (norm < info.max**0.5 * info.eps)
    return inside
