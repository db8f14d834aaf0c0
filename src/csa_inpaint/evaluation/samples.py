"""The pictures and masks that are scored, each with its number, its name and a digest."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

from torch.utils.data import Dataset

from csa_inpaint.data.loading import InpaintingDataset, Sample, collate
from csa_inpaint.data.samplers import SampleKey
from csa_inpaint.types import Batch


class Source(Protocol):
    """Pictures with fixed masks.

    Attributes:
        names: of the samples: unique, without an extension.
        size: (height, width) of pictures and masks, in pixels.
    """

    names: Sequence[str]
    size: tuple[int, int]

    def sample(self, number: int) -> Sample:
        """One picture with its mask, the same every time."""


class SplitSource:
    """A split of a data set, with the masks of its data module.

    Args:
        dataset: the samples of the split.
    """

    def __init__(self, dataset: InpaintingDataset) -> None:
        self.dataset = dataset
        self.size = dataset.size
        self.names: Sequence[str] = unique_names(dataset.files.names())

    def sample(self, number: int) -> Sample:
        """The sample of epoch 0: the mask of each number never changes."""
        return self.dataset[SampleKey(number, epoch=0)]


class NumberedSample(NamedTuple):
    """A sample, and what it is known by."""

    sample: Sample
    number: int
    name: str
    digest: str


class Numbered(NamedTuple):
    """A batch of numbered samples."""

    batch: Batch  # images uint8, masks bool, as the loaders of `data` yield them
    numbers: list[int]
    names: list[str]
    digests: list[str]


class NumberedSamples(Dataset[NumberedSample]):
    """Some samples of a source.

    Args:
        source: the pictures and masks.
        numbers: which of its samples, in this order.
    """

    def __init__(self, source: Source, numbers: Sequence[int]) -> None:
        self.source = source
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> NumberedSample:
        number = self.numbers[index]
        sample = self.source.sample(number)
        return NumberedSample(sample, number, self.source.names[number], digest(sample))


def join(samples: list[NumberedSample]) -> Numbered:
    """Samples as a batch, still in bytes: images uint8, masks bool.

    Shape: image (B, 3, H, W), mask (B, 1, H, W)
    """
    batch = collate([one.sample for one in samples]).batch
    return Numbered(
        batch,
        [one.number for one in samples],
        [one.name for one in samples],
        [one.digest for one in samples],
    )


def digest(sample: Sample) -> str:
    """A hash of the pixels and the mask: equal for the same picture with the same hole."""
    shape = repr(tuple(sample.image.shape)).encode()
    content = sample.image.numpy().tobytes() + sample.mask.numpy().tobytes()
    return hashlib.blake2b(shape + content, digest_size=16).hexdigest()


def unique_names(files: Iterable[str]) -> list[str]:
    """Names of files without their extension; what would be double gets its position's number."""
    names = [PurePosixPath(file).with_suffix("").as_posix() for file in files]
    counts = Counter(names)
    return [f"{name}#{n}" if counts[name] > 1 else name for n, name in enumerate(names)]


def spread(count: int, wanted: int | None) -> list[int]:
    """``wanted`` of the numbers below ``count``, spread evenly over them; all of them for None."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return [index * count // wanted for index in range(wanted)]
