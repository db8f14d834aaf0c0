"""Lists of files: which images a folder holds, kept in little memory and remembered between
runs."""

import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from csa_inpaint.data.images import open_image
from csa_inpaint.data.packing import PackedStrings

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

# Folders with at least this many images are remembered; walking fewer takes less than a second.
CACHE_FROM = 10_000

# A folder changed this recently may change again without its time stamp showing it.
_TIME_STAMP_NS = 2_000_000_000

_log = logging.getLogger(__name__)


class FileList(Sequence[Path]):
    """The paths of many files, relative to one folder, at some 50 bytes each.

    Args:
        root: the folder that the names are relative to.
        names: relative file names, with `/` between folders; their order is kept.
    """

    def __init__(self, root: Path, names: Iterable[str] | PackedStrings) -> None:
        self.root = root
        self._names = names if isinstance(names, PackedStrings) else PackedStrings.pack(names)

    def __len__(self) -> int:
        return len(self._names)

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
        """The bytes of a file."""
        return self.path(index).read_bytes()

    def open(self, index: int) -> Image.Image:
        """Open an image, its pixels not decoded yet; see `open_image`."""
        return open_image(self.path(index))

    def name(self, index: int) -> str:
        """The name of a file relative to `root`."""
        return self._names[index]

    def names(self) -> Iterator[str]:
        """All names relative to `root`, in order."""
        return iter(self._names)

    def select(self, indices: Iterable[int]) -> "FileList":
        """The files at these positions, in the order of `indices`."""
        return FileList(self.root, (self.name(index) for index in indices))

    def nbytes(self) -> int:
        """Memory taken by the list."""
        return int(self._names.data.nbytes + self._names.ends.nbytes)


def is_image(name: str) -> bool:
    """Whether a file name is one of an image that is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def list_images(root: Path) -> FileList:
    """List the images of a folder and of all folders below it, sorted by name.

    Files count as images by their suffix (jpg, jpeg, png, webp, bmp, tif, tiff, in either case).
    Hidden files and folders (`.name`) are skipped, links to folders are followed once.

    The list of a large folder is remembered in the user's cache (`$XDG_CACHE_HOME/csa_inpaint`, by
    default `~/.cache/csa_inpaint`) and used until a file is added to or removed from one of its
    folders, which their time stamps show.

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
    cache = _cache_file(root)
    listing = _load(cache)
    if listing is None or not listing.is_current(root):
        listing = _walk(root)
        if len(listing.names) >= CACHE_FROM:
            _save(listing, cache)
    if len(listing.names) == 0:
        raise FileNotFoundError(
            f"no image in {root} or below it: it must hold files that end in "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    return FileList(root, listing.names)


class _Listing(NamedTuple):
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


def _walk(root: Path) -> _Listing:
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
                if is_image(entry.name):
                    names.append(name)
                elif entry.is_dir():
                    pending.append(name)
    return _Listing(
        PackedStrings.pack(sorted(names)),
        PackedStrings.pack(folders),
        np.array(changed, dtype=np.int64),
        written,
    )


def _cache_file(root: Path) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    listed = os.fsencode(root.resolve()) + "".join(IMAGE_SUFFIXES).encode()
    key = hashlib.blake2b(listed, digest_size=16).hexdigest()
    return Path(base) / "csa_inpaint" / f"files-{key}.npz"


def _load(cache: Path) -> _Listing | None:
    try:
        with np.load(cache) as arrays:
            return _Listing(
                PackedStrings(arrays["names"], arrays["name_ends"]),
                PackedStrings(arrays["folders"], arrays["folder_ends"]),
                arrays["changed"],
                int(arrays["written"]),
            )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("the cached file list %s is unreadable (%s): listing again", cache, error)
        return None


def _save(listing: _Listing, cache: Path) -> None:
    # Written beside and moved: other processes see the old list or the new one, never half of it.
    part = cache.with_name(f"{cache.stem}-{os.getpid()}.part")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(
                file,
                names=listing.names.data,
                name_ends=listing.names.ends,
                folders=listing.folders.data,
                folder_ends=listing.folders.ends,
                changed=listing.changed,
                written=listing.written,
            )
        part.replace(cache)
    except OSError as error:
        if part.exists():
            part.unlink()
        _log.warning("the file list could not be remembered in %s (%s)", cache, error)
