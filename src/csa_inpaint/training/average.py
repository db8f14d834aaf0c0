"""The moving average of the generator."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """An exponential moving average of a network's weights, which follows quickly at first.

    After n updates the decay is ``min(decay, (1 + n) / (10 + n))``. The average stays in float32
    for every type of the network: bfloat16 would lose every step smaller than 1/256.

    Args:
        network: the average starts from its present weights.
        decay: weight of the old average, in [0, 1).

    Raises:
        ValueError: for a decay out of range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay={decay}, expected a value in [0, 1) or null")
        super().__init__(network, multi_avg_fn=partial(_follow, decay))
        self.decay = decay
        self.module.float()
        self.requires_grad_(False)

    def restarted(self, network: nn.Module) -> "MovingAverage":
        """A new average with the same decay, which starts from a network's present weights."""
        return MovingAverage(network, self.decay)

    def forward(self, *images: Tensor) -> Any:
        return self.module(*(image.float() for image in images))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def keep_type(value: Tensor) -> Tensor:
            moved = fn(value)
            return moved if moved.dtype == value.dtype else value.to(moved.device)

        return cast(Self, super()._apply(keep_type, recurse))  # type: ignore[no-untyped-call]


def _follow(
    decay: float, average: Sequence[Tensor], model: Sequence[Tensor], updates: Tensor | int
) -> None:
    n = int(updates)
    rate = 1 - min(decay, (1 + n) / (10 + n))
    latest = [value.to(old.dtype) for value, old in zip(model, average, strict=True)]
    torch._foreach_lerp_(list(average), latest, rate)
