"""Means over the batches of all processes.

With several processes (DDP) each process computes the loss of its own part of the batch, and the
gradients are averaged. A loss that is a mean over samples needs nothing more. A loss that contains
another mean (the number of hole pixels, the mean logit) takes that mean over all parts, so that
several processes give the gradient of one process with the whole batch.
"""

import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes; the gradient reaches each process's own part.

    Every process must call this function. Shape: any, the same everywhere.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return value
    total: Tensor = all_reduce(value)  # type: ignore[no-untyped-call]
    return total / dist.get_world_size()
