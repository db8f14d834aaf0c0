"""The most similar known patch of each hole patch."""

import torch
from torch import Tensor


@torch.no_grad()
def search(patches: Tensor, hole: Tensor) -> Tensor:
    """Find each hole patch's match: the known patch of largest cosine similarity.

    Shape:
        - patches: (B, P, D); hole: (B, P), boolean.
        - returns (B, P): the index of the match for hole patches, the first of equals; known
          patches match themselves.
    """
    match = torch.arange(hole.shape[1], device=hole.device).repeat(hole.shape[0], 1)
    for sample, is_hole, index in zip(patches, hole, match, strict=True):
        queries, known = is_hole.nonzero()[:, 0], (~is_hole).nonzero()[:, 0]
        if len(queries):
            unit = normalize(sample)
            index[queries] = known[(unit[queries] @ unit[known].T).argmax(1)]
    return match


def normalize(patches: Tensor) -> Tensor:
    """Patches of length one along the last dimension; zero stays zero."""
    patches = patches.to(torch.promote_types(patches.dtype, torch.float32))
    norm = torch.linalg.vector_norm(patches, dim=-1, keepdim=True)
    return patches / torch.where(norm > 0, norm, 1) * (norm > 0)
