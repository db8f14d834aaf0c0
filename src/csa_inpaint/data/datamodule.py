"""The data module: images with masks for training, validation and test."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningDataModule

from csa_inpaint.data.checking import mask_folders, most_bad, printable
from csa_inpaint.data.datasets.layout import Layout, Split
from csa_inpaint.data.images import MAX_PIXELS
from csa_inpaint.data.listing import FileList, shared_files
from csa_inpaint.data.loading import (
    BadFile,
    BatchLoader,
    InpaintingDataset,
    ResumableDataLoader,
    ResumableLoader,
)
from csa_inpaint.data.masks import HoleRatioMask, MaskGenerator
from csa_inpaint.data.samplers import EvaluationSampler, TrainSampler
from csa_inpaint.data.transforms import Augment, CenterCrop, RandomCrop, Transform, to_float
from csa_inpaint.types import Batch

_log = logging.getLogger(__name__)


class InpaintingDataModule(LightningDataModule):
    """Images of a dataset with random holes, reproducible whatever the number of workers and ranks.

    Crops and masks are functions of (seed, epoch, number). Validation and test use the middle of
    each picture and one fixed mask for it. The loaders yield bytes (uint8 images, boolean masks),
    which this module turns into the floats of `types.Batch` once they are on the device; outside a
    Trainer call `csa_inpaint.data.to_float(batch)`.

    Use it with `Trainer(use_distributed_sampler=False)`: its samplers share the images between
    ranks themselves. Resuming in the middle of an epoch continues with the batch after the last
    one. Checkpoints hold a digest of the list of training images, so that a training is not
    continued on other data by mistake.

    Args:
        layout: knows where the dataset keeps its splits.
        mask: makes the holes.
        root: folder of the dataset.
        size: side of the images the model sees, or (height, width), in pixels.
        train_transform: which part of a picture is shown in training.
        val_transform: the same for validation and test.
        augment: changes colours and shapes of training images.
        val_mask: makes the holes of validation and test; None means as in training.
        hole_ratio: (low, high) share of the picture that holes of `mask` cover, of whatever kind
            they are; a `val_mask` of its own is left as it is.
        upscale_small: enlarge pictures that are smaller than the view instead of refusing them.
        batch_size: images per training batch and rank; a last, incomplete batch is left out.
        val_batch_size: images per validation and test batch and rank; None means as in training.
        repeats: passes over the training images in one epoch, each with other crops and masks.
        num_workers: processes that load data, per loader; 0 loads in the main process.
        prefetch_factor: batches that each worker keeps ready.
        pin_memory: copy batches through pinned memory, for faster transfer to a GPU; None does so
            where the Trainer uses CUDA.
        persistent_workers: keep the workers from one epoch to the next.
        seed: decides order, crops and masks of training.
        val_seed: decides the masks of validation and test; not the training seed, so that runs with
            different seeds are judged on the same holes.
        test_split: the split that `trainer.test` uses: "test" where the dataset has one.
        on_bad_file: what to do with a training image that is missing, unreadable or too small, and
            with a mask file that is bad: "error" stops; "skip" takes another one, logs the file,
            lists all at the end, and stops when they are too many. A bad image of validation or
            test always stops.
        max_bad_share: share of the training images, and of the mask files, that may be bad; one
            file always may, unless the share is 0.
        max_pixels: pixels of the largest picture that is decoded.
        allow_shared_files: train on images that validation uses too.
        allow_other_data: resume a checkpoint of a training on other images.

    Raises:
        ValueError: a setting is out of range; in `setup`: the layout does not fit `root`, or
            training and validation share images.
    """

    def __init__(
        self,
        layout: Layout,
        mask: MaskGenerator,
        root: Path | str | None = None,
        size: int | Sequence[int] = 256,
        train_transform: Transform | None = None,
        val_transform: Transform | None = None,
        augment: Augment | None = None,
        val_mask: MaskGenerator | None = None,
        hole_ratio: tuple[float, float] | None = None,
        upscale_small: bool = False,
        batch_size: int = 8,
        val_batch_size: int | None = None,
        repeats: int = 1,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        pin_memory: bool | None = None,
        persistent_workers: bool = True,
        seed: int = 0,
        val_seed: int = 0,
        test_split: Split = "val",
        on_bad_file: Literal["error", "skip"] = "error",
        max_bad_share: float = 0.01,
        max_pixels: int = MAX_PIXELS,
        allow_shared_files: bool = False,
        allow_other_data: bool = False,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.mask = mask if hole_ratio is None else HoleRatioMask(mask, hole_ratio)
        self.root = None if root is None else Path(root).expanduser()
        self.size = _size(size)
        self.train_transform = train_transform or RandomCrop()
        self.val_transform = val_transform or CenterCrop()
        self.augment = augment
        self.val_mask = val_mask or self.mask
        self.upscale_small = upscale_small
        self.batch_size = at_least(1, "batch_size", batch_size)
        self.val_batch_size = at_least(1, "val_batch_size", val_batch_size or batch_size)
        self.repeats = at_least(1, "repeats", repeats)
        self.num_workers = at_least(0, "num_workers", num_workers)
        self.prefetch_factor = at_least(1, "prefetch_factor", prefetch_factor)
        self.pin_memory = pin_memory
        self.persistent_workers = persistent_workers
        self.seed = at_least(0, "seed", seed)
        self.val_seed = at_least(0, "val_seed", val_seed)
        self.test_split = test_split
        if on_bad_file not in ("error", "skip"):
            raise ValueError(f"data.on_bad_file={on_bad_file}: expected error or skip")
        self.on_bad_file = on_bad_file
        if not 0 <= max_bad_share <= 1:
            raise ValueError(f"data.max_bad_share={max_bad_share}: expected a share from 0 to 1")
        self.max_bad_share = max_bad_share
        self.max_pixels = at_least(1, "max_pixels", max_pixels)
        self.allow_shared_files = allow_shared_files
        self.allow_other_data = allow_other_data
        self.bad_files: dict[str, str] = {}
        """Path of each training image that was passed over, and why."""
        self.bad_masks: dict[str, str] = {}
        """The same for mask files."""
        self._digest: str | None = None
        self._datasets: dict[Split, InpaintingDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        """List the files of the splits that `stage` needs (all but test's when None)."""
        needed: dict[str | None, tuple[Split, ...]] = {
            "validate": ("val",),
            "test": (self.test_split,),
        }
        for split in needed.get(stage, ("train", "val")):
            self._prepared(split)
        if stage == "fit":
            self.check_shared_files()

    def check_shared_files(self) -> None:
        """Refuse validation images that are trained on.

        Raises:
            ValueError: there are some, and `allow_shared_files` is False.
        """
        if self.allow_shared_files:
            return
        train, val = self.dataset("train").files, self.dataset("val").files
        shared = shared_files(val, train)
        if shared:
            raise ValueError(
                f"{len(shared)} of the {len(val)} validation images are training images too, "
                f"{shared[0]} for one, so that validation would not tell what was learnt by heart: "
                "name other images, or set data.allow_shared_files=true to do so on purpose"
            )

    def state_dict(self) -> dict[str, Any]:
        """What tells the training images from others."""
        if "train" not in self._datasets:
            return {}
        files = self._datasets["train"].files
        if self._digest is None:
            self._digest = files.digest()
        return {"images": len(files), "root": str(files.root), "digest": self._digest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to continue a training on other images.

        Raises:
            ValueError: the images have other names or another order, and `allow_other_data` is
                False.
        """
        now = self.state_dict()
        if self.allow_other_data or not now or not state_dict:
            return
        if now["digest"] != state_dict["digest"]:
            raise ValueError(
                f"the checkpoint was trained on {state_dict['images']} images in "
                f"{state_dict['root']}; this run has {now['images']} in {now['root']}, and their "
                "names or their order differ. Name the data of the checkpoint to continue, start a "
                "new training from its weights (init_from=PATH instead of checkpoint=PATH), or set "
                "data.allow_other_data=true to go on with other images"
            )

    def dataset(self, split: Split) -> InpaintingDataset:
        """The samples of a split, listed on first use."""
        if split not in self._datasets:
            self._datasets[split] = self._dataset(split)
        return self._datasets[split]

    def train_images(self) -> int:
        """Images of one pass over the training set."""
        return len(self.dataset("train").files)

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, augmented batches.

        Raises:
            ValueError: the images of one epoch do not fill one batch.
        """
        dataset = self._prepared("train")
        rank, world_size = self._rank()
        files = dataset.files
        sampler = TrainSampler(
            len(files), self.repeats, self.seed, rank, world_size, pools=files.pools
        )
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
            self.batch_size,
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
        for what, bad in (("training images", self.bad_files), ("mask files", self.bad_masks)):
            if bad:
                listing = "\n".join(f"  {printable(reason)}" for reason in bad.values())
                _log.warning("%d %s were passed over:\n%s", len(bad), what, listing)

    def _report(self, bad: BadFile) -> None:
        seen = self.bad_masks if bad.is_mask else self.bad_files
        if bad.path in seen:
            return
        seen[bad.path] = bad.reason
        _log.warning("passed over (data.on_bad_file=skip): %s", printable(bad.reason))
        if bad.is_mask:
            what, total = "mask files", sum(len(one.files) for one in mask_folders(self.mask))
        else:
            what, total = "training images", self.train_images()
        if len(seen) > most_bad(self.max_bad_share, total):
            raise ValueError(
                f"{len(seen)} of {total} {what} are bad, more than data.max_bad_share="
                f"{self.max_bad_share:g} allows, the last being: {bad.reason}. python -m "
                "csa_inpaint.check_data lists them all"
            )

    def _prepared(self, split: Split) -> InpaintingDataset:
        """The samples of a split; their masks are prepared before loading processes start."""
        dataset = self.dataset(split)
        self._prepare_masks(dataset.mask, dataset.files)
        return dataset

    def _prepare_masks(self, mask: MaskGenerator, files: FileList) -> None:
        for bad in mask.prepare(files, self.size):
            if self.on_bad_file == "error":
                raise bad
            self._report(BadFile(bad.path, str(bad), is_mask=True))

    def _dataset(self, split: Split) -> InpaintingDataset:
        train = split == "train"
        return InpaintingDataset(
            self.layout.files(self.root, split),
            repeats=self.repeats if train else 1,
            **self._sample_settings(train),
        )

    def _sample_settings(self, train: bool) -> dict[str, Any]:
        """What makes samples of pictures, in training or not."""
        return {
            "transform": self.train_transform if train else self.val_transform,
            "mask": self.mask if train else self.val_mask,
            "size": self.size,
            "seed": self.seed if train else self.val_seed,
            "upscale_small": self.upscale_small,
            "skip_bad_files": train and self.on_bad_file == "skip",
            "skip_bad_masks": self.on_bad_file == "skip",
            "max_pixels": self.max_pixels,
            "augment": self.augment if train else None,
        }

    def _evaluation_loader(self, split: Split) -> BatchLoader:
        dataset = self._prepared(split)
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
            "pin_memory": self._on_cuda() if self.pin_memory is None else self.pin_memory,
            "persistent_workers": self.persistent_workers and workers,
            "prefetch_factor": self.prefetch_factor if workers else None,
        }

    def _on_cuda(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

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
    return at_least(1, "size", height), at_least(1, "size", width)


def at_least(lowest: int, name: str, value: int) -> int:
    """A setting of the data, or an error that says how small it may be."""
    if value < lowest:
        raise ValueError(f"data.{name}={value}: expected {lowest} or more")
    return value
