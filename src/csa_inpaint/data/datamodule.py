"""The data module: images with masks for training, validation and test."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningDataModule

from csa_inpaint.data.datasets.layout import Layout, Split
from csa_inpaint.data.loading import (
    BadFile,
    BatchLoader,
    InpaintingDataset,
    ResumableDataLoader,
)
from csa_inpaint.data.masks import HoleRatioMask, MaskGenerator
from csa_inpaint.data.samplers import EvaluationSampler, TrainSampler
from csa_inpaint.data.transforms import CenterCrop, RandomCrop, Transform, to_float
from csa_inpaint.types import Batch

# Share of bad files above which skipping them would hide that something is wrong.
MOST_BAD = 0.01

_log = logging.getLogger(__name__)


class InpaintingDataModule(LightningDataModule):
    """Images of a dataset with random holes, reproducible whatever the number of workers and ranks.

    Crops and masks are functions of (seed, epoch, number). Validation and test use the middle of
    each picture and one fixed mask for it. The loaders yield bytes (uint8 images, boolean masks),
    which this module turns into the floats of `types.Batch` once they are on the device; outside a
    Trainer call `csa_inpaint.data.to_float(batch)`.

    Use it with `Trainer(use_distributed_sampler=False)`: its samplers share the images between
    ranks themselves. Resuming in the middle of an epoch continues with the batch after the last
    one.

    Args:
        layout: knows where the dataset keeps its splits.
        mask: makes the holes.
        root: folder of the dataset.
        size: side of the images the model sees, or (height, width), in pixels.
        train_transform: which part of a picture is shown in training.
        val_transform: the same for validation and test.
        val_mask: makes the holes of validation and test; None means as in training.
        hole_ratio: (low, high) share of the picture that holes of `mask` cover, of whatever kind
            they are; a `val_mask` of its own is left as it is.
        upscale_small: enlarge pictures that are smaller than the view instead of refusing them.
        batch_size: images per training batch and rank; a last, incomplete batch is left out.
        val_batch_size: images per validation and test batch and rank; None means as in training.
        repeats: passes over the training images in one epoch, each with other crops and masks.
        num_workers: processes that load data, per loader; 0 loads in the main process.
        prefetch_factor: batches that each worker keeps ready.
        pin_memory: copy batches through pinned memory, for faster transfer to a GPU.
        persistent_workers: keep the workers from one epoch to the next.
        seed: decides order, crops and masks of training.
        val_seed: decides the masks of validation and test; not the training seed, so that runs with
            different seeds are judged on the same holes.
        test_split: the split that `trainer.test` uses: "test" where the dataset has one.
        on_bad_file: what to do with a training image that is missing, unreadable or too small:
            "error" stops, "skip" takes another image, logs the file and lists all at the end, and
            stops when they are more than 1 % of the images. Validation and test always stop.

    Raises:
        ValueError: a setting is out of range; in `setup`: the layout does not fit `root`.
    """

    def __init__(
        self,
        layout: Layout,
        mask: MaskGenerator,
        root: Path | str | None = None,
        size: int | Sequence[int] = 256,
        train_transform: Transform | None = None,
        val_transform: Transform | None = None,
        val_mask: MaskGenerator | None = None,
        hole_ratio: tuple[float, float] | None = None,
        upscale_small: bool = False,
        batch_size: int = 8,
        val_batch_size: int | None = None,
        repeats: int = 1,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        pin_memory: bool = False,
        persistent_workers: bool = True,
        seed: int = 0,
        val_seed: int = 0,
        test_split: Split = "val",
        on_bad_file: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        self.layout = layout
        self.mask = mask if hole_ratio is None else HoleRatioMask(mask, hole_ratio)
        self.root = None if root is None else Path(root).expanduser()
        self.size = _size(size)
        self.train_transform = train_transform or RandomCrop()
        self.val_transform = val_transform or CenterCrop()
        self.val_mask = val_mask or self.mask
        self.upscale_small = upscale_small
        self.batch_size = _at_least(1, "batch_size", batch_size)
        self.val_batch_size = _at_least(1, "val_batch_size", val_batch_size or batch_size)
        self.repeats = _at_least(1, "repeats", repeats)
        self.num_workers = _at_least(0, "num_workers", num_workers)
        self.prefetch_factor = _at_least(1, "prefetch_factor", prefetch_factor)
        self.pin_memory = pin_memory
        self.persistent_workers = persistent_workers
        self.seed = _at_least(0, "seed", seed)
        self.val_seed = _at_least(0, "val_seed", val_seed)
        self.test_split = test_split
        if on_bad_file not in ("error", "skip"):
            raise ValueError(f"data.on_bad_file={on_bad_file}: expected error or skip")
        self.on_bad_file = on_bad_file
        self.bad_files: dict[str, str] = {}
        """Path of each training image that was passed over, and why."""
        self._datasets: dict[Split, InpaintingDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        """List the files of the splits that `stage` needs (all but test's when None)."""
        needed: dict[str | None, tuple[Split, ...]] = {
            "validate": ("val",),
            "test": (self.test_split,),
        }
        for split in needed.get(stage, ("train", "val")):
            if split not in self._datasets:
                self._datasets[split] = self._dataset(split)

    def dataset(self, split: Split) -> InpaintingDataset:
        """The samples of a split, listed on first use."""
        if split not in self._datasets:
            self._datasets[split] = self._dataset(split)
        return self._datasets[split]

    def train_dataloader(self) -> ResumableDataLoader:
        """Shuffled, augmented batches.

        Raises:
            ValueError: the images of one epoch do not fill one batch.
        """
        dataset = self.dataset("train")
        rank, world_size = self._rank()
        sampler = TrainSampler(len(dataset.files), self.repeats, self.seed, rank, world_size)
        if len(sampler) < self.batch_size:
            raise ValueError(
                f"{len(dataset.files)} training images x {self.repeats} repeats on {world_size} "
                f"ranks do not fill one batch of {self.batch_size}: choose a smaller "
                "data.batch_size or a larger data.repeats"
            )
        return ResumableDataLoader(
            dataset,
            self._report,
            sampler,
            self._batches_done,
            batch_size=self.batch_size,
            drop_last=True,
            **self._loader_settings(),
        )

    def val_dataloader(self) -> BatchLoader:
        """Batches of the validation split, the same every time."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> BatchLoader:
        """Batches of `test_split`, the same every time."""
        return self._evaluation_loader(self.test_split)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Bytes to floats, on the device and in the type of the model's weights."""
        if not isinstance(batch, Batch) or batch.image.is_floating_point():
            return batch
        module = None if self.trainer is None else self.trainer.lightning_module
        dtype = torch.float32 if module is None else module.dtype
        return to_float(batch, dtype if isinstance(dtype, torch.dtype) else torch.float32)

    def teardown(self, stage: str | None = None) -> None:
        """List the files that were passed over."""
        if self.bad_files:
            listing = "\n".join(f"  {reason}" for reason in self.bad_files.values())
            _log.warning("%d training images were passed over:\n%s", len(self.bad_files), listing)

    def _report(self, bad: BadFile) -> None:
        if bad.path in self.bad_files:
            return
        self.bad_files[bad.path] = bad.reason
        _log.warning("passed over (data.on_bad_file=skip): %s", bad.reason)
        count, total = len(self.bad_files), len(self.dataset("train").files)
        if count > MOST_BAD * total:
            raise ValueError(
                f"{count} of {total} training images are bad, more than {MOST_BAD:.0%}, the last "
                f"being: {bad.reason}. python -m csa_inpaint.check_data lists them all"
            )

    def _dataset(self, split: Split) -> InpaintingDataset:
        train = split == "train"
        return InpaintingDataset(
            self.layout.files(self.root, split),
            self.train_transform if train else self.val_transform,
            self.mask if train else self.val_mask,
            self.size,
            self.seed if train else self.val_seed,
            self.repeats if train else 1,
            self.upscale_small,
            skip_bad_files=train and self.on_bad_file == "skip",
        )

    def _evaluation_loader(self, split: Split) -> BatchLoader:
        dataset = self.dataset(split)
        return BatchLoader(
            dataset,
            self._report,
            sampler=EvaluationSampler(len(dataset), *self._rank()),
            batch_size=self.val_batch_size,
            **self._loader_settings(),
        )

    def _loader_settings(self) -> dict[str, Any]:
        workers = self.num_workers > 0
        return {
            "num_workers": self.num_workers,
            "pin_memory": self.pin_memory,
            "persistent_workers": self.persistent_workers and workers,
            "prefetch_factor": self.prefetch_factor if workers else None,
        }

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _batches_done(self) -> int:
        if self.trainer is None:
            return 0
        # After a resume, `ready` is what Lightning itself adds to the count of fetched batches.
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready


def _size(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return _at_least(1, "size", height), _at_least(1, "size", width)


def _at_least(lowest: int, name: str, value: int) -> int:
    if value < lowest:
        raise ValueError(f"data.{name}={value}: expected {lowest} or more")
    return value
