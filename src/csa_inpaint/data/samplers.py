"""The order of samples: reproducible by (seed, epoch), shared between ranks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from csa_inpaint.data.listing import Pool

Numbers = npt.NDArray[np.int64]


class SampleKey(NamedTuple):
    """What identifies a sample: its number among those of an epoch, and the epoch."""

    number: int
    epoch: int


class TrainSampler(Sampler[SampleKey]):
    """The shuffled keys of one rank, another order each epoch.

    Every pass over the files is a permutation of its own, so that none comes a second time before
    all have come once. With pools, their weights share the samples of an epoch among them; each
    pool is gone through in permutations, and the pools are shuffled into each other. The list is
    made divisible by the number of ranks by repeating its first keys.

    Args:
        num_files: images of the training set.
        repeats: passes over them in one epoch.
        seed: with the epoch, decides the order.
        rank: this process.
        world_size: number of processes.
        pools: neighbours among the files that have a weight of their own; none: all alike.
    """

    def __init__(
        self,
        num_files: int,
        repeats: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        pools: Sequence[Pool] = (),
    ) -> None:
        self.num_files = num_files
        self.repeats = repeats
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.pools = pools
        self.epoch = 0
        self.skip = 0  # keys left out at the start of the next iteration

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; the Trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_files * self.repeats // self.world_size)

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, skip = self.epoch, self.skip
        order = self._weighted(epoch) if self.pools else self._unweighted(epoch)
        wrapped = np.resize(order, len(self) * self.world_size)
        for index in wrapped[self.rank :: self.world_size][skip:]:
            yield SampleKey(int(index), epoch)

    def _unweighted(self, epoch: int) -> Numbers:
        return np.concatenate(
            [
                np.random.default_rng([self.seed, epoch, turn]).permutation(self.num_files)
                + turn * self.num_files
                for turn in range(self.repeats)
            ]
        )

    def _weighted(self, epoch: int) -> Numbers:
        weights = np.array([pool.weight for pool in self.pools])
        # Rounded sums, so that the samples of all pools together are those of the epoch.
        ends = np.rint(np.cumsum(weights / weights.sum()) * self.num_files * self.repeats)
        first, parts = 0, []
        for place, samples in enumerate(np.diff(ends, prepend=0).astype(int).tolist()):
            files = self.pools[place].files
            for turn in range(-(-samples // files)):
                rng = np.random.default_rng([self.seed, epoch, turn, place])
                part = rng.permutation(files)[: samples - turn * files]
                parts.append(first + part + turn * self.num_files)
            first += files
        # A place after the pools' own: another stream than any of theirs.
        rng = np.random.default_rng([self.seed, epoch, 0, len(self.pools)])
        return rng.permutation(np.concatenate(parts))


class EvaluationSampler(Sampler[SampleKey]):
    """The keys of one rank in the files' order, always those of epoch 0: the masks never change.

    No key comes twice, so that averages over all ranks are exact: some ranks have a key less than
    others. Each rank has at least one, because all must take part in the averages.

    Args:
        num_files: images of the set.
        rank: this process.
        world_size: number of processes.

    Raises:
        ValueError: there are fewer images than processes.
    """

    def __init__(self, num_files: int, rank: int = 0, world_size: int = 1) -> None:
        if num_files < world_size:
            raise ValueError(
                f"{num_files} validation or test images cannot be shared among {world_size} "
                "processes: give more images, or start fewer processes"
            )
        self.num_files = num_files
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return len(self._numbers())

    def __iter__(self) -> Iterator[SampleKey]:
        for number in self._numbers():
            yield SampleKey(number, epoch=0)

    def _numbers(self) -> range:
        return range(self.rank, self.num_files, self.world_size)
