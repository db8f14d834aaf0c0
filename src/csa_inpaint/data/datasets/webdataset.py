"""Tar files of WebDataset, read as they are."""

import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from csa_inpaint.data.array_cache import cache_file, load_arrays, save_arrays
from csa_inpaint.data.datamodule import InpaintingDataModule
from csa_inpaint.data.datasets.folder import hold_out
from csa_inpaint.data.datasets.layout import NoSplitError, Split
from csa_inpaint.data.datasets.shards import PLACE, ShardedFiles, ShardError
from csa_inpaint.data.images import IMAGE_SUFFIXES
from csa_inpaint.data.listing import FileList, is_image
from csa_inpaint.data.packing import PackedStrings


class WebDatasetTars:
    """The images in tar files of WebDataset, at any place, in any order.

    The first run reads the headers of the tar files and remembers in the user's cache folder where
    each image lies, until a tar file changes. Members that are no images by their suffix (labels,
    captions) are passed over. There are no checksums, so that damage shows in an image alone.

    Args:
        urls: paths of tar files, with braces (`{000..010}`) or wildcards (`*`), relative to `root`
            where that is given.
        val_urls: the same for validation; None holds out a share of the images, by their names.
        val_fraction: that share; None means 0.1.
    """

    counts: Mapping[Split, int] = {}

    def __init__(
        self,
        urls: str | Sequence[str],
        val_urls: str | Sequence[str] | None = None,
        val_fraction: float | None = None,
    ) -> None:
        self.urls = [urls] if isinstance(urls, str) else list(urls)
        self.val_urls = [val_urls] if isinstance(val_urls, str) else val_urls
        self.val_fraction = val_fraction

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images of a split, in the order of the tar files.

        Raises:
            FileNotFoundError: there is no such tar file.
            ShardError: one is compressed, truncated or damaged, or there is no image in any.
        """
        if split == "test":
            raise NoSplitError("tar files of WebDataset have no test split: choose train or val")
        if self.val_urls is not None:
            return _files(root, self.urls if split == "train" else self.val_urls)
        return hold_out(_files(root, self.urls), self.val_fraction, split)


def webdataset_module(
    urls: str | Sequence[str],
    val_urls: str | Sequence[str] | None = None,
    val_fraction: float | None = None,
    **settings: Any,
) -> InpaintingDataModule:
    """The data module of `WebDatasetTars`; `settings` are those of `InpaintingDataModule`."""
    return InpaintingDataModule(WebDatasetTars(urls, val_urls, val_fraction), **settings)


def _files(root: Path | None, urls: Sequence[str]) -> ShardedFiles:
    tars = [tar for url in urls for tar in _expanded(root, url)]
    status = [tar.stat() for tar in tars]
    state = np.array([(one.st_size, one.st_mtime_ns) for one in status], dtype=np.int64)
    cache = cache_file("tars", b"\0".join(map(os.fsencode, tars)))
    arrays = load_arrays(cache)
    if arrays is None or not np.array_equal(arrays["state"], state):
        found = list(_members(tars))
        places = np.array([place for _, place in found], dtype=PLACE)
        arrays = {
            **PackedStrings.pack(name for name, _ in found).arrays("name"),
            "places": places,
            "state": state,
        }
        save_arrays(cache, **arrays)
    names = PackedStrings.from_arrays(arrays, "name")
    if not len(names):
        raise ShardError(
            f"there is no image in the tar files of data.urls, {tars[0]} for one: images are "
            f"members that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    common = Path(os.path.commonpath([tar.parent for tar in tars]))
    shards = [str(tar.relative_to(common)) for tar in tars]
    return ShardedFiles(common, names, shards, arrays["places"], checked=False)


def _expanded(root: Path | None, url: str) -> list[Path]:
    """The tar files that a pattern stands for.

    Raises:
        ModuleNotFoundError: it has braces, and the package that expands these is not installed.
    """
    if "://" in url or url.startswith("pipe:"):
        raise ValueError(
            f"data.urls={url}: tar files are read at any place, which a stream does not give. "
            "Mount the store as a folder, or copy the tar files to a disk"
        )
    patterns = [url]
    if "{" in url:
        try:
            from braceexpand import braceexpand
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "braces in data.urls need a package: pip install 'csa-inpaint[shards]'"
            ) from error
        patterns = list(braceexpand(url))
    found = []
    for pattern in patterns:
        path = ((root or Path.cwd()) / Path(pattern).expanduser()).resolve()
        # Where nothing matches, the path itself is missed below, or has a wildcard in its name.
        found += sorted(Path(path.anchor).glob(str(path)[len(path.anchor) :])) or [path]
    missing = [path for path in found if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(found)} tar files of data.urls={url} do not exist, "
            f"{missing[0]} for one: check the pattern"
        )
    return found


def _members(tars: Sequence[Path]) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    for number, path in enumerate(tars):
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if member.isfile() and is_image(PurePosixPath(member.name).name):
                        name = member.name.removeprefix("./")
                        yield name, (number, member.offset_data, member.size, 0)
        except tarfile.TarError as error:
            raise ShardError(
                f"{path} is no uncompressed tar file, or a damaged one ({error}): unpack .tar.gz "
                "files with gunzip first"
            ) from error
