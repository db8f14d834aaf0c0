"""Tar files of WebDataset, read as they are."""

import logging
import os
import tarfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from csa_inpaint.data.array_cache import cache_file, load_arrays, save_arrays
from csa_inpaint.data.datamodule import InpaintingDataModule, at_least
from csa_inpaint.data.datasets.folder import hold_out
from csa_inpaint.data.datasets.layout import NoSplitError, Split, StreamError
from csa_inpaint.data.datasets.shards import PLACE, ShardedFiles, ShardError
from csa_inpaint.data.datasets.tar_streams import is_stream, no_image, without_braces
from csa_inpaint.data.listing import FileList, is_image
from csa_inpaint.data.loading import ResumableLoader
from csa_inpaint.data.packing import PackedStrings
from csa_inpaint.data.streaming import StreamedImages, StreamLoader

_log = logging.getLogger(__name__)


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


class WebDatasetModule(InpaintingDataModule):
    """Images in tar files of WebDataset: at any place of files, or one after the other of streams.

    URLs with `pipe:` or `://` are streams, which training reads from start to end, see
    `StreamedImages`. Validation looks at the same images every time, and takes files.

    Args:
        urls: of training: files as in `WebDatasetTars`, or streams, with or without braces.
        val_urls: files of validation; needed beside streams.
        val_fraction: share of the images in files that is held out where `val_urls` is None.
        images_per_epoch: images that all ranks together take from streams in one epoch; for files
            it is None.
        shuffle_buffer: image files of streams, not decoded yet, from which each worker draws the
            next one.
        **settings: as for `InpaintingDataModule`.

    Raises:
        ValueError: the settings do not suit streams, or files.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        val_urls: str | Sequence[str] | None = None,
        val_fraction: float | None = None,
        images_per_epoch: int | None = None,
        shuffle_buffer: int = 1000,
        **settings: Any,
    ) -> None:
        layout = WebDatasetTars(urls, val_urls, val_fraction)
        super().__init__(layout, **settings)
        self.streams: list[str] = []
        if any(map(is_stream, layout.urls)):
            self.streams = _streams(layout.urls)
            _check_validation(layout)
            if self.repeats > 1:
                raise ValueError(
                    f"data.repeats={self.repeats} has no effect on streams: set "
                    "data.images_per_epoch"
                )
        if bool(self.streams) != (images_per_epoch is not None):
            raise ValueError(
                f"data.images_per_epoch={images_per_epoch}: "
                + (
                    "a stream does not tell how many images it holds, so give the number that "
                    "makes an epoch, such as that of all images in data.urls"
                    if self.streams
                    else "the epoch of tar files on a disk has all their images; leave it out"
                )
            )
        self.images_per_epoch = images_per_epoch
        self.shuffle_buffer = at_least(1, "shuffle_buffer", shuffle_buffer)

    def setup(self, stage: str | None = None) -> None:
        """List the files of the splits that `stage` needs."""
        if not self.streams or stage in ("validate", "test"):
            super().setup(stage)
            return
        self._prepare_masks(self.mask, FileList(Path(), []))
        super().setup("validate")

    def state_dict(self) -> dict[str, Any]:
        """What tells the training images from others; of streams it is their URLs."""
        if not self.streams:
            return super().state_dict()
        digest = FileList(Path(), self.streams).digest()
        return {"images": self.images_per_epoch, "root": self.streams[0], "digest": digest}

    def train_images(self) -> int:
        """Images of one pass over the training set, or of one epoch of streams."""
        return self.images_per_epoch or super().train_images()

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, augmented batches.

        Raises:
            ValueError: the images of one epoch do not fill one batch, or there are fewer streams
                than workers.
        """
        if not self.streams:
            return super().train_dataloader()
        rank, world_size = self._rank()
        workers = max(1, self.num_workers)
        if len(self.streams) < workers * world_size:
            raise ValueError(
                f"data.urls names {len(self.streams)} streams, too few for {world_size} ranks with "
                f"{workers} workers, of which each reads other ones: choose a smaller "
                "data.num_workers, or make more, smaller tar files"
            )
        batches = self.train_images() // (world_size * self.batch_size)
        if batches == 0:
            raise ValueError(
                f"data.images_per_epoch={self.images_per_epoch} on {world_size} ranks does not "
                f"fill one batch of {self.batch_size}: choose a smaller data.batch_size"
            )
        if rank == 0:
            _log.info(
                "training reads %d streams one after the other; each of %d workers on %d ranks "
                "draws images from a buffer of %d. With the same streams, workers and ranks a "
                "resumed run goes on bit for bit: at once where an epoch ended, otherwise after it "
                "has read again what its epoch had read",
                len(self.streams),
                workers,
                world_size,
                self.shuffle_buffer,
            )
        dataset = StreamedImages(
            self.streams,
            batches,
            self.batch_size,
            rank,
            world_size,
            self.shuffle_buffer,
            **self._sample_settings(train=True),
        )
        # Lightning suspects that every worker gives all images.
        warnings.filterwarnings("ignore", "Your `IterableDataset` has `__len__` defined")
        # Workers are told the epoch when they start.
        settings = {**self._loader_settings(), "persistent_workers": False}
        return StreamLoader(dataset, self._report, self._batches_done, self._epoch, **settings)

    def _epoch(self) -> int:
        return 0 if self.trainer is None else self.trainer.current_epoch


def _streams(urls: Sequence[str]) -> list[str]:
    for url in urls:
        if not is_stream(url):
            raise ValueError(
                f"data.urls={url} is a file among streams: write it as file:// and its absolute "
                "path, or name files only"
            )
        if "*" in url and not url.startswith("pipe:"):
            raise ValueError(
                f"data.urls={url}: a stream has no wildcards; use braces, as in train-{{000..099}}"
                ".tar"
            )
    return [stream for url in urls for stream in without_braces(url)]


def _check_validation(layout: WebDatasetTars) -> None:
    if layout.val_fraction is not None:
        raise ValueError(
            f"val_fraction={layout.val_fraction}: no share of a stream can be held out; name tar "
            "files on a disk for validation, data.val_urls=PATH"
        )
    streams = [url for url in layout.val_urls or () if is_stream(url)]
    if layout.val_urls is None or streams:
        raise ValueError(
            f"data.val_urls={streams[0] if streams else None}: validation looks at the same images "
            "every time and at any place, which a stream does not give. Copy the tar files of "
            "validation to a disk and name them by their paths, data.val_urls=PATH"
        )


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
        raise no_image(tars[0])
    common = Path(os.path.commonpath([tar.parent for tar in tars]))
    shards = [str(tar.relative_to(common)) for tar in tars]
    return ShardedFiles(common, names, shards, arrays["places"], checked=False)


def _expanded(root: Path | None, url: str) -> list[Path]:
    """The tar files that a pattern stands for."""
    if is_stream(url):
        raise StreamError(
            f"{url} is a stream: it is read from its start to its end, in training alone. Copy the "
            "tar file to a disk and name it by its path, to look at its images at any place, as "
            "validation and the other commands do"
        )
    found = []
    for pattern in without_braces(url):
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
