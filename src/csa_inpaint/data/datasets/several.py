"""Several folders of images, each as often as its weight says."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from csa_inpaint.data.datasets.folder import ImageFolder
from csa_inpaint.data.datasets.layout import Split
from csa_inpaint.data.listing import FileList, Pool
from csa_inpaint.data.packing import PackedStrings


class SeveralRoots:
    """Several folders of images, mixed in training with given weights.

    Each folder is split as `ImageFolder` splits it. An epoch has as many samples as all folders
    have images together; weights share it among the folders. A folder that gets more samples than
    it has images is gone through again, one that gets fewer shows others in each epoch. Validation
    takes the images of all folders, one after the other.

    Args:
        roots: the folders.
        weights: how often a sample comes from each, relative to the others and in their order; None
            takes every image equally often.
        val_fraction: share of a folder without train/ and val/ that is held out.

    Raises:
        ValueError: there is no folder, or not one positive weight for each.
    """

    counts: Mapping[Split, int] = {}

    def __init__(
        self,
        roots: Sequence[Path | str],
        weights: Sequence[float] | None = None,
        val_fraction: float | None = None,
    ) -> None:
        if isinstance(roots, str | Path) or not roots:
            raise ValueError(f"roots={roots}: expected a list, data.layout.roots=[DIR,DIR]")
        if weights is not None and (len(weights) != len(roots) or min(weights) <= 0):
            raise ValueError(
                f"weights={list(weights)}: expected a positive number for each of the {len(roots)} "
                "roots"
            )
        self.roots = [Path(root).expanduser() for root in roots]
        if len({root.resolve() for root in self.roots}) < len(self.roots):
            raise ValueError(
                f"roots={[str(root) for root in roots]}: a folder comes twice. To take its images "
                "more often give weights, data.layout.weights=[2,1]"
            )
        self.weights = weights
        self.folder = ImageFolder(val_fraction=val_fraction)

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images of a split of all folders; `root` must be None."""
        if root is not None:
            raise ValueError(
                f"data.root={root} has no effect with several roots: put it into data.layout.roots"
            )
        lists = [self.folder.files(folder, split) for folder in self.roots]
        folders = [files.root.resolve() for files in lists]
        common = Path(os.path.commonpath(folders))
        starts = [os.fsencode(folder.relative_to(common)) + b"/" for folder in folders]
        names = PackedStrings.pack(
            (start + name).removeprefix(b"./")
            for start, files in zip(starts, lists, strict=True)
            for name in files.encoded_names()
        )
        if split != "train" or self.weights is None:
            return FileList(common, names)
        sizes = [len(files) for files in lists]
        return _WeightedFiles(common, names, tuple(map(Pool, sizes, self.weights)))


class _WeightedFiles(FileList):
    def __init__(self, root: Path, names: PackedStrings, pools: tuple[Pool, ...]) -> None:
        super().__init__(root, names)
        self._pools = pools

    @property
    def pools(self) -> tuple[Pool, ...]:
        return self._pools

    def select(self, indices: Iterable[int]) -> FileList:
        # A selection has pools of other sizes; whoever selects looks at files one by one.
        return FileList(self.root, self.packed.select(indices))

    def digest(self) -> str:
        return f"{super().digest()}, {self._pools}"
