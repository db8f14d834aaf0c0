"""Any images that text files list."""

import codecs
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csa_inpaint.data.array_cache import cache_file
from csa_inpaint.data.datasets.layout import NoSplitError, Split, required_root
from csa_inpaint.data.images import IMAGE_SUFFIXES
from csa_inpaint.data.listing import CACHE_FROM, FileList, Listing
from csa_inpaint.data.packing import PackedStrings

_SUFFIXES = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)

# So many paths decide whether a list starts them with the root of the disk or with `data.root`.
_LOOKED_AT = 20


class ListFiles:
    """Any images that text files list: one path on each line.

    A path is relative to `root`, with or without a `/` before it, or absolute; `~` is the user's
    home. A label after the path, as many datasets have it, is left out; in a file that ends in
    `.csv` a comma comes before it. Empty lines and lines that start with `#` are skipped.

    Args:
        train_list: file that lists the training images. A relative path is sought in `root` and in
            the current folder.
        val_list: the same for validation.
        test_list: the same for test.
    """

    counts: Mapping[Split, int] = {}

    def __init__(
        self,
        train_list: Path | str | None,
        val_list: Path | str | None,
        test_list: Path | str | None = None,
    ) -> None:
        self.lists: dict[Split, Path | str | None] = {
            "train": train_list,
            "val": val_list,
            "test": test_list,
        }

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images that a split's list names, in the list's order.

        `root` may be None where all paths in the list are absolute.
        """
        if root is not None:
            root = required_root(root, "the folder that the paths in the lists start from")
        path = self.lists[split]
        if path is None:
            raise NoSplitError(
                f"there is no list of {split} images: add "
                f"data.layout.{split}_list=/path/to/list.txt"
            )
        return listed_files(root, find_list(root, Path(path)))


def find_list(root: Path | None, path: Path) -> Path:
    """A list file, sought in the root and in the current folder.

    Raises:
        FileNotFoundError: it is in neither.
        ValueError: another one is in each of them.
    """
    path = path.expanduser()
    places = [Path.cwd() / path] if root is None else [root / path, Path.cwd() / path]
    found = [place for place in dict.fromkeys(places) if place.is_file()]
    if not found:
        sought = " or ".join(str(place) for place in dict.fromkeys(places))
        raise FileNotFoundError(f"the list file {sought} does not exist: check the path")
    if len(found) > 1 and not found[0].samefile(found[1]):
        raise ValueError(
            f"the list file {path} is there twice, {found[0]} and {found[1]}: name the one that is "
            "meant by its absolute path"
        )
    return found[0]


def read_list(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Read a list file: pairs of a path and of what follows it on its line.

    Bytes stay bytes, because file names are: decoding a million of them takes longer than reading.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line does not start with the path of an image.
    """
    comma = b"," if path.suffix.lower() == ".csv" else None
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"the list file {path} does not exist: check the path") from None
    with file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            name, label = line.strip(), b""
            if not name or name.startswith(b"#"):
                continue
            if not _is_image(name):
                name, label = [*name.rsplit(comma, maxsplit=1), b""][:2]
                name = name.rstrip()
            if not _is_image(name):
                if comma and number == 1:
                    continue  # the names of the columns
                raise ValueError(
                    f"{path}, line {number}: {os.fsdecode(line.strip()[:80])!r} is not the path of "
                    "an image, with or without a label after it"
                )
            yield _plain(name), label.strip()


def listed_files(
    root: Path | None, source: Path, labels: frozenset[bytes] | None = None
) -> FileList:
    """The images that a list file names, after a check that all are there.

    The check looks into the folders that the list names and into no others. What it found for a
    long list is remembered like the list of a large folder, until the file or one of these folders
    changes.

    Args:
        root: the folder that relative paths start from; None where all paths are absolute.
        source: the list file.
        labels: only the images whose label is one of these; None takes all.

    Raises:
        FileNotFoundError: some images are missing.
        ValueError: the list names none, or one of them twice, or a relative one without a root.
    """
    settings = [root, source.absolute(), labels and sorted(labels), IMAGE_SUFFIXES]
    cache = cache_file("list", repr(settings).encode("utf-8", "surrogateescape"))
    listing = Listing.load(cache)
    if listing is None or not listing.is_current(root or Path("/")):
        listing = _check(root, source, labels)
        if len(listing.names) >= CACHE_FROM:
            listing.save(cache)
    return FileList(root or Path("/"), listing.names)


