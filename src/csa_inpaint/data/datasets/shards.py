"""Sharded archives: the images of a data set in a few large tar files, read at any place.

File systems of clusters answer for a million small files slowly, for a few hundred large ones fast.
The shards are uncompressed tar files as WebDataset reads them, with the original files inside. An
index, one file for each split, says where in which shard every image lies, so that they are read in
any order: the sampler, the masks and resuming are those of images on a file system.
"""

import functools
import io
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from csa_inpaint.data.datasets.layout import Split, no_split, required_root
from csa_inpaint.data.listing import FileList
from csa_inpaint.data.packing import PackedStrings

# Where an image lies: 20 bytes.
PLACE = np.dtype([("shard", "u4"), ("offset", "i8"), ("length", "u4"), ("checksum", "u4")])

# Shards that a process keeps open.
_MOST_OPEN = 256

OURS = re.compile(r"(train|val|test)(-\d+\.(tar|part)|\.npz|\.part|_left_out\.txt)")
"""Names of what `make_shards` writes."""

_REMEDY = "copy it again from where it was made, or make the shards again"


class ShardError(ValueError):
    """A shard or an index is missing, truncated or damaged; the message names it."""


class Shard(NamedTuple):
    """What a shard holds."""

    file: str
    size: int  # of the file, in bytes
    names: list[str]
    places: npt.NDArray[Any]  # of PLACE, one for each name; `shard` is 0


class Shards:
    """A data set in shards, as `python -m csa_inpaint.make_shards` writes them.

    Args:
        counts: official number of images of each split, for `csa_inpaint.check_data`.
    """

    def __init__(self, counts: Mapping[Split, int] | None = None) -> None:
        self.counts = counts or {}

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images of a split, in the order in which they were put into the shards.

        Raises:
            ShardError: the index cannot be read, or a shard is missing or has another size than
                when it was made.
        """
        made = "python -m csa_inpaint.make_shards"
        root = required_root(root, f"the folder that {made} wrote")
        index = index_file(root, split)
        if not index.exists():
            splits = tuple(path.stem for path in sorted(root.glob("*.npz")))
            if splits:
                raise no_split(str(root), split, splits)
            tars = sorted(path.name for path in root.glob("*.tar"))
            if tars and not any(OURS.fullmatch(name) for name in tars):
                raise ShardError(
                    f"{root} holds tar files that {made} did not write, {tars[0]} for one. To "
                    f"train on them as they are: data=webdataset 'data.urls=\"{root}/*.tar\"'"
                )
            if tars:
                raise ShardError(
                    f"{root} holds shards but no {index.name}: {made} was interrupted there, run "
                    "the same command again to finish it"
                )
            raise FileNotFoundError(
                f"data.root={root} holds no {index.name}: it should be the folder that {made} wrote"
            )
        return read_index(index)


class ShardedFiles(FileList):
    """Images in shards. The path of each is that of its shard, followed by its name in it.

    Args:
        root: folder of the shards.
        names: names of the images.
        shards: file names of the shards.
        places: where each image lies.
        checked: whether the places hold checksums.
    """

    def __init__(
        self,
        root: Path,
        names: Iterable[str] | PackedStrings,
        shards: Sequence[str],
        places: npt.NDArray[Any],
        checked: bool = True,
    ) -> None:
        super().__init__(root, names)
        self.shards = shards
        self.places = places
        self.checked = checked

    def path(self, index: int) -> Path:
        """The image's name below its shard, as though that were a folder."""
        return self.root / self.shards[int(self.places[index]["shard"])] / self.name(index)

    def read(self, index: int) -> bytes:
        """The bytes of an image.

        Raises:
            ShardError: they are not those that were put there.
        """
        number, offset, length, checksum = self.places[index].tolist()
        shard = self.root / self.shards[number]
        try:
            # With an offset of its own: workers that were forked share the file's position.
            content = os.pread(_opened(shard).fileno(), length, offset)
        except OSError as error:
            raise ShardError(f"the shard {shard} cannot be read ({error}): {_REMEDY}") from error
        if len(content) < length:
            raise ShardError(
                f"the shard {shard} is truncated: it ends within {self.name(index)}: {_REMEDY}"
            )
        if self.checked and zlib.crc32(content) != checksum:
            raise ShardError(
                f"the shard {shard} is damaged: {self.name(index)} has another checksum than when "
                f"it was made: {_REMEDY}"
            )
        return content

    def select(self, indices: Iterable[int]) -> "ShardedFiles":
        """The images at these positions, in the order of `indices`."""
        chosen = indices if isinstance(indices, range) else list(indices)
        names = super().select(chosen).packed
        return ShardedFiles(self.root, names, self.shards, self.places[chosen], self.checked)

    def encoded_paths(self) -> Iterator[bytes]:
        """The paths as bytes, in order."""
        shards = [os.fsencode((self.root / shard).resolve()) + b"/" for shard in self.shards]
        numbers = self.places["shard"].tolist()
        return (shards[i] + name for i, name in zip(numbers, self.encoded_names(), strict=True))

    def nbytes(self) -> int:
        """Memory taken by the list."""
        return super().nbytes() + int(self.places.nbytes)


@functools.lru_cache(_MOST_OPEN)
def _opened(shard: Path) -> io.FileIO:
    return io.FileIO(shard)


def index_file(root: Path, split: Split) -> Path:
    """The file that says where the images of a split lie."""
    return root / f"{split}.npz"


def read_shard(path: Path) -> Shard:
    """Read a shard from end to end and note where each file in it lies.

    Raises:
        ShardError: it is no tar file, or a truncated one.
    """
    names, places = [], []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    names.append(member.name)
                    checksum = zlib.crc32(content.read())
                    places.append((0, member.offset_data, member.size, checksum))
    except tarfile.TarError as error:
        raise ShardError(f"the shard {path} is truncated or damaged ({error})") from error
    return Shard(path.name, path.stat().st_size, names, np.array(places, dtype=PLACE))


def write_index(path: Path, shards: Sequence[Shard]) -> None:
    """Write the index of a split, whole or not at all."""
    for number, shard in enumerate(shards):
        shard.places["shard"] = number
    names = PackedStrings.pack(name for shard in shards for name in shard.names)
    part = path.with_suffix(".part")
    arrays: dict[str, Any] = {
        **names.arrays("name"),
        "places": np.concatenate([shard.places for shard in shards]),
        "shards": np.array([shard.file for shard in shards]),
        "sizes": np.array([shard.size for shard in shards]),
    }
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(path)


def read_index(path: Path) -> ShardedFiles:
    """Read the index of a split, and compare the sizes of its shards.

    Raises:
        ShardError: the index cannot be read, or a shard is missing or has another size.
    """
    try:
        with np.load(path) as arrays:
            names = PackedStrings.from_arrays(arrays, "name")
            places, shards = arrays["places"], arrays["shards"].tolist()
            sizes = arrays["sizes"].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ShardError(f"the index {path} cannot be read ({error}): {_REMEDY}") from error
    for name, size in zip(shards, sizes, strict=True):
        shard = path.parent / name
        if not shard.is_file():
            raise ShardError(f"the shard {shard} is missing: {_REMEDY}")
        if shard.stat().st_size != size:
            raise ShardError(
                f"the shard {shard} has {shard.stat().st_size} bytes, {size} when it was made: "
                f"{_REMEDY}"
            )
    return ShardedFiles(path.parent, names, shards, places)
