"""Any images that text files list."""

import codecs
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from csa_inpaint.data.array_cache import cache_file
from csa_inpaint.data.datasets.layout import NoSplitError, Split, required_root
from csa_inpaint.data.images import IMAGE_SUFFIXES
from csa_inpaint.data.listing import CACHE_FROM, FileList, Listing
from csa_inpaint.data.packing import PackedStrings

Places = npt.NDArray[np.int64]

# The endings of images by their length, each as one number.
_SUFFIXES = {
    length: np.array(
        [int.from_bytes(s.encode()) for s in IMAGE_SUFFIXES if len(s) == length], np.uint64
    )
    for length in sorted({len(suffix) for suffix in IMAGE_SUFFIXES})
}
_SMALL = np.array([*bytes(range(256)).lower()], np.uint64)
_BLANKS = np.array([bytes([number]).isspace() for number in range(256)])

_TOGETHER = 1 << 22  # bytes of a list that are looked at together

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
    for lines in _read(path):
        yield from zip(lines.names(), lines.labels(), strict=True)


class _Lines(NamedTuple):
    """Where the parts of some lines lie in their text."""

    characters: npt.NDArray[np.uint8]
    starts: Places
    name_ends: Places
    label_starts: Places
    ends: Places

    def names(self) -> list[bytes]:
        """The paths, all in one spelling."""
        text = _cut(self.characters, self.starts, self.name_ends)
        names = text.split(b"\n")[:-1]
        odd = any(part in text for part in (b"./", b"//", b"~/"))
        return [*map(_plain, names)] if odd else names

    def labels(self) -> list[bytes]:
        """What follows the paths, without blanks around it."""
        return _cut(self.characters, self.label_starts, self.ends).split(b"\n")[:-1]


