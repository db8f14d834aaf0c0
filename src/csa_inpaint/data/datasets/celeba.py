"""CelebA and CelebA-HQ: https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html."""

import os
from collections.abc import Mapping
from pathlib import Path

from csa_inpaint.data.datasets.layout import Split, first_existing, required_root
from csa_inpaint.data.datasets.list import ListFiles, listed_files, read_list
from csa_inpaint.data.listing import FileList, list_images

_IMAGES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
_PARTITION = (
    "list_eval_partition.txt",
    "Eval/list_eval_partition.txt",
    "list_eval_partition.csv",  # the copy on Kaggle
)
_NUMBERS: dict[Split, bytes] = {"train": b"0", "val": b"1", "test": b"2"}


class CelebA:
    """The aligned images of CelebA (178×218), split by its official partition file.

    `root` holds `img_align_celeba/000001.jpg …` and `list_eval_partition.txt` (or `.csv`, with
    commas, as in the copy on Kaggle); the folders `Img` and `Eval` of the original archives are
    looked into as well.
    """

    counts: Mapping[Split, int] = {"train": 162_770, "val": 19_867, "test": 19_962}

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images that the partition file assigns to a split."""
        content = "CelebA's img_align_celeba and list_eval_partition.txt"
        root = required_root(root, f"the folder that holds {content}")
        images = first_existing(root, _IMAGES, content)
        partition = first_existing(root, _PARTITION, content)
        numbers = {number: name for name, number in read_list(partition)}
        for number, name in numbers.items():
            if number not in _NUMBERS.values():
                raise ValueError(
                    f"{partition}: {os.fsdecode(name)} has partition {os.fsdecode(number)!r}, "
                    "expected 0 (train), 1 (val) or 2 (test): is this the official file?"
                )
        if _NUMBERS[split] not in numbers:
            raise ValueError(f"{partition} assigns no image to {split}: is it the official file?")
        return listed_files(images, partition, frozenset({_NUMBERS[split]}))


class CelebAHQ:
    """CelebA-HQ: a folder for each split, or one heap of images with list files.

    Args:
        resolution: side in pixels that the folders are named by: `train_256`, `val_256`,
            `test_256`. `train`, `val` and `test` are found too.
        train_list: file that lists the training images, where they are in one heap.
        val_list: the same for validation.
        test_list: the same for test.
    """

    counts: Mapping[Split, int] = {"train": 24_183, "val": 2_993, "test": 2_824}

    def __init__(
        self,
        resolution: int = 256,
        train_list: Path | str | None = None,
        val_list: Path | str | None = None,
        test_list: Path | str | None = None,
    ) -> None:
        self.resolution = resolution
        self.lists = ListFiles(train_list, val_list, test_list)

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images of a split."""
        if any(self.lists.lists.values()):
            return self.lists.files(root, split)
        content = "CelebA-HQ's train, val and test folders, or name list files in data.layout"
        root = required_root(root, f"the folder that holds {content}")
        return list_images(first_existing(root, (f"{split}_{self.resolution}", split), content))
