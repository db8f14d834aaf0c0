"""Samples of tar files that are read from start to end, shuffled on the way."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count, islice
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from csa_inpaint.data.datasets.tar_streams import StreamedImage, no_image, read_images
from csa_inpaint.data.images import BAD_FILE_ERRORS
from csa_inpaint.data.loading import (
    MAX_SKIPS,
    BadFile,
    ResumableLoader,
    Sample,
    SampleMaker,
)
from csa_inpaint.data.masks import BadMaskError
from csa_inpaint.data.samplers import SampleKey

Item = TypeVar("Item")

_log = logging.getLogger(__name__)


class StreamedImages(SampleMaker, IterableDataset[Sample]):
    """Samples of one epoch and one rank, from tar files that are read from start to end.

    Each pass over the tar files takes them in another random order and deals them to the workers
    of all ranks, so that no two read the same one. A worker draws its next image at random from a
    buffer, which holds the next ones of its tar files. One that has read all its tar files goes on
    with the next pass. All that is random depends on the seed, the epoch and the numbers of ranks
    and workers alone.

    Args:
        urls: the tar files, see `read_images`.
        batches: batches of an epoch and rank, which its workers give in turns.
        batch_size: samples of a batch.
        rank: this process.
        world_size: number of processes.
        shuffle_buffer: image files in a worker's buffer.
        **settings: as for `SampleMaker`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        batches: int,
        batch_size: int,
        rank: int,
        world_size: int,
        shuffle_buffer: int,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.urls = urls
        self.batches = batches
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.shuffle_buffer = shuffle_buffer
        self.epoch = 0  # of the next iteration
        self.batches_done = 0  # left out at its start

    def __iter__(self) -> Iterator[Sample]:
        """The samples of this worker.

        Raises:
            OSError: a stream cannot be read.
            ValueError: a stream is no tar file, none holds an image, or an image is bad.
        """
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        # Workers take turns. After a resume the first one takes the turn of whoever was next.
        own = (self.batches_done + worker) % workers
        done, end = (
            len(range(own, batches, workers)) * self.batch_size
            for batches in (self.batches_done, self.batches)
        )
        reader, readers = self.rank * workers + own, self.world_size * workers
        images = (
            (SampleKey(number * readers + reader, self.epoch), image)
            for number, image in enumerate(self._images(reader, readers))
        )
        if self.skip_bad_files:
            # Only decoding tells which images gave a sample.
            yield from islice(self._samples(images), done, end)
        else:
            yield from islice(self._samples(islice(images, done, None)), end - done)

    def _images(self, reader: int, readers: int) -> Iterator[StreamedImage]:
        for turn in count():
            stream = [self.seed, self.epoch, turn]
            own = np.random.default_rng(stream).permutation(len(self.urls))[reader::readers]
            images = chain.from_iterable(read_images(self.urls[place]) for place in own.tolist())
            rng = np.random.default_rng([*stream, reader])
            given = 0
            for image in shuffled(images, self.shuffle_buffer, rng):
                given += 1
                yield image
            if not given:
                raise no_image(self.urls[own[0]])

    def _samples(self, images: Iterable[tuple[SampleKey, StreamedImage]]) -> Iterator[Sample]:
        skipped: list[BadFile] = []
        for key, image in images:
            try:
                sample = self.make(key, image.path, image.name, image.content, skipped)
            except BAD_FILE_ERRORS as error:
                if not self.skip_bad_files or isinstance(error, BadMaskError):
                    raise
                if len(skipped) >= MAX_SKIPS:
                    raise
                skipped.append(BadFile(image.path, str(error)))
                continue
            yield sample
            skipped = []


class StreamLoader(ResumableLoader):
    """A resumable loader of streams.

    It continues an epoch bit for bit by reading again what the epoch has read before, as long as
    the streams, the ranks and the workers are the same.

    Args:
        dataset: the samples.
        report: called in the main process for each file that was passed over.
        batches_done: the batches of the current epoch that a resumed training has behind it.
        epoch: number of the current epoch.
        **settings: further arguments of `torch.utils.data.DataLoader`.
    """

    def __init__(
        self,
        dataset: StreamedImages,
        report: Callable[[BadFile], None],
        batches_done: Callable[[], int],
        epoch: Callable[[], int],
        **settings: Any,
    ) -> None:
        super().__init__(dataset, report, batches_done, dataset.batch_size, **settings)
        self._streamed = dataset
        self._epoch = epoch

    def __len__(self) -> int:
        return self._streamed.batches

    def order(self) -> dict[str, Any]:
        """What decides which worker reads what, and when."""
        streamed = self._streamed
        return {
            "batch_size": streamed.batch_size,
            "batches": streamed.batches,
            "seed": streamed.seed,
            "shuffle_buffer": streamed.shuffle_buffer,
            "streams": len(streamed.urls),
            "workers": max(1, self.num_workers),
            "world_size": streamed.world_size,
        }

    def start_after(self, batches: int) -> None:
        """Have the workers pass over the images of these batches."""
        self._streamed.epoch = self._epoch()
        self._streamed.batches_done = batches
        if batches:
            _log.info(
                "the %d batches that this epoch has behind it are read again, to go on at the "
                "next image",
                batches,
            )


def shuffled(items: Iterable[Item], size: int, rng: np.random.Generator) -> Iterator[Item]:
    """Items in a random order, each drawn from a buffer of those that come next.

    Args:
        items: where they come from.
        size: items in the buffer.
        rng: source of randomness.
    """
    buffer: list[Item] = []
    for item in items:
        if len(buffer) < size:
            buffer.append(item)
            continue
        place = int(rng.integers(size))
        yield buffer[place]
        buffer[place] = item
    for place in rng.permutation(len(buffer)).tolist():
        yield buffer[place]
