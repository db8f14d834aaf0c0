"""Any folder of images."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from csa_inpaint.data.datasets.layout import Split, no_split, required_root
from csa_inpaint.data.listing import FileList, is_image, list_images


class ImageFolder:
    """Any folder of images, with folders inside or not.

    `root/train` and `root/val` (and `root/test`) are used where they exist. Otherwise all images
    are in one heap: `val_root` names another folder for validation, or a share of the heap is held
    out. Which files these are depends on their names alone, not on their order or on a seed.

    Args:
        val_root: folder of the validation images.
        val_fraction: share of the images that is held out, at least one; None means 0.1 where
            neither `root/val` nor `val_root` is there.
    """

    counts: Mapping[Split, int] = {}

    def __init__(
        self, val_root: Path | str | None = None, val_fraction: float | None = None
    ) -> None:
        if val_fraction is not None and not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction={val_fraction}: expected a share between 0 and 1")
        if val_root is not None and val_fraction is not None:
            raise ValueError(
                "val_root and val_fraction are both set: give the validation images a folder of "
                "their own or hold out a share, not both"
            )
        self.val_root = None if val_root is None else Path(val_root)
        self.val_fraction = val_fraction

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images of a split."""
        root = required_root(root, "a folder of images")
        if self._has_splits(root):
            if not (root / split).is_dir():
                raise no_split(str(root), split, ("train", "val"))
            return list_images(root / split)
        if split == "test":
            raise no_split(str(root), split, ("train", "val"))
        if self.val_root is not None:
            return list_images(root if split == "train" else self.val_root)
        return self._held_out(list_images(root), split)

    def _has_splits(self, root: Path) -> bool:
        if not (root / "train").is_dir() and not (root / "val").is_dir():
            return False
        missing = [name for name in ("train", "val") if not (root / name).is_dir()]
        if missing:
            raise ValueError(
                f"{root} has only one of train/ and val/: add {missing[0]}/, or point data.root "
                "at the folder that holds the training images and set data.layout.val_root or "
                "data.layout.val_fraction"
            )
        if self.val_root is not None or self.val_fraction is not None:
            raise ValueError(
                f"{root} has train/ and val/, so data.layout.val_root and "
                "data.layout.val_fraction are ambiguous: leave them out, or set "
                f"data.root={root / 'train'}"
            )
        beside = next((path.name for path in sorted(root.iterdir()) if is_image(path.name)), None)
        if beside is not None:
            raise ValueError(
                f"{root} holds images beside train/ and val/, {beside} for one, which belong to "
                "neither: move them, or point data.root elsewhere"
            )
        return True

    def _held_out(self, files: FileList, split: Split) -> FileList:
        fraction = 0.1 if self.val_fraction is None else self.val_fraction
        if len(files) < 2:
            raise ValueError(
                f"{files.root} holds one image, too few to train on some and hold out others: add "
                "images, or name a folder of validation images with data.layout.val_root"
            )
        count = min(max(1, round(fraction * len(files))), len(files) - 1)
        by_hash = sorted(range(len(files)), key=lambda index: _hash(files.name(index)))
        held_out = set(by_hash[:count])
        return files.select(
            index for index in range(len(files)) if (index in held_out) == (split == "val")
        )


def _hash(name: str) -> bytes:
    return hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
