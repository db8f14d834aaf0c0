"""Lists of files: which images a folder holds, kept in little memory."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class FileList(Sequence[Path]):
    """The paths of many files, relative to one folder, in a few flat arrays.

    A Python list of 1.8 million paths takes hundreds of megabytes in every worker, because touching
    an object's reference count copies its page. Flat arrays stay shared between forked workers.

    Args:
        root: the folder that the names are relative to.
        names: relative file names, with `/` between folders; their order is kept.
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.root = root
        self._ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        self._names = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> "FileList": ...

    def __getitem__(self, index: int | slice) -> "Path | FileList":
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        return self.root / self.name(index)

    def name(self, index: int) -> str:
        """The name of a file relative to `root`."""
        index = range(len(self))[index]
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._names[start : int(self._ends[index])].tobytes())

    def names(self) -> Iterable[str]:
        """All names relative to `root`, in order."""
        return (self.name(index) for index in range(len(self)))

    def select(self, indices: Iterable[int]) -> "FileList":
        """The files at these positions, in the order of `indices`."""
        return FileList(self.root, (self.name(index) for index in indices))


def is_image(name: str) -> bool:
    """Whether a file name is one of an image that is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def list_images(root: Path) -> FileList:
    """List the images of a folder and of all folders below it, sorted by name.

    Files count as images by their suffix (jpg, jpeg, png, webp, bmp, in either case). Hidden files
    and folders (`.name`) are skipped, links to folders are followed once.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: the folder does not exist, or no image is in it.
        NotADirectoryError: `root` is a file.
    """
    if not root.exists():
        raise FileNotFoundError(f"the folder {root} does not exist: check the path")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file; give a folder that holds images")
    names: list[str] = []
    visited: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        folder = pending.pop()
        status = (root / folder).stat()
        if (status.st_dev, status.st_ino) in visited:
            continue  # a link back to a folder that was listed: following it again would never end
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir():
                    pending.append(name)
                elif is_image(entry.name):
                    names.append(name)
    if not names:
        raise FileNotFoundError(
            f"no image in {root} or below it: it must hold files that end in "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    return FileList(root, sorted(names))
