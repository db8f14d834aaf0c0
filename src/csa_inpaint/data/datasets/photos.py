"""The photographs that come with the library."""

from collections.abc import Mapping
from pathlib import Path

from csa_inpaint.data.datasets.layout import Split, no_split
from csa_inpaint.data.listing import FileList, list_images


class ShippedPhotos:
    """The photographs that come with the library: 456 to train on, 46 held out."""

    counts: Mapping[Split, int] = {"train": 456, "val": 46}

    def files(self, root: Path | None, split: Split) -> FileList:
        """The photographs of a split; `root` must be None."""
        if root is not None:
            raise ValueError(
                f"data.root={root} has no effect with the shipped photos: add data=folder to use it"
            )
        if split == "test":
            raise no_split("the shipped photos", split, ("train", "val"))
        return list_images(Path(__file__).parents[1] / "photos" / split)
