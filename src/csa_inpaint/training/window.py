"""The accumulation window: the batches whose gradients make one update."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Window:
    """Counts the batches of an update, averages their gradients, and saves both for a resumed run.

    Args:
        size: batches in a window; the last window of an epoch may be shorter.
        generator_every: the generator learns in every n-th window, the discriminators in every one.

    Raises:
        ValueError: for values below 1.
    """

    def __init__(self, size: int = 1, generator_every: int = 1) -> None:
        if size < 1:
            raise ValueError(f"accumulate_batches={size}, expected at least 1")
        if generator_every < 1:
            raise ValueError(f"generator_every={generator_every}, expected at least 1")
        self.size = size
        self.generator_every = generator_every
        self.batches = 0  # in the open window
        self.closed = 0  # number of windows so far
        self._waiting: Mapping[str, Tensor] = {}  # restored gradients, until training starts

    def fresh(self) -> "Window":
        """A window of the same sizes at the start of a training."""
        return Window(self.size, self.generator_every)

    @property
    def generator_learns(self) -> bool:
        """Whether the open window is one of the generator's."""
        return (self.closed + 1) % self.generator_every == 0

    @property
    def updates(self) -> int:
        """Updates of the generator so far."""
        return self.closed // self.generator_every

    def add(self, last: bool) -> bool:
        """Count a batch, the epoch's ``last`` or not; True where an update follows the batch."""
        self.batches += 1
        return last or self.batches == self.size

    def close(self) -> None:
        """Close the open window, after its updates."""
        self.batches = 0
        self.closed += 1

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Turn the sums of the window's gradients into means, in place."""
        if self.batches > 1:
            torch._foreach_div_(list(gradients), self.batches)

    def state_dict(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, Any]:
        """The counts, and the gradients that wait for an update.

        All processes must call this method. Each process holds the gradients of its own batches,
        but only one process writes the checkpoint. So all processes replace their gradients by the
        mean, which the update would use.
        """
        waiting = {n: p.grad for n, p in parameters if self.batches and p.grad is not None}
        if dist.is_available() and dist.is_initialized():
            for gradient in waiting.values():
                dist.all_reduce(gradient)
                gradient /= dist.get_world_size()
        return {"batches": self.batches, "closed": self.closed, "gradients": waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the counts, and keep the gradients for ``restore``."""
        self.batches = state["batches"]
        self.closed = state["closed"]
        self._waiting = state["gradients"]

    def restore(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Put the gradients back, after Lightning has cleared those of an earlier training."""
        for name, parameter in parameters:
            if name in self._waiting:
                parameter.grad = self._waiting[name].to(parameter.device)
        self._waiting = {}
