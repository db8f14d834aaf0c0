"""Many strings in little memory."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

_TOGETHER = 65_536  # strings that are packed at a time


class PackedStrings:
    """Many strings in two flat arrays: their bytes, and where each ends.

    A Python list of 1.8 million paths takes hundreds of megabytes in every worker, because touching
    an object's reference count copies its page. Flat arrays stay shared between forked workers.

    Args:
        data: (N,) the bytes of all strings.
        ends: (number of strings,) where each ends in `data`.
    """

    def __init__(self, data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> None:
        self.data = data
        self.ends = ends

    @classmethod
    def pack(cls, strings: Iterable[str | bytes]) -> "PackedStrings":
        """Pack strings, in their order; bytes are taken as file names, encoded already."""
        # Some at a time: a list of all would take several times what they end up as.
        strings = iter(strings)
        data, lengths = bytearray(), [np.empty(0, np.int64)]
        while part := list(islice(strings, _TOGETHER)):
            encoded = [s if isinstance(s, bytes) else os.fsencode(s) for s in part]
            lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
            data += b"".join(encoded)
        return cls(np.frombuffer(data, dtype=np.uint8), np.cumsum(np.concatenate(lengths)))

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]], name: str) -> "PackedStrings":
        """The strings that `arrays` made arrays of, under the same name."""
        return cls(arrays[f"{name}s"], arrays[f"{name}_ends"])

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Arrays for a `.npz` file.

        Args:
            name: what one string is, such as "folder".
        """
        return {f"{name}s": self.data, f"{name}_ends": self.ends}

    def __reduce__(self) -> tuple[Any, ...]:
        # NumPy's own pickle holds the content a second time while a process unpacks it.
        return _unpickle, (self.data.tobytes(), self.ends.tobytes())

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]
        start = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(self.data[start : int(self.ends[index])].tobytes())

    def select(self, indices: Iterable[int]) -> "PackedStrings":
        """The strings at these positions, in the order of `indices`."""
        if isinstance(indices, range) and indices.step == 1 and len(indices):
            start = int(self.ends[indices.start - 1]) if indices.start else 0
            ends = self.ends[indices.start : indices.stop]
            return PackedStrings(self.data[start : int(ends[-1])], ends - start)
        return PackedStrings.pack(os.fsencode(self[index]) for index in indices)

    def __iter__(self) -> Iterator[str]:
        return map(os.fsdecode, self.encoded())

    def encoded(self) -> Iterator[bytes]:
        """The strings as bytes, in order."""
        data = self.data.data
        start = 0
        # In parts: all ends together would be as many Python integers.
        for part in range(0, len(self.ends), 4096):
            for end in self.ends[part : part + 4096].tolist():
                yield bytes(data[start:end])
                start = end


def _unpickle(data: bytes, ends: bytes) -> PackedStrings:
    return PackedStrings(np.frombuffer(data, np.uint8), np.frombuffer(ends, np.int64))
