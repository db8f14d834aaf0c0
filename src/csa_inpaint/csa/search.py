"""Search: the most similar known patch of each hole patch."""

from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

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
    if kernels := triton_kernels(patches):
        found: Tensor = kernels.search(patches, hole)
        return found
    with torch.autocast(patches.device.type, enabled=False):
        return search_pytorch(patches, hole)


@_search.register_fake
def _(patches: Tensor, hole: Tensor) -> Tensor:
    return torch.empty_like(hole, dtype=torch.int64)


def search_pytorch(patches: Tensor, hole: Tensor) -> Tensor:
    """Search sample by sample, so that only hole queries and known keys are ever touched."""
    dtype = torch.promote_types(patches.dtype, torch.float32)
    tie = 4 * torch.finfo(dtype).eps
    match = torch.arange(hole.shape[1], device=hole.device).repeat(hole.shape[0], 1)
    for columns, is_hole, index in zip(patches.mT, hole, match, strict=True):
        queries, known = is_hole.nonzero()[:, 0], (~is_hole).nonzero()[:, 0]
        if len(queries) == 0:
            continue
        keys = take_columns(columns, known).to(dtype)  # (D, N)
        normalize_(keys, dim=0)
        position = torch.arange(len(known), dtype=torch.int32, device=hole.device)
        for block in queries.split(max(1, BLOCK // len(known))):
            query = take_columns(columns, block).to(dtype)
            normalize_(query, dim=0)
            similarity = query.T @ keys  # (K, N)
            # The first of equals, where rounding counts as equal: a matrix product may round two
            # copies of one patch differently, depending on how it tiles its columns.
            equal = similarity >= similarity.amax(1, keepdim=True) - tie
            index[block] = known[torch.where(equal, position, position[-1]).amin(1).long()]
    return match


def triton_kernels(patches: Tensor) -> ModuleType | None:
    """The module of Triton kernels where they apply; where not, the PyTorch forms do the work.

    A float64 patch, or one of more numbers than a program can keep on chip, goes to PyTorch.
    """
    if not patches.is_cuda or patches.dtype == torch.float64 or patches.shape[2] > 16384:
        return None
    if find_spec("triton") is None:
        return None
    from csa_inpaint.csa import kernels  # Triton is optional, and slow to import

    return kernels


def take_columns(columns: Tensor, index: Tensor) -> Tensor:
    """Columns (D, P) by index (K,) → (D, K); ``gather`` does it thrice as fast as a selection."""
    return columns.gather(1, index.expand(len(columns), -1))


def normalize_(patches: Tensor, dim: int) -> Tensor:
    """Scale patches to length one along a dimension, in place; zero stays zero.

    Right for any finite length: where the squares would leave the range of the dtype, the patch is
    first divided by its largest entry.

    Returns:
        The lengths they had, that dimension kept at size one.
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
    """Where a patch of this length has squares far from the limits of the dtype."""
    info = torch.finfo(norm.dtype)
    inside: Tensor = (norm > info.tiny**0.5 / info.eps) & (norm < info.max**0.5 * info.eps)
    return inside
