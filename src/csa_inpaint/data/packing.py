"""Many strings in little memory."""

import os
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt


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
    def pack(cls, strings: Iterable[str]) -> "PackedStrings":
        """Pack strings, in their order."""
        encoded = [os.fsencode(string) for string in strings]
        ends = np.cumsum([len(string) for string in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]
        start = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(self.data[start : int(self.ends[index])].tobytes())

    def __iter__(self) -> Iterator[str]:
        everything = self.data.tobytes()
        start = 0
        for end in self.ends.tolist():
            yield os.fsdecode(everything[start:end])
            start = end
