"""Any folder of images."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

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
        self.val_root = None if val_root is None else Path(val_root).expanduser()
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
        return hold_out(list_images(root), self.val_fraction, split)

    def _has_splits(self, root: Path) -> bool:
        if not (root / "train").is_dir() and not (root / "val").is_dir():
            return False
        missing = [name for name in ("train", "val") if not (root / name).is_dir()]
        if missing == ["val"] and (root / "test").is_dir():
            raise ValueError(
                f"{root} has train/ and test/ but no val/. To watch the training on the test "
                f"images: data.root={root / 'train'} data.layout.val_root={root / 'test'}; to hold "
                f"out a tenth of the training images instead: data.root={root / 'train'}"
            )
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


def hold_out(files: FileList, fraction: float | None, split: Split) -> FileList:
    """One side of a split by the hashes of names, which no order and no seed changes.

    Args:
        files: all images.
        fraction: share that is held out for validation, at least one image; None means 0.1.
        split: "train" or "val".

    Raises:
        ValueError: there is one image only.
    """
    if len(files) < 2:
        raise ValueError(
            f"{files.root} holds one image, too few to train on some and hold out others: add "
            "images, or name a folder of validation images with data.layout.val_root"
        )
    count = min(max(1, round((fraction or 0.1) * len(files))), len(files) - 1)
    hashes = np.fromiter(map(_hash, files.encoded_names()), np.uint64, len(files))
    held_out = np.zeros(len(files), dtype=np.bool_)
    held_out[np.argsort(hashes, kind="stable")[:count]] = True
    return files.select(np.flatnonzero(held_out == (split == "val")).tolist())


def _hash(name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest())