def _read(path: Path) -> Iterator[_Lines]:
    """The lines of a list file that name images, some thousands at a time."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"the list file {path} does not exist: check the path") from None
    with file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        number = 1
        # In parts, because an object for each of two million paths would take 150 MB.
        while text := file.read(_TOGETHER):
            text += file.readline()
            yield _parsed(path, number, text if text.endswith(b"\n") else text + b"\n")
            number += text.count(b"\n")


def _parsed(path: Path, number: int, text: bytes) -> _Lines:
    """What lines name and what follows that, found by NumPy for all lines together.

    Args:
        path: the list file.
        number: of the first line.
        text: whole lines.

    Raises:
        ValueError: a line does not start with the path of an image.
    """
    characters = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    starts, ends = _stripped(characters, np.append(0, ends[:-1] + 1), ends)
    used = np.flatnonzero((ends > starts) & (characters[starts] != ord("#")))
    starts, ends = starts[used], ends[used]

    comma = path.suffix.lower() == ".csv"
    separators = np.flatnonzero(characters == ord(",") if comma else _BLANKS[characters])
    labelled = np.flatnonzero(~_are_images(characters, starts, ends))
    last = _last_before(separators, ends[labelled])
    labelled, last = labelled[last >= starts[labelled]], last[last >= starts[labelled]]
    name_ends, label_starts = ends.copy(), ends.copy()
    name_ends[labelled] = _stripped(characters, starts[labelled], last)[1]
    label_starts[labelled] = _stripped(characters, last + 1, ends[labelled])[0]

    bad = np.flatnonzero(~_are_images(characters, starts, name_ends))
    if comma and number == 1 and len(bad) and used[bad[0]] == 0:  # the names of the columns
        starts, name_ends, label_starts, ends, used = (
            places[1:] for places in (starts, name_ends, label_starts, ends, used)
        )
        bad = bad[1:] - 1
    if len(bad):
        line = text[starts[bad[0]] : ends[bad[0]]]
        raise ValueError(
            f"{path}, line {number + used[bad[0]]}: {os.fsdecode(line[:80])!r} is not the path of "
            "an image, with or without a label after it"
        )
    return _Lines(characters, starts, name_ends, label_starts, ends)


def _stripped(
    characters: npt.NDArray[np.uint8], starts: Places, ends: Places
) -> tuple[Places, Places]:
    """Stretches of characters without the blanks at their ends."""
    while (blank := (starts < ends) & _BLANKS[characters[ends - 1]]).any():
        ends = ends - blank
    while (blank := (starts < ends) & _BLANKS[characters[starts]]).any():
        starts = starts + blank
    return starts, ends


def _are_images(
    characters: npt.NDArray[np.uint8], starts: Places, ends: Places
) -> npt.NDArray[np.bool_]:
    """Whether stretches of characters are paths of images that are not hidden."""
    bases = np.maximum(_last_before(np.flatnonzero(characters == ord("/")), ends) + 1, starts)
    images = np.zeros(len(ends), np.bool_)
    for length, suffixes in _SUFFIXES.items():
        # The last characters of each as one number, small letters for capitals.
        code = np.zeros(len(ends), np.uint64)
        for place in range(length):
            code = code << np.uint64(8) | _SMALL[characters[ends - length + place]]
        images |= np.isin(code, suffixes) & (ends - bases >= length)
    images &= characters[bases] != ord(".")
    return images


def _last_before(places: Places, ends: Places) -> Places:
    """The last of some places before each end; -1 where there is none."""
    return np.append(places, -1)[np.searchsorted(places, ends) - 1]


def _cut(characters: npt.NDArray[np.uint8], starts: Places, ends: Places) -> bytes:
    """Stretches of characters that have others between them, each on a line of its own."""
    edges = np.zeros(len(characters) + 1, np.int8)
    edges[starts] += 1
    edges[ends + 1] -= 1
    characters = characters.copy()
    characters[ends] = ord("\n")
    return characters[np.cumsum(edges[:-1], dtype=np.int8) > 0].tobytes()


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
    folders: set[bytes] = set()
    keys = [np.empty(0, np.int64)]

    def noted() -> Iterator[bytes]:
        for names in _relative(root, source, _labelled(source, labels)):
            parts = [name.rpartition(b"/") for name in names]
            folders.update(map(itemgetter(0), parts))
            keys.append(_keys(map(itemgetter(0), parts), map(itemgetter(2), parts), len(parts)))
            yield from names

    names = PackedStrings.pack(noted())
    if not len(names):
        raise ValueError(f"the list file {source} names no image")
    root = root or Path("/")
    times, found = [source.stat().st_mtime_ns], [np.empty(0, np.int64)]
    looked_at = sorted(folders)
    for folder in looked_at:
        path = root / os.fsdecode(folder)
        try:
            # A list of bytes: a `Path` for each of two million names takes much longer.
            there = os.listdir(os.fsencode(path))  # noqa: PTH208
            times.append(path.stat().st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            times.append(0)  # its images are missing
            continue
        found.append(_keys(repeat(folder), there, len(there)))
    # Sorted, both are compared in the order of the memory, which is several times as fast.
    wanted, held = np.sort(np.concatenate(keys)), np.sort(np.concatenate(found))
    places = np.searchsorted(held, wanted)
    if places[-1] == len(held) or (held[places] != wanted).any():
        _refuse_missing(root, names, ~np.isin(np.concatenate(keys), held), source)
    if (wanted[1:] == wanted[:-1]).any():
        twice, count = Counter(names).most_common(1)[0]
        if count > 1:  # else two names have the same key
            raise ValueError(f"{source} lists {twice} more than once: remove the repetition")
    remembered = PackedStrings.pack([os.fsencode(source.absolute()), *looked_at])
    return Listing(names, remembered, np.array(times, dtype=np.int64), written)


def _keys(folders: Iterable[bytes], names: Iterable[bytes], count: int) -> npt.NDArray[np.int64]:
    """A number for each file, the same for the same folder and name.

    Numbers instead of paths, because a set of two million paths takes half a gigabyte.
    """
    folder, name = (np.fromiter(map(hash, part), np.int64, count) for part in (folders, names))
    return folder * 1_000_003 + name  # an odd factor: an even one would lose digits


def _labelled(source: Path, labels: frozenset[bytes] | None) -> Iterator[list[bytes]]:
    """The paths in a list, of certain labels or all, some thousands at a time."""
    for lines in _read(source):
        if labels is None:
            yield lines.names()
        else:
            both = zip(lines.names(), lines.labels(), strict=True)
            yield [name for name, label in both if label in labels]


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


def _relative(
    root: Path | None, source: Path, parts: Iterable[list[bytes]]
) -> Iterator[list[bytes]]:
    """Names relative to the root, where they lie below it, some thousands at a time."""
    start = None
    for number, names in enumerate(filter(None, parts)):
        if root is None:
            for name in names:
                if not name.startswith(b"/"):
                    raise ValueError(
                        f"data.root is missing: {source} lists {os.fsdecode(name)}, which is "
                        "relative; add data.root=/path, the folder that the paths in the lists "
                        "start from"
                    )
        elif number == 0 and not _mean_the_root(root, names[:_LOOKED_AT]):
            start = os.fsencode(root.absolute()).rstrip(b"/") + b"/"
        if start is None:
            yield [name.lstrip(b"/") for name in names]
        else:
            yield [name.removeprefix(start) for name in names]


def _mean_the_root(root: Path, names: list[bytes]) -> bool:
    """Whether paths that start with a slash mean the dataset's folder.

    The official lists of Places2 do so.
    """
    slashed = [os.fsdecode(name) for name in names if name.startswith(b"/")]
    below_root = any((root / name.lstrip("/")).exists() for name in slashed)
    return below_root or not any(Path(name).exists() for name in slashed)


def _plain(name: bytes) -> bytes:
    """The path without what means nothing in it, and with the user's home in place of `~`."""
    if name.startswith(b"~/"):
        name = os.fsencode(Path.home()) + name[1:]
    if b"./" in name or b"//" in name:  # most have neither
        start = b"/" if name.startswith(b"/") else b""
        name = start + b"/".join(part for part in name.split(b"/") if part not in (b"", b"."))
    return name