def _check(root: Path | None, source: Path, labels: frozenset[bytes] | None) -> Listing:
    written = time.time_ns()
    entries = read_list(source)
    names = PackedStrings.pack(
        _relative(root, source, (n for n, label in entries if labels is None or label in labels))
    )
    if not len(names):
        raise ValueError(f"the list file {source} names no image")
    root = root or Path("/")
    # Hashes instead of the names: a set of two million names takes half a gigabyte.
    wanted = np.fromiter(map(hash, names.encoded()), np.int64, len(names))
    folders = sorted({name.rpartition(b"/")[0] for name in names.encoded()})
    times, found = [source.stat().st_mtime_ns], [np.empty(0, np.int64)]
    for folder in folders:
        try:
            found.append(_hashes(root, folder))
            times.append((root / os.fsdecode(folder)).stat().st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            times.append(0)  # its images are missing
    _refuse_missing(root, names, ~np.isin(wanted, np.concatenate(found)), source)
    if len(np.unique(wanted)) != len(wanted):
        twice, count = Counter(names).most_common(1)[0]
        if count > 1:  # else two names have the same hash
            raise ValueError(f"{source} lists {twice} more than once: remove the repetition")
    looked_at = PackedStrings.pack([os.fsencode(source.absolute()), *folders])
    return Listing(names, looked_at, np.array(times, dtype=np.int64), written)


def _hashes(root: Path, folder: bytes) -> npt.NDArray[np.int64]:
    """Hashes of the names, relative to the root, of all that a folder holds."""
    start = folder + b"/" if folder else b""
    with os.scandir(os.fsencode(root / os.fsdecode(folder))) as entries:
        return np.fromiter((hash(start + entry.name) for entry in entries), np.int64)


def _refuse_missing(
    root: Path, names: PackedStrings, missing: npt.NDArray[np.bool_], source: Path
) -> None:
    if not missing.any():
        return
    first = names[int(missing.argmax())]
    raise FileNotFoundError(
        f"{np.count_nonzero(missing)} of the {len(names)} images that {source} lists are missing "
        f"in {root}, {first} for one: check data.root, complete the dataset or remove them from "
        "the list"
    )


def _relative(root: Path | None, source: Path, names: Iterable[bytes]) -> Iterator[bytes]:
    """The names relative to the root, where they lie below it."""
    names = iter(names)
    first = list(islice(names, _LOOKED_AT))
    names = chain(first, names)
    if root is None:
        for name in names:
            if not name.startswith(b"/"):
                raise ValueError(
                    f"data.root is missing: {source} lists {os.fsdecode(name)}, which is relative; "
                    "add data.root=/path, the folder that the paths in the lists start from"
                )
            yield name.lstrip(b"/")
        return
    slashed = [os.fsdecode(name) for name in first if name.startswith(b"/")]
    below_root = any((root / name.lstrip("/")).exists() for name in slashed)
    # The official lists of Places2 start every path with a slash and mean the dataset's folder.
    if below_root or not any(Path(name).exists() for name in slashed):
        yield from (name.lstrip(b"/") for name in names)
    else:
        start = os.fsencode(root.absolute()).rstrip(b"/") + b"/"
        yield from (name.removeprefix(start) for name in names)


def _is_image(name: bytes) -> bool:
    """Whether a path is one of an image that is not hidden."""
    return name.lower().endswith(_SUFFIXES) and name[name.rfind(b"/") + 1] != ord(".")


def _plain(name: bytes) -> bytes:
    """The path without what means nothing in it, and with the user's home in place of `~`."""
    if name.startswith(b"~/"):
        name = os.fsencode(Path.home()) + name[1:]
    if b"./" in name or b"//" in name:
        start = b"/" if name.startswith(b"/") else b""
        name = start + b"/".join(part for part in name.split(b"/") if part not in (b"", b"."))
    return name
