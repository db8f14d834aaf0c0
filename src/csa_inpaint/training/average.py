"""The moving average of the generator."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(generator: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the generator, which follows quickly at first."""

    return AveragedModel(generator, multi_avg_fn=partial(_follow, decay)).requires_grad_(False)


def _follow(
    decay: float, average: Sequence[Tensor], model: Sequence[Tensor], updates: Tensor | int
) -> None:
    n = int(updates)
    rate = 1 - min(decay, (1 + n) / (10 + n))
    torch._foreach_lerp_(list(average), list(model), rate)
