"""Lists of files: which images a folder holds, kept in little memory and remembered between
runs."""

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from csa_inpaint.data.array_cache import cache_file, load_arrays, save_arrays
from csa_inpaint.data.images import IMAGE_SUFFIXES, MAX_PIXELS, open_image, read_file
from csa_inpaint.data.packing import PackedStrings

# Folders with at least this many images are remembered; walking fewer takes less than a second.
CACHE_FROM = 10_000

# A folder changed this recently may change again without its time stamp showing it.
_TIME_STAMP_NS = 2_000_000_000


class Pool(NamedTuple):
    """Neighbours in a list of files that are used with a weight of their own."""

    files: int  # how many
    weight: float  # relative to the other pools


class FileList(Sequence[Path]):
    """The paths of many files, relative to one folder, at some 50 bytes each.

    Args:
        root: the folder that the names are relative to.
        names: relative file names, with `/` between folders; their order is kept.
    """

    def __init__(self, root: Path, names: Iterable[str] | PackedStrings) -> None:
        self.root = root
        self.packed = names if isinstance(names, PackedStrings) else PackedStrings.pack(names)

    def __len__(self) -> int:
        return len(self.packed)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> "FileList": ...

    def __getitem__(self, index: int | slice) -> "Path | FileList":
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        return self.path(index)

    def path(self, index: int) -> Path:
        """The path of a file; what messages and batches name it by."""
        return self.root / self.name(index)

    def read(self, index: int) -> bytes:
        """The bytes of a file; see `read_file`."""
        return read_file(self.path(index))

    def open(self, index: int, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Open an image, its pixels not decoded yet; see `open_image`."""
        return open_image(self.path(index), self.read(index), max_pixels)

    def name(self, index: int) -> str:
        """The name of a file relative to `root`."""
        return self.packed[index]

    def names(self) -> Iterator[str]:
        """All names relative to `root`, in order."""
        return iter(self.packed)

    def encoded_names(self) -> Iterator[bytes]:
        """The same as bytes, which is several times faster."""
        return self.packed.encoded()

    def encoded_paths(self) -> Iterator[bytes]:
        """The paths as bytes, in order."""
        start = os.fsencode(self.root.resolve()).rstrip(b"/") + b"/"
        if self.stays_below_root():
            return (start + name for name in self.encoded_names())
        return (
            os.path.normpath(name if name.startswith(b"/") else start + name)
            for name in self.encoded_names()
        )

    def stays_below_root(self) -> bool:
        """Whether no name is absolute or leads out of the root."""
        starts = np.append(0, self.packed.ends[:-1])
        absolute = (self.packed.data[starts] == ord("/")).any()
        return not absolute and re.search(rb"\.\./", self.packed.data.data) is None

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Parts of the list that training takes as often as their weights say; none: all alike."""
        return ()

    def digest(self) -> str:
        """A digest of the names and their order, the same wherever `root` is."""
        names = self.packed
        digest = hashlib.blake2b(names.ends.tobytes(), digest_size=16)
        digest.update(names.data.data)
        return digest.hexdigest()

    def select(self, indices: Iterable[int]) -> "FileList":
        """The files at these positions, in the order of `indices`."""
        return FileList(self.root, self.packed.select(indices))

    def nbytes(self) -> int:
        """Memory taken by the list."""
        return int(self.packed.data.nbytes + self.packed.ends.nbytes)


def is_image(name: str) -> bool:
    """Whether a file name is one of an image that is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def list_images(root: Path) -> FileList:
    """List the images of a folder and of all folders below it, sorted by name.

    Files count as images by their suffix (`IMAGE_SUFFIXES`, in either case). Hidden files and
    folders (`.name`) are skipped, links to folders are followed once.

    The list of a large folder is remembered in the user's cache folder (on Linux
    `$XDG_CACHE_HOME/csa_inpaint`, by default `~/.cache/csa_inpaint`) and used until a file is added
    to or removed from one of its folders, which their time stamps show.

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
    cache = cache_file("files", os.fsencode(root.resolve()) + "".join(IMAGE_SUFFIXES).encode())
    listing = Listing.load(cache)
    if listing is None or not listing.is_current(root):
        listing = _walk(root)
        if len(listing.names) >= CACHE_FROM:
            listing.save(cache)
    if len(listing.names) == 0:
        raise FileNotFoundError(
            f"no image in {root} or below it: it must hold files that end in "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    return FileList(root, listing.names)


def shared_files(one: FileList, other: FileList) -> list[Path]:
    """The files that two lists have in common, by their paths."""
    roots = [files.root.resolve() for files in (one, other)]
    nested = roots[0] == roots[1] or roots[0] in roots[1].parents or roots[1] in roots[0].parents
    if not nested and one.stays_below_root() and other.stays_below_root():
        return []
    few, many = sorted((one, other), key=len)
    # Hashes of the longer list, because its two million paths would take half a gigabyte.
    hashes = np.fromiter(map(hash, few.encoded_paths()), np.int64, len(few))
    others = np.sort(np.fromiter(map(hash, many.encoded_paths()), np.int64, len(many)))
    places = np.searchsorted(others, hashes).clip(max=len(others) - 1)
    return [few.path(index) for index in np.flatnonzero(others[places] == hashes).tolist()]


class Listing(NamedTuple):
    """What some folders held at some time."""

    names: PackedStrings
    folders: PackedStrings  # relative to the root, which is ""
    changed: npt.NDArray[np.int64]  # when each folder changed last, in ns
    written: int  # when the list was made, in ns

    def is_current(self, root: Path) -> bool:
        """Whether no folder has changed since."""
        if (self.changed > self.written - _TIME_STAMP_NS).any():
            return False
        for folder, changed in zip(self.folders, self.changed.tolist(), strict=True):
            try:
                if (root / folder).stat().st_mtime_ns != changed:
                    return False
            except OSError:
                return False
        return True

    def save(self, cache: Path) -> None:
        """Remember the listing."""
        arrays = self.names.arrays("name") | self.folders.arrays("folder")
        save_arrays(cache, **arrays, changed=self.changed, written=np.array(self.written))

    @classmethod
    def load(cls, cache: Path) -> "Listing | None":
        """The listing that was remembered, if one was."""
        arrays = load_arrays(cache)
        if arrays is None:
            return None
        names, folders = (PackedStrings.from_arrays(arrays, name) for name in ("name", "folder"))
        return cls(names, folders, arrays["changed"], int(arrays["written"]))


def _walk(root: Path) -> Listing:
    written = time.time_ns()
    names: list[str] = []
    folders: list[str] = []
    changed: list[int] = []
    visited: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        folder = pending.pop()
        status = (root / folder).stat()
        if (status.st_dev, status.st_ino) in visited:
            continue  # a link back to a folder that was listed: following it would never end
        visited.add((status.st_dev, status.st_ino))
        folders.append(folder)
        changed.append(status.st_mtime_ns)
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                if _is_folder(entry):
                    pending.append(name)
                elif is_image(entry.name):
                    names.append(name)
    return Listing(
        PackedStrings.pack(sorted(names)),
        PackedStrings.pack(folders),
        np.array(changed, dtype=np.int64),
        written,
    )


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself: no folder; as an image it is a bad file
        return False
