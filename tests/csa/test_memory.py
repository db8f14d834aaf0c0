"""The layer holds blocks of similarities in memory, never all similarities of a sample."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from csa_inpaint.csa.propagate import attend_pytorch, links, propagate_backward_pytorch
from csa_inpaint.csa.search import BLOCK


class Largest(TorchDispatchMode):
    """Record the bytes of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        made = function(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self.bytes = max(self.bytes, value.untyped_storage().nbytes())
        return made


def test_no_tensor_grows_with_the_square_of_the_patches() -> None:
    side, channels = 96, 8
    patches = torch.randn(2, channels, side * side).mT
    hole = torch.zeros(2, side, side, dtype=torch.bool)
    hole[:, 24:72, 24:72] = True  # 2,304 hole and 6,912 known patches: four blocks
    hole = hole.flatten(1)
    with Largest() as largest:
        linked = links(hole, side, across_gaps=True)
        options = (True, True)
        generated, match, weights = attend_pytorch(patches, hole, linked, *options)
        propagate_backward_pytorch(
            generated, patches, hole, linked, match, generated, weights, *options, False
        )
    assert largest.bytes <= 4 * BLOCK  # in float32; a sample has 3.8 · BLOCK similarities
    assert largest.bytes >= 4 * 8 * patches.shape[1] * channels  # The inner operations count.
