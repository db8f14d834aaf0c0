"""From files to batches: reproducible by (seed, epoch, number), resumable at any batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from csa_inpaint.data.images import (
    BAD_FILE_ERRORS,
    MAX_PIXELS,
    SmallImageError,
    decode_at_least,
    naming,
    open_image,
    upright_size,
)
from csa_inpaint.data.listing import FileList
from csa_inpaint.data.masks import BadMaskError, Mask, MaskGenerator, Shown
from csa_inpaint.data.samplers import SampleKey, TrainSampler
from csa_inpaint.data.transforms import Augment, Transform, View, show, to_tensor
from csa_inpaint.types import Batch

# Decoding at reduced size keeps this many times the pixels that are shown, for resizing to smooth.
DECODE_RESERVE = 1.5

# So many bad files in a row mean that the data set is at fault.
MAX_SKIPS = 20


class BadFile(NamedTuple):
    """An image or mask file that was passed over, and why."""

    path: str
    reason: str
    is_mask: bool = False


class Sample(NamedTuple):
    """One picture with its mask, in bytes; `transforms.to_float` follows on the device."""

    image: torch.Tensor  # (3, H, W) uint8
    mask: torch.Tensor  # (1, H, W) bool, True in the hole
    path: str
    skipped: tuple[BadFile, ...]  # files whose place this one takes


class Loaded(NamedTuple):
    """What a worker sends: a batch, and the files that were passed over for it."""

    batch: Batch
    skipped: list[BadFile]


class SampleMaker:
    """Makes samples of encoded pictures, each a function of (seed, epoch, number) alone.

    Args:
        transform: which part of a picture is shown.
        mask: makes the holes.
        size: (height, width) of image and mask, in pixels.
        seed: start of every random choice, 0 or more.
        upscale_small: enlarge pictures that are smaller than the crop instead of refusing them.
        skip_bad_files: put another file in the place of one that is missing, unreadable or too
            small; the sample says so.
        skip_bad_masks: draw another mask in the place of one whose file cannot be used; the sample
            says so.
        max_pixels: pixels of the largest picture that is decoded.
        augment: changes what a picture looks like, after it was cut out.
    """

    def __init__(
        self,
        transform: Transform,
        mask: MaskGenerator,
        size: tuple[int, int],
        seed: int,
        upscale_small: bool = False,
        skip_bad_files: bool = False,
        skip_bad_masks: bool = False,
        max_pixels: int = MAX_PIXELS,
        augment: Augment | None = None,
    ) -> None:
        self.transform = transform
        self.mask = mask
        self.size = size
        self.seed = seed
        self.upscale_small = upscale_small
        self.skip_bad_files = skip_bad_files
        self.skip_bad_masks = skip_bad_masks
        self.max_pixels = max_pixels
        self.augment = augment

    def make(
        self, key: SampleKey, path: Path | str, name: str, content: bytes, skipped: list[BadFile]
    ) -> Sample:
        """Decode, cut out and mask one picture.

        Args:
            key: decides every random choice, together with the seed.
            path: what messages and batches name the picture by.
            name: of the file, below the folder of the images.
            content: the file's bytes.
            skipped: files that were passed over for this sample; bad masks are added.

        Raises:
            ValueError: the picture is unreadable or too small, or a mask cannot be made; the error
                names the file.
        """
        image, shown = self._cut_out(key, path, name, content)
        mask = self._draw(key, shown, skipped)
        if self.augment is not None:
            image = self.augment(image, int(self._rng(key, 4).integers(2**63)))
        return Sample(image, torch.from_numpy(mask)[None], str(path), tuple(skipped))

    def _cut_out(
        self, key: SampleKey, path: Path | str, name: str, content: bytes
    ) -> tuple[torch.Tensor, Shown]:
        with open_image(path, content, self.max_pixels) as opened:
            with naming(path):
                picture = upright_size(opened)
            view = self.transform(picture, self.size, self._rng(key, 0))
            if not self.upscale_small:
                check_resolution(path, picture, view, self.size)
            with naming(path):
                image = decode_at_least(opened, DECODE_RESERVE * view.scale(self.size))
        shown = Shown(name, picture, view, self.size)
        return to_tensor(show(image, view.on(picture, image), self.size)), shown

    def _draw(self, key: SampleKey, shown: Shown, skipped: list[BadFile]) -> Mask:
        rng = self._rng(key, 1)
        for attempt in range(1, MAX_SKIPS + 1):
            try:
                return self.mask.for_image(shown, rng)
            except BadMaskError as error:
                if not self.skip_bad_masks:
                    raise
                skipped.append(BadFile(error.path, str(error), is_mask=True))
                rng = self._rng(key, 3, attempt)
        return self.mask.for_image(shown, rng)

    def _rng(self, key: SampleKey, *stream: int) -> np.random.Generator:
        # Streams of their own: another kind of mask leaves the crops as they were.
        return np.random.default_rng([self.seed, key.epoch, key.number, *stream])


class InpaintingDataset(SampleMaker, Dataset[Sample]):
    """Pictures with masks, each a function of (seed, epoch, number) alone.

    The epoch comes with the key, so that workers that live for many epochs need not be told it.
    With `skip_bad_files` a random file takes the place of a bad one.

    Args:
        files: the image files.
        transform: which part of a picture is shown.
        mask: makes the holes.
        size: (height, width) of image and mask, in pixels.
        seed: start of every random choice, 0 or more.
        repeats: passes over the files in one epoch, each with other crops and masks.
        **settings: as for `SampleMaker`.
    """

    def __init__(
        self,
        files: FileList,
        transform: Transform,
        mask: MaskGenerator,
        size: tuple[int, int],
        seed: int,
        repeats: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(transform, mask, size, seed, **settings)
        self.files = files
        self.repeats = repeats

    def __len__(self) -> int:
        return len(self.files) * self.repeats

    def __getitem__(self, key: SampleKey) -> Sample:
        """Read, cut out and mask one picture.

        Raises:
            ValueError: the file is unreadable or too small, or a mask cannot be made; it names the
                file.
        """
        skipped: list[BadFile] = []
        attempt = 0
        while True:
            index = self._index(key, attempt)
            path = self.files[index]
            try:
                return self.make(key, path, self.files.name(index), self.files.read(index), skipped)
            except BAD_FILE_ERRORS as error:
                if not self.skip_bad_files or isinstance(error, BadMaskError):
                    raise
                if attempt >= MAX_SKIPS:
                    raise
                skipped.append(BadFile(str(path), str(error)))
                attempt += 1

    def mask_of(self, number: int, maker: MaskGenerator, rng: np.random.Generator) -> Mask:
        """A mask of another maker for one picture, as it is shown in epoch 0.

        Args:
            number: place of the picture in `files`.
            maker: makes the mask.
            rng: source of randomness.

        Shape:
            (H, W), True in the hole

        Raises:
            ValueError: the picture is unreadable or too small, or the mask cannot be made.
        """
        _, shown = self._cut_out(
            SampleKey(number, epoch=0),
            self.files[number],
            self.files.name(number),
            self.files.read(number),
        )
        for _ in range(MAX_SKIPS if self.skip_bad_masks else 0):
            try:
                return maker.for_image(shown, rng)
            except BadMaskError:
                continue  # `rng` has moved on, so another file is drawn
        return maker.for_image(shown, rng)

    def _index(self, key: SampleKey, attempt: int) -> int:
        if attempt == 0:
            return key.number % len(self.files)
        return int(self._rng(key, 2, attempt - 1).integers(len(self.files)))


def check_resolution(
    path: Path | str, picture: tuple[int, int], view: View, size: tuple[int, int]
) -> None:
    """Refuse a view that enlarges the picture.

    Args:
        path: the picture's file, for the message.
        picture: (height, width) of the picture, in pixels.
        view: the part of it that is shown.
        size: (height, width) at which it is shown.

    Raises:
        SmallImageError: the view has fewer pixels than are shown.
    """
    left, top, right, bottom = view.box
    tolerance = 1e-6  # the view's edges are rounded floats
    if bottom - top < size[0] - tolerance or right - left < size[1] - tolerance:
        raise SmallImageError(
            f"{path} has {picture[0]}x{picture[1]} pixels (height x width), too few for a view of "
            f"{size[0]}x{size[1]}: choose a smaller data.size, remove the picture, or set "
            "data.upscale_small=true to enlarge small ones",
            path,
        )


class BatchLoader(DataLoader[Sample]):
    """A loader of batches that reports the files its workers passed over.

    Args:
        dataset: the samples.
        report: called in the main process for each file that was passed over.
        **settings: further arguments of `torch.utils.data.DataLoader`.
    """

    def __init__(
        self, dataset: Dataset[Sample], report: Callable[[BadFile], None], **settings: Any
    ) -> None:
        super().__init__(dataset, collate_fn=collate, **settings)
        self._report = report

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for loaded in super().__iter__():
            for bad in loaded.skipped:
                self._report(bad)
            yield loaded.batch


class ResumableLoader(BatchLoader, ABC):
    """A loader that continues within an epoch, at the batch after the last one trained on.

    Lightning counts the batches that training has finished (not those that workers prefetched) and
    adds that count to what it fetches after a resume. This loader asks for the same count, once,
    when it starts after its state was restored, and leaves that many batches out. Its length stays
    that of the epoch.

    Args:
        dataset: the samples.
        report: called in the main process for each file that was passed over.
        batches_done: the batches of the current epoch that a resumed training has behind it.
        batch_size: samples of a batch.
        **settings: further arguments of `torch.utils.data.DataLoader`.
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        report: Callable[[BadFile], None],
        batches_done: Callable[[], int],
        batch_size: int,
        **settings: Any,
    ) -> None:
        super().__init__(dataset, report, batch_size=batch_size, **settings)
        self._together = batch_size
        self._batches_done = batches_done
        self._restored: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator: nothing runs before the first batch is asked for, and by then the Trainer has
        # set the epoch and knows how many of its batches are done.
        done = 0
        if self._restored is not None:
            done = self._batches_done()
            if done:
                self._check_settings(self._restored)
            self._restored = None
        self.start_after(done)
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """What the order of the samples depends on. The position itself is in Lightning's own
        counters."""
        return self.order()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where training stopped, when next iterated."""
        self._restored = dict(state_dict)

    @abstractmethod
    def order(self) -> dict[str, Any]:
        """What decides the order of the samples, by name."""

    @abstractmethod
    def start_after(self, batches: int) -> None:
        """Leave out the first batches of the epoch in the iteration that starts now."""

    def _check_settings(self, saved: dict[str, Any]) -> None:
        changed = [
            f"{name} was {saved.get(name)}, is {value}"
            for name, value in self.order().items()
            if saved.get(name) != value
        ]
        if changed:
            raise ValueError(
                "the checkpoint was saved in the middle of an epoch, and what decides the order "
                f"of its images has changed since ({'; '.join(changed)}): restore these settings, "
                "or resume from a checkpoint saved at the end of an epoch"
            )


class ResumableDataLoader(ResumableLoader):
    """A resumable loader of files in the order of a sampler.

    Args:
        dataset: the samples.
        report: called in the main process for each file that was passed over.
        sampler: their order.
        batches_done: the batches of the current epoch that a resumed training has behind it.
        batch_size: samples of a batch.
        **settings: further arguments of `torch.utils.data.DataLoader`.
    """

    def __init__(
        self,
        dataset: InpaintingDataset,
        report: Callable[[BadFile], None],
        sampler: TrainSampler,
        batches_done: Callable[[], int],
        batch_size: int,
        **settings: Any,
    ) -> None:
        super().__init__(dataset, report, batches_done, batch_size, sampler=sampler, **settings)
        self._order = sampler

    def order(self) -> dict[str, Any]:
        """The batch size and what the sampler was given."""
        return {
            "batch_size": self._together,
            "files": self._order.num_files,
            "repeats": self._order.repeats,
            "seed": self._order.seed,
            "world_size": self._order.world_size,
        }

    def start_after(self, batches: int) -> None:
        """Have the sampler leave out the keys of these batches."""
        self._order.skip = batches * self._together


def collate(samples: list[Sample]) -> Loaded:
    """Stack samples into a batch, still in bytes: images uint8, masks bool.

    Shape:
        image (B, 3, H, W), mask (B, 1, H, W)
    """
    images, masks, paths, skipped = (list(values) for values in zip(*samples, strict=True))
    # default_collate stacks into shared memory when it runs in a worker, which saves a copy.
    batch = Batch(default_collate(images), default_collate(masks), paths)
    return Loaded(batch, [bad for together in skipped for bad in together])
