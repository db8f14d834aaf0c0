"""The order of samples: reproducible by (seed, epoch), shared between ranks."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler


class SampleKey(NamedTuple):
    """What identifies a sample: its number among those of an epoch, and the epoch."""

    number: int
    epoch: int


class TrainSampler(Sampler[SampleKey]):
    """The shuffled keys of one rank, another order each epoch.

    Every pass over the files is a permutation of its own, so that none comes a second time before
    all have come once. The list is made divisible by the number of ranks by repeating its first
    keys.

    Args:
        num_files: images of the training set.
        repeats: passes over them in one epoch.
        seed: with the epoch, decides the order.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self, num_files: int, repeats: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_files = num_files
        self.repeats = repeats
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.skip = 0  # keys left out at the start of the next iteration

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; the Trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_files * self.repeats // self.world_size)

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, skip = self.epoch, self.skip
        order = np.concatenate(
            [
                np.random.default_rng([self.seed, epoch, turn]).permutation(self.num_files)
                + turn * self.num_files
                for turn in range(self.repeats)
            ]
        )
        for index in _share(order, self.rank, self.world_size)[skip:]:
            yield SampleKey(int(index), epoch)


class EvaluationSampler(Sampler[SampleKey]):
    """The keys of one rank in the files' order, always those of epoch 0: the masks never change.

    With several ranks the list is made divisible by repeating its first keys, which then count
    twice in averages; evaluate on one device where that matters.

    Args:
        num_files: images of the set.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, num_files: int, rank: int = 0, world_size: int = 1) -> None:
        self.num_files = num_files
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return -(-self.num_files // self.world_size)

    def __iter__(self) -> Iterator[SampleKey]:
        for index in _share(np.arange(self.num_files), self.rank, self.world_size):
            yield SampleKey(int(index), epoch=0)


def _share(
    order: np.ndarray[Any, np.dtype[np.int64]], rank: int, world_size: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Every `world_size`-th key from `rank` on, the list first wrapped to a multiple of that."""
    length = -(-len(order) // world_size) * world_size
    return np.resize(order, length)[rank::world_size]
